"""Decide, step by step, which tokens of which requests a serving engine computes.

Every step feeds one flat batch to the model: single tokens of requests that are generating, and
chunks of prompts in whatever is left of the step's token budget. Requests join and leave between
any two steps. If the memory for keys and values (KV) runs out, the youngest ones give theirs back
and are computed again later.

References: iteration-level scheduling, Yu et al., Orca, OSDI 2022; chunked prefill, Agrawal et al.,
Sarathi-Serve, arXiv:2403.02310.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import accumulate, count
from typing import NamedTuple


class Status(Enum):
    """Where a request is in its life."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    ABORTED = "aborted"


@dataclass(slots=True)
class Request:
    """A prompt and what has become of it; the scheduler writes the fields from `tokens` on.

    The text ends with `eos_id`, which stays part of it, or after `max_new_tokens` generated tokens.
    """

    id: str
    prompt: Sequence[int]
    max_new_tokens: int
    eos_id: int | None = None
    n_prompt: int = field(init=False)
    tokens: list[int] = field(init=False)  # the prompt and what was generated so far
    n_computed: int = field(init=False, default=0)  # leading tokens whose KV exists
    n_blocks: int = field(init=False, default=0)  # blocks that hold this KV
    slot: int | None = field(init=False, default=None)  # row of the batch, while running
    status: Status = field(init=False, default=Status.WAITING)
    finish_reason: str | None = field(init=False, default=None)  # "stop", "length" or "abort"

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError(f"request {self.id!r} has an empty prompt")
        if self.max_new_tokens < 1:
            raise ValueError(f"request {self.id!r} asks for {self.max_new_tokens} new tokens")
        self.n_prompt = len(self.prompt)
        self.tokens = list(self.prompt)

    @property
    def n_pending(self) -> int:
        """Return how many tokens wait to be fed to the model."""
        return len(self.tokens) - self.n_computed

    @property
    def output(self) -> list[int]:
        """Return the generated tokens."""
        return self.tokens[self.n_prompt :]

    def accept(self, token: int) -> None:
        """Take a generated token, and note the reason if the text ends here."""
        self.tokens.append(token)
        if token == self.eos_id:
            self.finish_reason = "stop"
        elif len(self.output) >= self.max_new_tokens:
            self.finish_reason = "length"


# What a step is made of.


class Chunk(NamedTuple):
    """The part of one request in one step."""

    request_id: str
    slot: int
    start: int  # position of the first token
    tokens: list[int]
    sample: bool  # whether the token that follows the last one is wanted


class FlatBatch(NamedTuple):
    """N rows, one per token; chunk i of C owns rows [cu_q[i], cu_q[i + 1])."""

    tokens: list[int]  # [N]
    positions: list[int]  # [N], place of each token in its own request
    slots: list[int]  # [N], to whose KV each token belongs
    cu_q: list[int]  # [C + 1]
    context_lens: list[int]  # [C], tokens of the request up to the end of the chunk
    sample_ids: list[str]  # [S], requests that get a token in this step
    sample_rows: list[int]  # [S], rows whose logits these are sampled from


ModelFn = Callable[[FlatBatch], Sequence[int]]


def pack(chunks: Sequence[Chunk]) -> FlatBatch:
    """Lay the chunks of a step one behind the other.

    >>> batch = pack([Chunk("a", 1, 5, [70], True), Chunk("b", 0, 0, [80, 81, 82], False)])
    >>> batch.positions, batch.slots, batch.cu_q, batch.sample_rows
    ([5, 0, 1, 2], [1, 0, 0, 0], [0, 1, 4], [0])
    """
    cu_q = [0, *accumulate(len(chunk.tokens) for chunk in chunks)]
    return FlatBatch(
        tokens=[token for chunk in chunks for token in chunk.tokens],
        positions=[chunk.start + i for chunk in chunks for i in range(len(chunk.tokens))],
        slots=[chunk.slot for chunk in chunks for _ in chunk.tokens],
        cu_q=cu_q,
        context_lens=[chunk.start + len(chunk.tokens) for chunk in chunks],
        sample_ids=[chunk.request_id for chunk in chunks if chunk.sample],
        sample_rows=[cu_q[i + 1] - 1 for i, chunk in enumerate(chunks) if chunk.sample],
    )


class Scheduler:
    """Share slots, KV and the tokens of each step among the requests.

    One step is `schedule`, the model's work, and `update`. With two slots and steps of 4 tokens:

        scheduler = Scheduler(max_slots=2, token_budget=4, kv_capacity=32)
        scheduler.add(Request("a", [10, 11, 12], 5))
        scheduler.add(Request("b", [20, 21, 22], 5))
        scheduler.schedule()           # a: [10, 11, 12], sampled; b: [20]
        scheduler.update({"a": 13})
        scheduler.schedule()           # a: [13], sampled; b: [21, 22], sampled
    """

    def __init__(
        self,
        max_slots: int,
        token_budget: int,
        kv_capacity: int,
        *,
        block_size: int = 1,
        max_chunk: int | None = None,
    ) -> None:
        """Make a scheduler without requests.

        KV for kv_capacity tokens is handed out in blocks of block_size tokens. max_chunk limits
        what one request is fed in one step; without it the budget does.
        """
        limits = [max_slots, token_budget, kv_capacity, block_size]
        if min(limits) < 1 or (max_chunk is not None and max_chunk < 1):
            raise ValueError(f"limits must be at least 1, got {limits} and max_chunk {max_chunk}")
        if kv_capacity % block_size != 0:
            raise ValueError(f"{kv_capacity} tokens are no whole blocks of {block_size}")
        self.token_budget = token_budget
        self.max_chunk = token_budget if max_chunk is None else max_chunk
        self.block_size = block_size
        self.n_blocks = kv_capacity // block_size
        self.n_free_blocks = self.n_blocks
        self.free_slots = list(range(max_slots))  # a heap
        self.requests: dict[str, Request] = {}  # waiting and running
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []  # in the order of their admission
        self.due: dict[str, Request] = {}  # requests of the last step that are to get a token
        self.n_preemptions = 0
        self.n_lost_tokens = 0  # computed tokens whose KV was given up by preemptions

    @property
    def has_work(self) -> bool:
        """Say whether any request is waiting or running."""
        return bool(self.requests)

    @property
    def kv_used(self) -> int:
        """Return how many tokens the blocks in use can hold."""
        return (self.n_blocks - self.n_free_blocks) * self.block_size

    # Coming and going.

    def add(self, request: Request) -> None:
        """Put a new request at the end of the queue.

        One that could not be served even alone is refused. Its last token never needs KV.
        """
        if request.id in self.requests:
            raise ValueError(f"request {request.id!r} is already being served")
        if request.status is not Status.WAITING:
            raise ValueError(f"request {request.id!r} is {request.status.value}")
        n_longest = request.n_prompt + request.max_new_tokens - 1
        if self._blocks_for(n_longest) > self.n_blocks:
            raise ValueError(f"request {request.id!r} may need KV for {n_longest} tokens")
        self.requests[request.id] = request
        self.waiting.append(request)

    def abort(self, request_id: str) -> bool:
        """Let a request go at once, and say whether it was still being served."""
        request = self.requests.pop(request_id, None)
        if request is None:
            return False
        request.finish_reason = "abort"
        if request.status is Status.WAITING:
            self.waiting.remove(request)
        else:
            self._release(request)
        request.status = Status.ABORTED
        return True

    # A step.

    def schedule(self) -> list[Chunk]:
        """Plan the next step, and account for it as if it were already computed.

        Running requests are continued in the order of their admission. Those that wait are then
        admitted, first come first served, as long as there are free slots, tokens left in the
        budget, and KV for all their tokens besides all tokens of the running requests. Nobody
        overtakes the head of the queue. Each gets the lowest free slot: a graph that was captured
        for few slots then serves most steps.
        """
        if self.due:
            raise ValueError(f"the last step's tokens for {sorted(self.due)} are still due")
        chunks: list[Chunk] = []
        n_left = self.token_budget
        # Every running request gets something: it was admitted with what the older ones left of a
        # budget, and none of these ever asks for more than it got then.
        while len(chunks) < len(self.running):
            request = self.running[len(chunks)]
            n_tokens = min(request.n_pending, self.max_chunk, n_left)
            if not self._make_room(request, n_tokens):
                break
            chunks.append(self._feed(request, n_tokens))
            n_left -= n_tokens
        while n_left > 0 and self._can_admit():
            request = self._admit()
            n_tokens = min(request.n_pending, self.max_chunk, n_left)
            chunks.append(self._feed(request, n_tokens))
            n_left -= n_tokens
        self.due = {c.request_id: self.requests[c.request_id] for c in chunks if c.sample}
        return chunks

    def update(self, sampled: Mapping[str, int]) -> list[Request]:
        """Hand in the token for every request of the step that was to be sampled.

        Returns the requests that are finished by it. Requests aborted since the step was planned
        may be left out, and what was sampled for them means nothing.
        """
        alive = {i for i, request in self.due.items() if request.status is Status.RUNNING}
        if not alive <= sampled.keys() <= self.due.keys():
            raise ValueError(f"tokens for {sorted(sampled)}, but due are {sorted(self.due)}")
        finished = []
        for request_id in sampled:
            request = self.due[request_id]
            if request.status is Status.ABORTED:
                continue
            request.accept(sampled[request_id])
            if request.finish_reason is not None:
                self._release(request)
                request.status = Status.FINISHED
                del self.requests[request_id]
                finished.append(request)
        self.due = {}
        return finished

    def _can_admit(self) -> bool:
        if not self.waiting or not self.free_slots:
            return False
        served = [*self.running, self.waiting[0]]
        return sum(self._blocks_for(len(request.tokens)) for request in served) <= self.n_blocks

    def _admit(self) -> Request:
        """Make the head of the queue a running request."""
        request = self.waiting.popleft()
        request.slot = heapq.heappop(self.free_slots)
        request.status = Status.RUNNING
        self.running.append(request)
        return request

    def _feed(self, request: Request, n_tokens: int) -> Chunk:
        """Take the next n_tokens tokens of a request into the step."""
        assert request.slot is not None, f"request {request.id!r} has no slot"
        start = request.n_computed
        request.n_computed += n_tokens
        self.n_free_blocks -= self._blocks_for(request.n_computed) - request.n_blocks
        request.n_blocks = self._blocks_for(request.n_computed)
        tokens = request.tokens[start : request.n_computed]
        return Chunk(request.id, request.slot, start, tokens, sample=request.n_pending == 0)

    def _blocks_for(self, n_tokens: int) -> int:
        return -(-n_tokens // self.block_size)

    def _make_room(self, request: Request, n_tokens: int) -> bool:
        """Preempt the youngest until a running request can be fed; False if it went itself."""
        n_new_blocks = self._blocks_for(request.n_computed + n_tokens) - request.n_blocks
        while n_new_blocks > self.n_free_blocks:
            youngest = self.running[-1]
            self._preempt(youngest)
            if youngest is request:
                return False
        return True

    def _preempt(self, request: Request) -> None:
        """Send a running request back to the head of the queue; its text stays as it is."""
        self.n_preemptions += 1
        self.n_lost_tokens += request.n_computed
        self._release(request)
        request.status = Status.WAITING
        self.waiting.appendleft(request)

    def _release(self, request: Request) -> None:
        """Take slot and KV from a running request."""
        assert request.slot is not None, f"request {request.id!r} has no slot"
        self.running.remove(request)
        heapq.heappush(self.free_slots, request.slot)
        self.n_free_blocks += request.n_blocks
        request.slot = None
        request.n_blocks = 0
        request.n_computed = 0


class Engine:
    """The loop of a server; its model returns one token for each of a batch's sample_rows."""

    def __init__(self, scheduler: Scheduler, model_fn: ModelFn) -> None:
        self.scheduler = scheduler
        self.model_fn = model_fn

    def step(self) -> list[Request]:
        """Compute one step, if there is anything to do, and return the requests it finished."""
        batch = pack(self.scheduler.schedule())
        if not batch.tokens:
            return []
        tokens = self.model_fn(batch)
        if len(tokens) != len(batch.sample_ids):
            raise ValueError(f"{len(tokens)} tokens for the requests {batch.sample_ids}")
        return self.scheduler.update(dict(zip(batch.sample_ids, tokens, strict=True)))

    def run(self, max_steps: int | None = None) -> dict[str, list[int]]:
        """Compute steps until nothing is left to do, and return the outputs by request id.

        After max_steps steps, requests that are not finished stay where they are.
        """
        outputs: dict[str, list[int]] = {}
        for _ in count() if max_steps is None else range(max_steps):
            if not self.scheduler.has_work:
                break
            outputs |= {request.id: request.output for request in self.step()}
        return outputs
