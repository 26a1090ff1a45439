"""What honest files do besides answering; a function is true where it can. See test_honest.py."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import logging
import os
import random
import sys
import threading
import time
import warnings
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch


@torch.jit.script
def scripted(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x) * 2 + 1


@dataclasses.dataclass(order=True)
class Request:
    tokens: list[int]
    priority: int = dataclasses.field(default=0, compare=False)


def prints() -> bool:
    print("printed", flush=True)
    print("printed too", file=sys.stderr)
    os.write(1, b"and written\n")
    with contextlib.redirect_stdout(io.StringIO()) as kept:
        print("kept")
    return kept.getvalue() == "kept\n"


def prints_into_nothing() -> bool:
    with open(os.devnull, "w") as hole, contextlib.redirect_stdout(hole):
        print("hushed")
    return True


def warns() -> bool:
    warnings.warn("careful", stacklevel=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("careful", stacklevel=1)
    return len(caught) == 1


def starts_threads() -> bool:
    done: list[int] = []
    threads = [threading.Thread(target=done.append, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ThreadPoolExecutor(4) as pool:
        sums = list(pool.map(lambda n: float(torch.ones(n).sum()), range(20)))
    return sorted(done) == list(range(8)) and sums == list(range(20))


def computes_with_numpy() -> bool:
    a = np.random.default_rng(0).normal(size=(20, 20))
    return bool(np.allclose(np.linalg.inv(a) @ a, np.eye(20)))


def multiplies_with_more_threads() -> bool:
    torch.set_num_threads(2)
    product = torch.ones(300, 300) @ torch.ones(300, 300)
    torch.set_num_threads(1)
    return bool((product == 300).all())


def runs_a_script() -> bool:
    return bool(scripted(torch.tensor([-1.0, 2.0])).tolist() == [1.0, 5.0])


def imports_lazily() -> bool:
    """The first gradient with weights imports sympy, and with it half of torch.fx."""
    x = torch.randn(4, requires_grad=True)
    y = torch.softmax(x, -1)
    (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
    return float(gradient.abs().max()) < 1e-6 and "sympy" in sys.modules


def traces_a_graph() -> bool:
    import torch.fx

    traced = torch.fx.symbolic_trace(lambda x: torch.relu(x) + 1)
    return bool(traced(torch.zeros(2)).tolist() == [1.0, 1.0])


def reads_its_own_source() -> bool:
    return "order=True" in inspect.getsource(Request) and "yield" in inspect.getsource(counts)


def reads_the_source_of_others() -> bool:
    return "class Linear" in inspect.getsource(torch.nn.Linear)


def has_dataclasses() -> bool:
    return Request([1], priority=2) < Request([2]) and dataclasses.asdict(Request([1])) == {
        "tokens": [1],
        "priority": 0,
    }


def counts() -> Generator[int, int, None]:
    received = yield 0
    while True:
        received = yield received + 1


def sends_to_a_generator() -> bool:
    counter = counts()
    return [next(counter), counter.send(5), counter.send(7)] == [0, 6, 8]


def differentiates() -> bool:
    layer = torch.nn.Linear(3, 3)
    layer(torch.ones(2, 3)).square().sum().backward()
    return layer.weight.grad is not None and torch.autograd.gradcheck(
        lambda x: x * x, torch.ones(2, dtype=torch.float64, requires_grad=True)
    )


def draws_from_distributions() -> bool:
    choice = torch.distributions.Categorical(logits=torch.zeros(5))
    normal = torch.distributions.Normal(0.0, 1.0).rsample(torch.Size([3]))
    return choice.probs.shape == (5,) and normal.shape == (3,)


def draws_numbers() -> bool:
    random.seed()
    torch.seed()
    generator = torch.Generator().manual_seed(1)
    drawn = torch.multinomial(torch.ones(9), 2, generator=generator)
    return 0 <= random.random() < 1 and len(set(drawn.tolist())) == 2 and len(os.urandom(8)) == 8


def tells_the_time() -> bool:
    before = time.perf_counter()
    time.sleep(0.001)
    return time.perf_counter() > before and time.time() > 0 and time.process_time() > 0


def logs() -> bool:
    logger = logging.getLogger("honest")
    logger.addHandler(logging.StreamHandler(sink := io.StringIO()))
    logger.warning("logged %d", 1)
    return sink.getvalue() == "logged 1\n"


def saves_to_memory() -> bool:
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, buffer)
    buffer.seek(0)
    return bool(torch.load(buffer, weights_only=True)["weight"].sum() == 2)


def fails_and_goes_on() -> bool:
    try:
        torch.ones(2, 3) @ torch.ones(2, 3)
    except RuntimeError:
        return True
    return False


def imports_the_compiler() -> bool:
    """What a decorator of torch's pulls in at the first use."""
    import torch._dynamo

    torch._dynamo.reset()
    return "torch._dynamo" in sys.modules
