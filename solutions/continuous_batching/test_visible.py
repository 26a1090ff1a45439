"""A first look at continuous batching; run me with pytest."""

from __future__ import annotations

from continuous_batching import Engine, FlatBatch, Request, Scheduler


def _echo(batch: FlatBatch) -> list[int]:
    return [batch.tokens[row] for row in batch.sample_rows]


def test_a_prompt_is_the_first_step() -> None:
    """One request with room for all of it is fed as a whole."""
    scheduler = Scheduler(max_slots=2, token_budget=8, kv_capacity=32)
    scheduler.add(Request("a", [5, 6, 7], 4))

    (chunk,) = scheduler.schedule()
    assert chunk.request_id == "a"
    assert chunk.tokens == [5, 6, 7]
    assert chunk.sample


def test_an_engine_serves_a_request() -> None:
    """A single request of one repeated token comes back, made of that token."""
    scheduler = Scheduler(max_slots=2, token_budget=8, kv_capacity=32)
    scheduler.add(Request("a", [5, 5, 5], 4))
    outputs = Engine(scheduler, _echo).run(max_steps=20)

    assert list(outputs) == ["a"]
    assert set(outputs["a"]) <= {5}
