"""Continuous batching against transformers, and its promises against rewrites and wrong files."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from inprocess import breaks, broken_promises, load, source_of
from tiers import leading

NAME = "continuous_batching"
SOURCE = source_of(NAME)


def _edited(*edits: tuple[str, str]) -> str:
    source = SOURCE
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


@pytest.mark.parametrize("seed", leading(1, range(5)))
def test_the_correct_file_keeps_every_promise(seed: int) -> None:
    assert broken_promises(NAME, seed=seed) == {}


# ----- against transformers


@pytest.mark.parametrize(("n_slots", "budget"), [(4, 5), (2, 16), (6, 7), (1, 3)])
def test_steps_are_those_of_transformers(n_slots: int, budget: int) -> None:
    """With KV for all, the first-come-first-served scheduler there plans the same steps."""
    scheduling = pytest.importorskip("transformers.generation.continuous_batching.scheduler")
    from transformers.generation.continuous_batching.requests import RequestState

    cache = SimpleNamespace(
        pool=SimpleNamespace(try_to_free_sectors=lambda: None),
        compute_free_capacity=lambda: 1.0,
        use_prefix_sharing=False,
        max_blocks_per_request=0,
        max_decode_fast_path_length=0,
        read_cache_limit=None,
        can_store_request_tokens=lambda *_: True,
        count_new_complete_blocks=lambda *_: 0,
        free_blocks=lambda *_: None,
    )
    theirs: Any = scheduling.FIFOScheduler(cache, None, n_slots)
    module = load(NAME, SOURCE)
    ours = module.Scheduler(n_slots, budget, 10_000)
    rng = random.Random(n_slots)
    n_finished = 0

    for step in range(120):
        for i in range(rng.choice([0, 0, 1, 2]) if step < 60 else 0):
            name, prompt = f"{step}.{i}", [rng.randrange(1, 9) for _ in range(rng.randrange(1, 12))]
            n_new, eos = rng.randrange(1, 9), rng.choice([None, 0])
            ours.add(module.Request(name, prompt, n_new, eos))
            state = RequestState(name, list(prompt), max_new_tokens=n_new, eos_token_id=eos)
            theirs.add_waiting_request(state)
        plan = [(c.request_id, c.tokens, c.sample) for c in ours.schedule()]
        scheduled = theirs.schedule_batch(budget, 10**9)[0]
        assert sorted(plan) == sorted(
            (f.state.request_id, f.state.tokens_to_process, f.has_new_token) for f in scheduled
        )
        sampled = {name: rng.randrange(9) for name, _, sample in plan if sample}
        finished = {request.id for request in ours.update(sampled)}
        for future in scheduled:
            name = future.state.request_id
            if future.has_new_token:
                ended = future.state.update_and_check_completion(sampled[name], None)
                assert ended == (name in finished)
                if ended:
                    theirs.finish_request(name)
        n_finished += len(finished)
    assert n_finished > 15


@pytest.mark.parametrize(("n_slots", "budget", "capacity"), [(3, 6, 20), (2, 16, 64), (4, 5, 17)])
def test_a_language_model_says_what_it_says_alone(n_slots: int, budget: int, capacity: int) -> None:
    """A tiny Llama with a cache per slot, chunk by chunk, against its own greedy generation."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    llama: Any = transformers.LlamaForCausalLM(config).eval()
    module = load(NAME, SOURCE)
    caches: dict[int, Any] = {}

    @torch.no_grad()
    def model_fn(batch: Any) -> list[int]:
        logits = []
        for start, end in zip(batch.cu_q, batch.cu_q[1:], strict=False):
            slot = batch.slots[start]
            if batch.positions[start] == 0:
                caches[slot] = transformers.DynamicCache()
            assert caches[slot].get_seq_length() == batch.positions[start]
            tokens = torch.tensor([batch.tokens[start:end]])
            logits += llama(tokens, past_key_values=caches[slot]).logits[0]
        return [int(logits[row].argmax()) for row in batch.sample_rows]

    rng = random.Random(budget)
    scheduler = module.Scheduler(n_slots, budget, capacity, block_size=1)
    engine = module.Engine(scheduler, model_fn)
    outputs: dict[str, list[int]] = {}
    want = {}
    for i in range(6):
        prompt = [rng.randrange(40) for _ in range(rng.randrange(1, 9))]
        n_new = rng.randrange(1, 10)
        scheduler.add(module.Request(f"r{i}", prompt, n_new))
        outputs |= engine.run(max_steps=2)
        ids = torch.tensor([prompt])
        alone = llama.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_new, do_sample=False
        )
        want[f"r{i}"] = alone[0, len(prompt) :].tolist()
    outputs |= engine.run()

    assert outputs == want
    assert (scheduler.n_preemptions > 0) == (capacity < 64)


# ----- rewrites


COUNTED_ANEW = (
    (
        "return (self.n_blocks - self.n_free_blocks) * self.block_size",
        "return self.block_size * sum(self._blocks_for(r.n_computed) for r in self.running)",
    ),
    (
        "        while n_new_blocks > self.n_free_blocks:\n",
        "        while self.kv_used + n_new_blocks * self.block_size > self.kv_capacity:\n",
    ),
    (
        "        self.n_free_blocks = self.n_blocks\n",
        "        self.kv_capacity = kv_capacity\n",
    ),
    (
        "        self.n_free_blocks -= self._blocks_for(request.n_computed) - request.n_blocks\n",
        "",
    ),
    ("        self.n_free_blocks += request.n_blocks\n", ""),
)
SLOTS_IN_A_SET = (
    ("self.free_slots = list(range(max_slots))  # a heap", "self.free_slots = {*range(max_slots)}"),
    (
        "        request.slot = heapq.heappop(self.free_slots)\n",
        "        request.slot = min(self.free_slots)\n"
        "        self.free_slots.discard(request.slot)\n",
    ),
    (
        "        heapq.heappush(self.free_slots, request.slot)\n",
        "        self.free_slots.add(request.slot)\n",
    ),
    (
        "        self.running.remove(request)\n",
        "        self.running = [other for other in self.running if other is not request]\n",
    ),
    (
        "            self.waiting.remove(request)\n",
        "            self.waiting = deque(r for r in self.waiting if r is not request)\n",
    ),
)
VICTIMS_FIRST = (
    (
        "            if not self._make_room(request, n_tokens):\n                break\n",
        "            have = request.n_blocks + self.n_free_blocks\n"
        "            for other in reversed(self.running):\n"
        "                if self._blocks_for(request.n_computed + n_tokens) <= have:\n"
        "                    break\n"
        "                have += other.n_blocks\n"
        "                self._preempt(other)\n"
        "            if request.status is Status.WAITING:\n"
        "                return self._planned(chunks)\n",
    ),
    (
        "        self.due = {c.request_id: self.requests[c.request_id]"
        " for c in chunks if c.sample}\n"
        "        return chunks\n",
        "        return self._planned(chunks)\n\n"
        "    def _planned(self, chunks: list[Chunk]) -> list[Chunk]:\n"
        "        for chunk in filter(lambda c: c.sample, chunks):\n"
        "            self.due[chunk.request_id] = self.requests[chunk.request_id]\n"
        "        return chunks\n",
    ),
)
ROW_BY_ROW = (
    (
        "    cu_q = [0, *accumulate(len(chunk.tokens) for chunk in chunks)]\n",
        "    batch = FlatBatch([], [], [], [0], [], [], [])\n"
        "    for chunk in chunks:\n"
        "        for position, token in enumerate(chunk.tokens, chunk.start):\n"
        "            batch.tokens.append(token)\n"
        "            batch.positions.append(position)\n"
        "            batch.slots.append(chunk.slot)\n"
        "        batch.cu_q.append(len(batch.tokens))\n"
        "        batch.context_lens.append(position + 1)\n"
        "        if chunk.sample:\n"
        "            batch.sample_ids.append(chunk.request_id)\n"
        "            batch.sample_rows.append(len(batch.tokens) - 1)\n"
        "    return batch\n"
        "    cu_q = [0, *accumulate(len(chunk.tokens) for chunk in chunks)]\n",
    ),
)
OTHER_IDIOMS = (
    ("return -(-n_tokens // self.block_size)", "return (n_tokens - 1) // self.block_size + 1"),
    ("class Chunk(NamedTuple):", "@dataclass(frozen=True)\nclass Chunk:"),
    (
        "        for request_id in sampled:\n"
        "            request = self.due[request_id]\n"
        "            if request.status is Status.ABORTED:\n"
        "                continue\n",
        "        for request_id, request in reversed(self.due.items()):\n"
        "            if request_id not in sampled or request.status is not Status.RUNNING:\n"
        "                continue\n",
    ),
    (
        "        while n_left > 0 and self._can_admit():\n",
        "        while self._can_admit():\n            if not n_left:\n                break\n",
    ),
    (
        "        return self.tokens[self.n_prompt :]",
        "        n_new = len(self.tokens) - self.n_prompt\n"
        "        return self.tokens[-n_new:] if n_new else []",
    ),
    (
        "        for _ in count() if max_steps is None else range(max_steps):\n",
        "        n_steps = 0\n"
        "        while max_steps is None or n_steps < max_steps:\n"
        "            n_steps += 1\n",
    ),
)


@pytest.mark.parametrize(
    "edits",
    [
        pytest.param(COUNTED_ANEW, id="KV is counted anew each time"),
        pytest.param(SLOTS_IN_A_SET, id="slots in a set, requests by identity"),
        pytest.param(VICTIMS_FIRST, id="a step ends with its own preemption"),
        pytest.param(ROW_BY_ROW, id="packed row by row"),
        pytest.param(OTHER_IDIOMS, id="other idioms"),
    ],
)
def test_a_correct_rewrite_keeps_every_promise(edits: tuple[tuple[str, str], ...]) -> None:
    assert broken_promises(NAME, _edited(*edits), seed=1) == {}


# ----- wrong files


@pytest.mark.parametrize(
    ("edit", "promise"),
    [
        pytest.param(
            ("        return chunks\n", "        return []\n"),
            "test_no_step_exceeds_its_budget",
            id="plans nothing",
        ),
        pytest.param(
            ("return Chunk(request.id, request.slot, start", "return Chunk(request.id, 0, start"),
            "test_a_free_place_is_taken_in_the_next_step",
            id="one slot for all",
        ),
        pytest.param(
            ("sample=request.n_pending == 0", "sample=True"),
            "test_no_step_exceeds_its_budget",
            id="samples after every chunk",
        ),
        pytest.param(
            ("        return finished\n", "        return []\n"),
            "test_a_text_ends_with_its_eos_or_its_limit",
            id="nobody finishes",
        ),
        pytest.param(
            ("        return outputs\n", "        return {}\n"),
            "test_the_engine_serves_what_is_added",
            id="no outputs",
        ),
        pytest.param(
            ("return (self.n_blocks - self.n_free_blocks) * self.block_size", "return 7"),
            "test_kv_is_counted_in_whole_blocks",
            id="a constant amount of KV",
        ),
        pytest.param(
            ("return self.tokens[self.n_prompt :]", "return self.tokens"),
            "test_every_request_gets_what_it_would_get_alone",
            id="echoes the prompt",
        ),
        pytest.param(
            ("        self.n_free_blocks += request.n_blocks\n", ""),
            "test_an_aborted_request_leaves_at_once",
            id="KV is never given back",
        ),
        pytest.param(
            ("return bool(self.requests)", "return bool(self.waiting)"),
            "test_the_engine_serves_what_is_added",
            id="forgets who runs",
        ),
        pytest.param(
            ("self.waiting.appendleft(request)", "self.waiting.append(request)"),
            "test_preempted_requests_keep_their_order",
            id="preempted to the end of the queue",
        ),
        pytest.param(
            ("[cu_q[i + 1] - 1 for i, chunk", "[cu_q[i] for i, chunk"),
            "test_chunks_are_packed_one_behind_the_other",
            id="samples from the first row",
        ),
        pytest.param(
            ("        request.n_computed = 0\n", ""),
            "test_a_preempted_request_goes_on_where_it_was",
            id="believes in KV that is gone",
        ),
    ],
)
def test_a_wrong_file_breaks_a_promise(edit: tuple[str, str], promise: str) -> None:
    assert breaks(NAME, _edited(edit), promise, seed=0)
