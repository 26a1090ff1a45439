"""What honest submissions do. A confined child runs every `check_`; see test_honest_work.py."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch


@torch.jit.script
def scripted(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x) * 2 + 1


def check_products_of_matrices() -> None:
    a = torch.randn(300, 300, dtype=torch.float64)
    assert torch.allclose(a @ torch.linalg.inv(a), torch.eye(300, dtype=torch.float64), atol=1e-6)
    torch.randn(64, 64).bfloat16() @ torch.randn(64, 64).bfloat16()


def check_attention() -> None:
    query = torch.randn(2, 4, 16, 8)
    out = torch.nn.functional.scaled_dot_product_attention(query, query, query, is_causal=True)
    assert out.shape == query.shape


def check_autograd_with_its_lazy_imports() -> None:
    x = torch.randn(4, requires_grad=True)
    y = torch.softmax(x, -1)
    (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert gradient.abs().max() < 1e-6
    assert "sympy" in sys.modules


def check_script() -> None:
    assert scripted(torch.tensor([-1.0, 2.0])).tolist() == [1.0, 5.0]


def check_distributions() -> None:
    choice = torch.distributions.Categorical(logits=torch.zeros(5))
    assert torch.allclose(choice.probs, torch.full((5,), 0.2))
    assert torch.distributions.Normal(0.0, 1.0).rsample(torch.Size([3])).shape == (3,)


def check_function_transforms() -> None:
    per_row = torch.func.vmap(torch.func.grad(lambda x: (x**2).sum()))
    x = torch.randn(3, 2)
    assert torch.allclose(per_row(x), 2 * x)


def check_modules_saved_and_loaded() -> None:
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    layer.load_state_dict(torch.load(buffer, weights_only=True))
    layer(torch.randn(2, 3, 8))


def check_seeds_and_generators() -> None:
    torch.seed()
    generator = torch.Generator().manual_seed(1)
    assert torch.multinomial(torch.ones(9), 2, generator=generator).shape == (2,)


def check_numpy() -> None:
    a = np.random.default_rng(0).normal(size=(40, 40))
    _, singular, _ = np.linalg.svd(a)
    assert singular.min() > 0
    assert np.allclose(np.linalg.inv(a) @ a, np.eye(40))
    assert torch.equal(torch.from_numpy(a), torch.tensor(a))


def check_threads() -> None:
    done: list[int] = []
    threads = [threading.Thread(target=done.append, args=(n,), name=f"n{n}") for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(8))
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(lambda n: torch.ones(n).sum().item(), range(20)))) == 20


def check_more_threads_for_torch() -> None:
    torch.set_num_threads(2)
    torch.mm(torch.randn(500, 500), torch.randn(500, 500))
    torch.set_num_threads(1)


def check_prints_and_warnings() -> None:
    print("printed")
    print("printed too", file=sys.stderr)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("careful", stacklevel=1)
    assert len(caught) == 1
    with open(os.devnull, "w") as hole, contextlib.redirect_stdout(hole):
        print("hushed")


def check_the_standard_library() -> None:
    import datetime
    import decimal
    import inspect
    import logging
    import sqlite3
    import statistics
    import uuid

    halves = [decimal.Decimal(1), decimal.Decimal(2)]
    assert statistics.mean(halves) == decimal.Decimal("1.5")
    assert "class UUID" in inspect.getsource(uuid.UUID)
    sqlite3.connect(":memory:").execute("select 1")
    logging.getLogger("honest").warning("logged")
    assert uuid.uuid4() != uuid.uuid4()
    assert datetime.datetime.now().astimezone().tzinfo is not None


def check_imports_after_a_folder_of_packages_changed() -> None:
    importlib.invalidate_caches()
    assert importlib.import_module("wave")
    assert importlib.import_module("torch.optim.swa_utils")


def check_time() -> None:
    before = time.monotonic()
    time.sleep(0.01)
    assert time.monotonic() > before
    assert time.process_time() > 0
    assert time.time() > 0


def check_a_traceback() -> None:
    import traceback

    try:
        raise ValueError("wrong")
    except ValueError:
        assert "raise ValueError" in traceback.format_exc()


def check_too_large_a_tensor_is_a_runtime_error() -> None:
    try:
        torch.ones(3 << 30, dtype=torch.uint8)
    except RuntimeError as error:
        assert "allocate" in str(error)  # noqa: PT017
    else:
        raise AssertionError("3 GiB were granted under a limit of 2 GiB")
    assert torch.ones(10 << 20).sum().item() == 10 << 20


def check_too_large_a_list_is_a_memory_error() -> None:
    try:
        bytearray(3 << 30)
    except MemoryError:
        return
    raise AssertionError("3 GiB were granted under a limit of 2 GiB")
