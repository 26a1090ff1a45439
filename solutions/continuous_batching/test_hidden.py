"""What continuous batching promises: `subject` is the file under test, `seed` differs between runs.

The oracles: a model whose every token depends on all that lies in the KV of a slot, so that a wrong
history gives a wrong text; and the policy itself, played with plain lists and counted anew each
time.
"""

from __future__ import annotations

import math
import random
import zlib
from typing import Any

import pytest

_Plan = list[tuple[str, int, list[int], bool]]  # request, start, tokens, sample


def _next(history: list[int]) -> int:
    """Return the token, one of 40, that follows a text."""
    return zlib.crc32(repr(history).encode()) % 40


def _alone(prompt: list[int], max_new_tokens: int, eos_id: int | None) -> list[int]:
    """Return the output of a request that has the engine for itself."""
    output: list[int] = []
    while len(output) < max_new_tokens and (not output or output[-1] != eos_id):
        output.append(_next([*prompt, *output]))
    return output


class _Model:
    """Keeps the KV of every slot: the tokens that were fed to it, by position."""

    def __init__(self) -> None:
        self.kv: dict[int, list[int]] = {}
        self.fed: list[list[int]] = []  # positions of each step
        self.gaps = 0

    def __call__(self, batch: Any) -> list[int]:
        self.fed.append(list(batch.positions))
        histories = []
        for token, position, slot in zip(batch.tokens, batch.positions, batch.slots, strict=True):
            kv = self.kv.setdefault(slot, [])
            self.gaps += position > len(kv)
            kv[position:] = [token]
            histories.append(list(kv))
        return [_next(histories[row]) for row in batch.sample_rows]


def _words(seed: int, n: int) -> list[int]:
    """Return n different tokens."""
    return random.Random(seed).sample(range(100, 50_000), n)


def _add(
    subject: Any,
    scheduler: Any,
    name: str,
    prompt: list[int],
    n_new: int,
    *,
    eos: int | None = None,
) -> Any:
    request = subject.Request(name, prompt, n_new, eos)
    scheduler.add(request)
    return request


def _plan(chunks: Any) -> _Plan:
    return [(c.request_id, c.start, list(c.tokens), c.sample) for c in chunks]


def _sizes(chunks: Any) -> list[tuple[str, int, bool]]:
    """Return who gets how many tokens, and who is sampled."""
    return [(c.request_id, len(c.tokens), c.sample) for c in chunks]


def _step(scheduler: Any, token: int = 7) -> _Plan:
    """Compute a step in which everyone samples the same token."""
    plan = _plan(scheduler.schedule())
    scheduler.update({name: token for name, _, _, sample in plan if sample})
    return plan


def _step_sizes(scheduler: Any) -> list[tuple[str, int, bool]]:
    """Compute a step and return who got how many tokens, and who was sampled."""
    return [(name, len(tokens), sample) for name, _, tokens, sample in _step(scheduler)]


# ----- texts


@pytest.mark.symptom("The same prompt is answered differently when the server is busy.")
def test_every_request_gets_what_it_would_get_alone(subject: Any, seed: int) -> None:
    """Whatever the slots, budget, KV and arrivals, each output is that of the request alone."""
    rng = random.Random(seed)
    servers: list[tuple[int, int, int, dict[str, int]]] = [
        (3, 5, 24, {}),
        (2, 16, 32, {"block_size": 4, "max_chunk": 3}),
        (4, 4, 18, {"block_size": 3}),
    ]
    for n_slots, budget, capacity, more in servers:
        model = _Model()
        scheduler = subject.Scheduler(n_slots, budget, capacity, **more)
        engine = subject.Engine(scheduler, model)
        want, got = {}, {}
        for i in range(7):
            prompt = [rng.randrange(40) for _ in range(rng.randrange(1, 10))]
            n_new, eos = rng.randrange(1, 9), rng.choice([None, *range(40)])
            want[f"r{i}"] = _alone(prompt, n_new, eos)
            _add(subject, scheduler, f"r{i}", prompt, n_new, eos=eos)
            if i % 3 == 2:
                got.update(engine.run(max_steps=3))
        assert scheduler.has_work
        got.update(engine.run(max_steps=200))

        assert got == want
        assert model.gaps == 0
        assert max(map(len, model.fed)) <= budget
        assert not scheduler.has_work
        assert scheduler.kv_used == 0


@pytest.mark.symptom("After a spell of heavy load, some answers repeat or lose words.")
def test_a_preempted_request_goes_on_where_it_was(subject: Any, seed: int) -> None:
    """What it had generated is kept and computed again with its prompt, then the next token."""
    x, y = _words(seed, 3), _words(seed + 1, 3)
    scheduler = subject.Scheduler(2, 4, 9)
    a = _add(subject, scheduler, "a", x, 5)
    b = _add(subject, scheduler, "b", y, 6)
    for step in range(3):
        plan = _step(scheduler, token=1 + step)
        assert [name for name, *_ in plan] == ["a", "b"]
    assert (list(a.output), list(b.output)) == ([1, 2, 3], [2, 3])
    assert scheduler.kv_used == 9
    assert _step(scheduler, token=4) == [("a", 5, [3], True)]
    assert (list(b.tokens), list(b.output)) == ([*y, 2, 3], [2, 3])
    assert b.status == subject.Status.WAITING
    assert scheduler.kv_used == 6
    assert _step(scheduler, token=5) == [("a", 6, [4], True)]
    assert list(a.output) == [1, 2, 3, 4, 5]

    assert _step(scheduler, token=6) == [("b", 0, [*y, 2], False)]
    assert _step(scheduler, token=6) == [("b", 4, [3], True)]
    assert _step(scheduler, token=7) == [("b", 5, [6], True)]
    assert list(b.output) == [2, 3, 6, 7]
    assert (scheduler.n_preemptions, scheduler.n_lost_tokens) == (1, 4)


@pytest.mark.symptom("Compute is wasted: some tokens are run through the model twice.")
def test_every_token_is_fed_exactly_once(subject: Any, seed: int) -> None:
    """With KV for all, each request is fed each of its tokens once, and never its last one."""
    scheduler = subject.Scheduler(2, 6, 64)
    prompts = {name: _words(seed + n, n) for name, n in [("a", 7), ("b", 2), ("c", 9)]}
    requests = [_add(subject, scheduler, name, prompts[name], 4) for name in "abc"]
    fed: dict[str, list[int]] = {name: [] for name in "abc"}
    for step in range(11):
        for name, start, tokens, _ in _step(scheduler, token=step):
            assert start == len(fed[name])
            fed[name] += tokens

    assert not scheduler.has_work
    assert scheduler.n_preemptions == scheduler.n_lost_tokens == 0
    for name, request in zip("abc", requests, strict=True):
        assert len(request.output) == 4
        assert list(request.tokens) == [*prompts[name], *request.output]
        assert fed[name] == list(request.tokens)[:-1]
        assert (list(request.prompt), request.n_prompt) == (prompts[name], len(prompts[name]))


@pytest.mark.symptom("Some answers are a token too long, or end too early.")
def test_a_text_ends_with_its_eos_or_its_limit(subject: Any) -> None:
    """EOS, also as id 0, stays in the output and wins over the limit, which counts new tokens."""
    ends: list[tuple[int | None, int, list[int], str]] = [
        (0, 4, [5, 0], "stop"),
        (0, 2, [5, 0], "stop"),
        (None, 3, [5, 0, 6], "length"),
        (9, 1, [5], "length"),
        (5, 3, [5], "stop"),
        (1, 4, [5, 0, 6, 8], "length"),
    ]
    scheduler = subject.Scheduler(8, 32, 64)
    requests = {
        f"r{i}": _add(subject, scheduler, f"r{i}", [1, 5, 0], n_new, eos=eos)
        for i, (eos, n_new, _, _) in enumerate(ends)
    }
    finished_at: dict[str, int] = {}
    for step, token in enumerate([5, 0, 6, 8]):
        due = {c.request_id: token for c in scheduler.schedule() if c.sample}
        finished_at |= {request.id: step for request in scheduler.update(due)}

    assert not scheduler.has_work
    for i, (_, _, output, reason) in enumerate(ends):
        request = requests[f"r{i}"]
        assert list(request.output) == output
        assert request.finish_reason == reason
        assert request.status == subject.Status.FINISHED
        assert finished_at[f"r{i}"] == len(output) - 1


# ----- the plan of a step


class _Policy:
    """The policy in plain lists: requests are dicts, and everything is counted when asked."""

    def __init__(self, slots: int, budget: int, capacity: int, block: int, chunk: int) -> None:
        self.n_slots, self.budget, self.chunk = slots, budget, chunk
        self.capacity, self.block = capacity, block
        self.queue: list[dict[str, Any]] = []
        self.active: list[dict[str, Any]] = []

    def room(self, counts: list[int]) -> bool:
        return sum(math.ceil(n / self.block) * self.block for n in counts) <= self.capacity

    def kv_used(self) -> int:
        return sum(math.ceil(len(r["kv"]) / self.block) * self.block for r in self.active)

    def serve(self, request: dict[str, Any], left: int) -> tuple[str, int, int, list[int], bool]:
        start = len(request["kv"])
        part = request["text"][start:][: self.chunk][:left]
        request["kv"] = request["kv"] + part
        done = request["kv"] == request["text"]
        return request["id"], request["slot"], start, part, done

    def step(self) -> list[tuple[str, int, int, list[int], bool]]:
        plan: list[tuple[str, int, int, list[int], bool]] = []

        def left() -> int:
            return self.budget - sum(len(part) for *_, part, _ in plan)

        place = 0
        while place < len(self.active):
            mine = self.active[place]
            size = min(len(mine["text"]) - len(mine["kv"]), self.chunk, left())
            others = [len(r["kv"]) for r in self.active if r is not mine]
            if not self.room([*others, len(mine["kv"]) + size]):
                gone = self.active.pop()
                gone["kv"], gone["slot"] = [], None
                self.queue.insert(0, gone)
                continue
            plan.append(self.serve(mine, left()))
            place += 1
        while self.queue and left():
            slots = {*range(self.n_slots)} - {r["slot"] for r in self.active}
            head = self.queue[0]
            if not slots or not self.room([len(r["text"]) for r in [*self.active, head]]):
                break
            self.active.append(self.queue.pop(0))
            head["slot"] = min(slots)
            plan.append(self.serve(head, left()))
        return plan

    def drop(self, name: str) -> bool:
        before = len(self.queue) + len(self.active)
        self.queue = [r for r in self.queue if r["id"] != name]
        self.active = [r for r in self.active if r["id"] != name]
        return len(self.queue) + len(self.active) < before

    def take(self, tokens: dict[str, int]) -> list[str]:
        ended = []
        for request in self.active:
            if request["id"] in tokens:
                request["text"] = request["text"] + [tokens[request["id"]]]
                n_new = len(request["text"]) - request["n_prompt"]
                if n_new == request["n_new"] or request["text"][-1] == request["eos"]:
                    ended.append(request["id"])
        for name in ended:
            self.drop(name)
        return ended


@pytest.mark.symptom("In mixed traffic the server does not do what its documentation says.")
@pytest.mark.parametrize("limits", [(3, 4, 20, 1, None), (4, 16, 24, 3, None), (3, 9, 24, 2, 3)])
def test_every_step_follows_the_policy(
    subject: Any, seed: int, limits: tuple[int, int, int, int, int | None]
) -> None:
    """Arrivals, aborts and ends at random: who is fed which tokens, where, is as documented."""
    rng = random.Random(seed)
    slots, budget, capacity, block, chunk = limits
    scheduler = subject.Scheduler(slots, budget, capacity, block_size=block, max_chunk=chunk)
    policy = _Policy(slots, budget, capacity, block, chunk or budget)

    def maybe_abort() -> None:
        for name in [r["id"] for r in policy.queue + policy.active if rng.random() < 0.02]:
            assert scheduler.abort(name) is policy.drop(name) is True

    for step in range(13):
        for i in range(3 if step == 0 else rng.choice([0, 0, 0, 1, 2])):
            name, prompt = f"{step}.{i}", [rng.randrange(9) for _ in range(rng.randrange(1, 9))]
            n_new, eos = rng.randrange(1, 9), rng.choice([None, 0])
            _add(subject, scheduler, name, prompt, n_new, eos=eos)
            request = {"id": name, "text": prompt, "kv": [], "slot": None}
            policy.queue.append({**request, "n_prompt": len(prompt), "n_new": n_new, "eos": eos})
        maybe_abort()
        chunks = scheduler.schedule()
        plan = [(c.request_id, c.slot, c.start, list(c.tokens), c.sample) for c in chunks]
        assert plan == policy.step()
        assert scheduler.kv_used == policy.kv_used() <= capacity
        due = {name: rng.randrange(9) for name, *_, sample in plan if sample}
        maybe_abort()
        finished = [request.id for request in scheduler.update(due)]
        assert sorted(finished) == sorted(policy.take(due))


@pytest.mark.symptom("A step is larger than the graph it should run in.")
def test_no_step_exceeds_its_budget(subject: Any, seed: int) -> None:
    """Long prompts are split, share steps, and are sampled only after their last token."""
    x, y = _words(seed, 6), _words(seed + 1, 5)
    scheduler = subject.Scheduler(4, 4, 64)
    _add(subject, scheduler, "a", x, 3)
    _add(subject, scheduler, "b", y, 2)

    assert _step(scheduler) == [("a", 0, x[:4], False)]
    assert _step(scheduler) == [("a", 4, x[4:], True), ("b", 0, y[:2], False)]
    assert _step(scheduler) == [("a", 6, [7], True), ("b", 2, y[2:], True)]
    assert _step(scheduler) == [("a", 7, [7], True), ("b", 5, [7], True)]
    assert _step(scheduler) == []


@pytest.mark.symptom("One user's long document makes everyone's text stutter.")
def test_a_long_prompt_never_delays_running_requests(subject: Any, seed: int) -> None:
    """Those that run get their token in every step; a new prompt gets what they leave."""
    scheduler = subject.Scheduler(4, 5, 64)
    for name in "ab":
        _add(subject, scheduler, name, [1], 9)
    _step(scheduler)
    long = _words(seed, 11)
    _add(subject, scheduler, "long", long, 9)
    decodes = [("a", 1, True), ("b", 1, True)]

    assert _sizes(scheduler.schedule()) == [*decodes, ("long", 3, False)]
    scheduler.update({"a": 7, "b": 7})
    for start in (3, 6):
        plan = _step(scheduler)
        assert [name for name, *_ in plan] == ["a", "b", "long"]
        assert plan[2] == ("long", start, long[start : start + 3], False)
    assert _step(scheduler)[2] == ("long", 9, long[9:], True)


@pytest.mark.symptom("One user's long document fills every step of the server.")
def test_max_chunk_leaves_room_for_others(subject: Any, seed: int) -> None:
    """No request is fed more than max_chunk tokens in a step, and those behind get the rest."""
    x, y = _words(seed, 8), _words(seed + 1, 4)
    scheduler = subject.Scheduler(4, 8, 64, max_chunk=3)
    _add(subject, scheduler, "a", x, 9)
    _add(subject, scheduler, "b", y, 9)
    _add(subject, scheduler, "c", [1, 2], 9)

    sizes = [_step_sizes(scheduler) for _ in range(3)]
    assert sizes[0] == [("a", 3, False), ("b", 3, False), ("c", 2, True)]
    assert sizes[1] == [("a", 3, False), ("b", 1, True), ("c", 1, True)]
    assert sizes[2] == [("a", 2, True), ("b", 1, True), ("c", 1, True)]
    wide = subject.Scheduler(1, 4, 64, max_chunk=100)
    _add(subject, wide, "a", x, 9)
    assert _sizes(wide.schedule()) == [("a", 4, False)]


@pytest.mark.symptom("Short requests get ahead of mine again and again.")
def test_admission_is_first_come_first_served(subject: Any) -> None:
    """Whoever came first is admitted first; if it has to wait, those behind it wait too."""
    scheduler = subject.Scheduler(2, 32, 20)
    for name, n in [("a", 3), ("b", 8), ("c", 1), ("d", 2)]:
        _add(subject, scheduler, name, [1] * n, 3)
    admitted = [[name for name, start, *_ in _step(scheduler) if start == 0] for _ in range(5)]
    assert admitted == [["a", "b"], [], [], ["c", "d"], []]

    scheduler = subject.Scheduler(3, 32, 12)
    for name, n in [("a", 4), ("b", 9), ("c", 1)]:
        _add(subject, scheduler, name, [1] * n, 3)
    admitted = [[name for name, start, *_ in _step(scheduler) if start == 0] for _ in range(5)]
    assert admitted == [["a"], [], [], ["b", "c"], []]


@pytest.mark.symptom("The server waits until a whole batch is done before it takes new requests.")
def test_a_free_place_is_taken_in_the_next_step(subject: Any) -> None:
    """A request joins the step after another one ended, beside those that still run."""
    scheduler = subject.Scheduler(3, 8, 64)
    lengths = {"a": 4, "b": 2, "c": 4, "d": 1, "e": 2, "f": 2}
    for name, n_new in lengths.items():
        _add(subject, scheduler, name, [1, 2], n_new)

    seats: list[dict[int, str]] = []
    while scheduler.has_work and len(seats) < 9:
        chunks = scheduler.schedule()
        seats.append({c.slot: c.request_id for c in chunks})
        scheduler.update({c.request_id: 7 for c in chunks if c.sample})
    assert seats == [
        {0: "a", 1: "b", 2: "c"},
        {0: "a", 1: "b", 2: "c"},
        {0: "a", 1: "d", 2: "c"},
        {0: "a", 1: "e", 2: "c"},
        {1: "e", 0: "f"},
        {0: "f"},
    ]


@pytest.mark.symptom("A graph for few requests cannot be used although few are running.")
def test_new_requests_get_the_lowest_free_slot(subject: Any) -> None:
    """Slots are filled from below, in whatever order they were left; none is lost or shared."""
    scheduler = subject.Scheduler(4, 16, 64)
    requests = {name: _add(subject, scheduler, name, [1], 9) for name in "abcd"}
    _step(scheduler)
    assert [requests[name].slot for name in "abcd"] == [0, 1, 2, 3]
    for name in "cda":
        scheduler.abort(name)
        assert requests[name].slot is None
    later = {name: _add(subject, scheduler, name, [1], 9) for name in "efgh"}
    _step(scheduler)

    assert [later[name].slot for name in "efgh"] == [0, 2, 3, None]
    assert requests["b"].slot == 1


# ----- KV


@pytest.mark.symptom("Under load the oldest requests are thrown back, and none gets done.")
def test_the_youngest_is_preempted_and_queues_first(subject: Any) -> None:
    """The last admitted gives way, two if one is not enough, and they return in their order."""
    scheduler = subject.Scheduler(4, 16, 12, block_size=4)
    requests = {}
    for name, n, n_new in [("a", 4, 6), ("b", 2, 3), ("c", 3, 3), ("d", 1, 1)]:
        requests[name] = _add(subject, scheduler, name, [1] * n, n_new)

    assert _step_sizes(scheduler) == [("a", 4, True), ("b", 2, True), ("c", 3, True)]
    assert _step_sizes(scheduler) == [("a", 1, True), ("b", 1, True)]
    status = {name: requests[name].status for name in "abcd"}
    waiting, running = subject.Status.WAITING, subject.Status.RUNNING
    assert status == {"a": running, "b": running, "c": waiting, "d": waiting}
    assert (requests["c"].slot, requests["c"].n_computed, requests["c"].n_blocks) == (None, 0, 0)
    assert _step_sizes(scheduler) == [("a", 1, True), ("b", 1, True)]
    assert _step_sizes(scheduler) == [("a", 1, True), ("c", 4, True)]
    assert _step_sizes(scheduler) == [("a", 1, True)]
    assert _step_sizes(scheduler) == [("a", 1, True)]
    assert _step_sizes(scheduler) == [("c", 5, True), ("d", 1, True)]
    assert (scheduler.n_preemptions, scheduler.n_lost_tokens) == (2, 7)
    assert not scheduler.has_work


@pytest.mark.symptom("When memory is short, requests change places in the queue.")
def test_preempted_requests_keep_their_order(subject: Any, seed: int) -> None:
    """Several preempted in one step return in the order of their admission, before newer ones."""
    scheduler = subject.Scheduler(4, 16, 15, max_chunk=4)
    for name, prompt, n_new in [
        ("a", [1], 3),
        ("b", _words(seed, 12), 1),
        ("c", [3], 5),
        ("d", [4], 5),
        ("e", [5], 1),
    ]:
        _add(subject, scheduler, name, prompt, n_new)
    for used in (7, 14):
        assert [name for name, *_ in _step(scheduler)] == ["a", "b", "c", "d"]
        assert scheduler.kv_used == used
    assert [name for name, *_ in _step(scheduler)] == ["a", "b"]

    assert (scheduler.n_preemptions, scheduler.n_lost_tokens) == (2, 4)
    assert _step(scheduler) == [
        ("c", 0, [3, 7, 7], True),
        ("d", 0, [4, 7, 7], True),
        ("e", 0, [5], True),
    ]


@pytest.mark.symptom("Prompts that are being read are thrown out again for newer ones.")
def test_a_prompt_being_read_has_its_room_set_aside(subject: Any, seed: int) -> None:
    """KV that a running request will need for the rest of its prompt is not promised to others."""
    for capacity, fits in [(10, False), (11, True)]:
        scheduler = subject.Scheduler(4, 6, capacity, max_chunk=2)
        _add(subject, scheduler, "a", _words(seed, 8), 1)
        _add(subject, scheduler, "b", [1, 2, 3], 1)
        names = [[name for name, *_ in _step(scheduler)] for _ in range(4)]
        both, one = ["a", "b"], ["a"]
        assert names == ([both, both, one, one] if fits else [one] * 4)
        assert scheduler.n_preemptions == 0


@pytest.mark.symptom("The server runs out of memory, or holds memory back that nobody uses.")
def test_kv_is_counted_in_whole_blocks(subject: Any, seed: int) -> None:
    """A request holds the blocks that its computed tokens fill or begin, and no more."""
    scheduler = subject.Scheduler(2, 5, 12, block_size=3)
    a = _add(subject, scheduler, "a", _words(seed, 7), 4)
    used = []
    for _ in range(6):
        _step(scheduler)
        used.append((scheduler.kv_used, a.n_computed, a.n_blocks, a.n_pending))
        assert isinstance(scheduler.kv_used, int)
    assert used[:4] == [(6, 5, 2, 2), (9, 7, 3, 1), (9, 8, 3, 1), (9, 9, 3, 1)]
    assert [kv for kv, *_ in used[4:]] == [0, 0]
    assert (a.n_computed, a.n_blocks, a.slot) == (0, 0, None)

    for _ in range(2):
        _add(subject, scheduler, "b", [1, 2, 3], 5)
        _add(subject, scheduler, "c", [4, 5], 5)
        _step(scheduler)
        assert scheduler.kv_used == 6
        _step(scheduler)
        assert scheduler.kv_used == 9
        scheduler.abort("b")
        assert scheduler.kv_used == 3
        scheduler.abort("c")
        assert scheduler.kv_used == 0


@pytest.mark.symptom(
    "A request that is too large stays in the queue for ever and blocks all others."
)
def test_only_what_can_never_fit_is_refused(subject: Any) -> None:
    """The longest request that fits alone is served to its end; one token more is refused."""
    for capacity, block in [(9, 1), (9, 3), (12, 4)]:
        scheduler = subject.Scheduler(1, 4, capacity, block_size=block)
        for n, n_new in [(capacity, 2), (1, capacity + 1), (5, capacity - 3)]:
            with pytest.raises(ValueError, match=r"."):
                scheduler.add(subject.Request("a", [1] * n, n_new))
        assert not scheduler.has_work
        for n, n_new in [(capacity, 1), (1, capacity), (5, capacity - 4)]:
            request = _add(subject, scheduler, "a", [1] * n, n_new)
            subject.Engine(scheduler, lambda batch: [7] * len(batch.sample_rows)).run(max_steps=20)
            assert list(request.output) == [7] * n_new
            assert not scheduler.has_work


# ----- aborts


@pytest.mark.symptom("After users cancelled requests, the server has fewer places than before.")
def test_an_aborted_request_leaves_at_once(subject: Any, seed: int) -> None:
    """Waiting, running or preempted, it gives back what it holds, and the next step uses it."""
    scheduler = subject.Scheduler(2, 8, 8)
    requests = {}
    for name, n in [("a", 3), ("b", 3), ("c", 2), ("d", 4)]:
        requests[name] = _add(subject, scheduler, name, _words(seed, n), 4)
    assert [name for name, *_ in _step(scheduler)] == ["a", "b"]
    _step(scheduler)
    assert scheduler.kv_used == 8
    assert [name for name, *_ in _step(scheduler)] == ["a"]
    assert [scheduler.abort(name) for name in ("c", "b", "none")] == [True, True, False]
    assert scheduler.kv_used == 5
    assert scheduler.abort("a") is True
    assert scheduler.kv_used == 0
    for name in "abc":
        request = requests[name]
        assert (request.status, request.finish_reason) == (subject.Status.ABORTED, "abort")
        assert (request.slot, request.n_computed, request.n_blocks) == (None, 0, 0)
        assert scheduler.abort(name) is False
    assert (len(requests["a"].output), len(requests["b"].output)) == (3, 2)

    _add(subject, scheduler, "e", [1, 2], 3)
    assert [name for name, *_ in _step(scheduler)] == ["d", "e"]
    assert scheduler.kv_used == 6
    assert scheduler.has_work
    assert [scheduler.abort(name) for name in "de"] == [True, True]
    assert not scheduler.has_work


@pytest.mark.symptom("A new request starts with a word of a cancelled one.")
def test_a_result_that_comes_after_the_abort_is_dropped(subject: Any) -> None:
    """What was sampled for an aborted request reaches nobody, also if its id is used again."""
    scheduler = subject.Scheduler(2, 8, 16)
    old = _add(subject, scheduler, "a", [1, 2], 2)
    other = _add(subject, scheduler, "b", [3], 1)
    scheduler.schedule()
    assert scheduler.abort("a") is True
    new = _add(subject, scheduler, "a", [4, 5, 6], 2)
    finished = scheduler.update({"a": 7, "b": 8})

    assert [request.id for request in finished] == ["b"]
    assert (list(old.output), list(new.output), list(other.output)) == ([], [], [8])
    assert old.finish_reason == "abort"
    assert _step(scheduler) == [("a", 0, [4, 5, 6], True)]
    assert list(new.output) == [7]
    scheduler.schedule()
    scheduler.abort("a")
    assert list(scheduler.update({})) == []
    assert (scheduler.kv_used, list(new.output), new.finish_reason) == (0, [7], "abort")
    assert list(scheduler.schedule()) == []


# ----- the rest


@pytest.mark.symptom("The model runner reads the wrong rows of a mixed batch.")
def test_chunks_are_packed_one_behind_the_other(subject: Any, seed: int) -> None:
    """Tokens, positions and slots row by row; lengths and sampled rows chunk by chunk."""
    x, y, z = _words(seed, 3), _words(seed + 1, 1), _words(seed + 2, 2)
    chunks = [
        subject.Chunk("a", 2, 4, x, True),
        subject.Chunk("b", 0, 9, y, True),
        subject.Chunk("c", 3, 0, z, False),
        subject.Chunk("d", 1, 6, y, True),
    ]
    batch = subject.pack(chunks)
    assert subject.mutated == ()

    assert list(batch.tokens) == [*x, *y, *z, *y]
    assert list(batch.positions) == [4, 5, 6, 9, 0, 1, 6]
    assert list(batch.slots) == [2, 2, 2, 0, 3, 3, 1]
    assert list(batch.cu_q) == [0, 3, 4, 6, 7]
    assert list(batch.context_lens) == [7, 10, 2, 7]
    assert list(batch.sample_ids) == ["a", "b", "d"]
    assert list(batch.sample_rows) == [2, 3, 6]
    empty = subject.pack([])
    assert [list(column) for column in empty] == [[], [], [], [0], [], [], []]


@pytest.mark.symptom("The serving loop hangs, or drops finished answers.")
def test_the_engine_serves_what_is_added(subject: Any, seed: int) -> None:
    """Steps return what they finish; a run returns all that ended in it, and can be continued."""
    model = _Model()
    scheduler = subject.Scheduler(2, 8, 32)
    engine = subject.Engine(scheduler, model)
    before = subject.rng_state()
    assert list(engine.step()) == []
    assert engine.run() == {}
    assert model.fed == []

    prompts = {name: _words(seed + i, 3 - i) for i, name in enumerate("abc")}
    for name, n_new in zip("abc", (3, 1, 2), strict=True):
        _add(subject, scheduler, name, prompts[name], n_new)
    want = {name: _alone(prompts[name], n, None) for name, n in zip("abc", (3, 1, 2), strict=True)}
    (first,) = engine.step()
    assert (first.id, list(first.output)) == ("b", want["b"])
    assert engine.run(max_steps=0) == {}
    assert engine.run(max_steps=1) == {}
    assert scheduler.has_work
    assert engine.run(max_steps=1) == {"a": want["a"], "c": want["c"]}
    assert not scheduler.has_work
    assert engine.run() == {}
    assert model.fed == [[0, 1, 2, 0, 1], [3, 0], [4, 1]]
    assert subject.rng_state() == before


@pytest.mark.symptom("A bug in the caller goes unnoticed until texts are mixed up.")
def test_misuse_is_refused(subject: Any) -> None:
    """Impossible limits and requests, and results that do not fit the step, raise ValueError."""
    for limits, more in [
        ((0, 1, 1), {}),
        ((1, 0, 1), {}),
        ((1, 1, 0), {}),
        ((1, 1, 1), {"block_size": 0}),
        ((1, 1, 1), {"max_chunk": 0}),
        ((1, 1, 7), {"block_size": 3}),
        ((1, 1, 2), {"block_size": 3}),
    ]:
        with pytest.raises(ValueError, match=r"."):
            subject.Scheduler(*limits, **more)
    for prompt, n_new in [([], 3), ([1], 0), ([1], -1)]:
        with pytest.raises(ValueError, match=r"."):
            subject.Request("a", prompt, n_new)

    for state in ("tokens", "n_computed", "n_blocks", "slot", "status", "finish_reason"):
        with pytest.raises(TypeError):
            subject.Request("a", [1], 1, **{state: None})

    tiny = subject.Scheduler(1, 1, 1, block_size=1, max_chunk=1)
    done = _add(subject, tiny, "a", [1], 1)
    _step(tiny)
    with pytest.raises(ValueError, match=r"."):
        tiny.add(done)
    scheduler = subject.Scheduler(3, 4, 16)
    request = _add(subject, scheduler, "a", [1, 2], 5)
    for again in (request, subject.Request("a", [3], 1)):
        with pytest.raises(ValueError, match=r"."):
            scheduler.add(again)
    _add(subject, scheduler, "b", [3, 4, 5, 6], 5)
    assert _sizes(scheduler.schedule()) == [("a", 2, True), ("b", 2, False)]
    for wrong in ({}, {"b": 7}, {"a": 7, "b": 7}, {"a": 7, "c": 7}):
        with pytest.raises(ValueError, match=r"."):
            scheduler.update(wrong)
    with pytest.raises(ValueError, match=r"."):
        scheduler.schedule()
    assert (list(request.output), scheduler.kv_used) == ([], 4)
    scheduler.update({"a": 7})
    assert _step(scheduler) == [("a", 2, [7], True), ("b", 2, [5, 6], True)]

    for n_tokens in (1, 3):
        engine = subject.Engine(scheduler, lambda _, n=n_tokens: [9] * n)
        with pytest.raises(ValueError, match=r"."):
            engine.step()
        scheduler.update({"a": 7, "b": 7})
