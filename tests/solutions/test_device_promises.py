"""A tensor that is made on the default device is a wrong answer, not a crash of the promise."""

from __future__ import annotations

import re

import pytest
from inprocess import Subject, failure, load, promises_in, source_of

DEVICE = re.compile(r", device=[\w.]+")

MADE_BESIDE = {
    "attention_masks": "torch.arange(kv_len, device=lengths.device)",
    "batch_sampler": "ids = torch.tensor(tokens, dtype=torch.long, device=device)",
    "beam_search": "torch.arange(batch_size, device=logits.device)",
    "decoder_block": "dtype=torch.float32, device=positions.device",
    "flash_attention": "torch.arange(k_start, k_stop, device=q.device)",
    "moe_routing": "torch.zeros(n_experts, dtype=torch.long, device=experts.device)",
    "paged_attention": "k_pos = torch.arange(length, device=q.device)",
    "sharded_embedding": "torch.arange(len(offsets), device=offsets.device)",
    "sliding_window_decoder": "torch.arange(q_len, device=self.lengths.device)",
    "speculative_decoding": "torch.arange(n_slots, device=device)",
    "static_batch_generate": "for row in rows], dtype=torch.float32, device=logits.device",
    "token_sampler": "torch.tensor(values, dtype=torch.float32, device=device)",
    "varlen_prefill": "torch.arange(longest, device=x.device)",
    "weight_quant": "dtype=torch.int32, device=a.device",
}
"""By subject, what makes a tensor on the device of others."""


@pytest.mark.parametrize("name", MADE_BESIDE)
def test_a_tensor_on_the_default_device_is_wrong(name: str) -> None:
    source, made = source_of(name), MADE_BESIDE[name]
    assert source.count(made) == 1
    tests = source_of(name, "test_hidden.py")
    (promise,) = re.findall(r"^def (test_\w*tensors?_\w*made_\w+)\(", tests, re.MULTILINE)
    promises = promises_in(load(f"{name}_hidden", tests))
    subject = Subject(load(name, source.replace(made, DEVICE.sub("", made))))

    assert isinstance(failure(promises[promise], subject, seed=0), AssertionError)
