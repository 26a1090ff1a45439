"""Verdicts on a file with one of everything: right, broken, and judged with unsound tests."""

from __future__ import annotations

import inspect
import itertools
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from halfhour.generator.judge import Judge
from halfhour.generator.judge.ledger import Finding
from halfhour.generator.judge.protection import rung_here
from halfhour.generator.judge.trial import Ruling
from halfhour.generator.records import Outcome, Trial, Verdict, VerdictKind

Judged = Callable[..., Verdict]
InCourt = Callable[..., tuple[Ruling, list[Finding]]]

ONE = "def test_one(subject):\n    assert subject.one() == 1\n"
RIGHT = "def one():\n    return 1\n"

BREAKAGES = {
    "return x * scale": "return x * (scale + 1)",
    "EPSILON = 1e-3": "EPSILON = 0.0",
    "return Extremes(x.min(), float(x.max()))": "return Extremes(x.max(), float(x.min()))",
    "        self.rows.append(row)\n": "        self.rows.insert(0, row)\n",
    "return dim * 4": "return dim * 2",
    "    status: Status = Status.WAITING": "    status: Status = Status.RUNNING",
    "    token = 0\n": "    token = 1\n",
    'raise PoolExhausted("no block is left")': 'raise ValueError("no block is left")',
    "tokens.append(step(list(tokens)))": "tokens.append(step([]))",
    "return x @ self.weight.T": "return x @ self.weight",
    "(x + shift[0]).square()": "(x + shift[0]).square().detach() + x",
    "axis=1": "axis=0",
    "torch.rand(n, generator=generator)": "torch.rand(n)",
}


def outcomes(verdict: Verdict) -> dict[str, Outcome]:
    return {result.promise.name: result.outcome for result in verdict.results}


def in_process(source: str, tests: str) -> dict[str, bool]:
    """Run the promises here, on the module itself; return which are kept."""
    module = types.ModuleType("kit")
    sys.modules["kit"] = module
    try:
        exec(compile(source, "kit.py", "exec", dont_inherit=True), module.__dict__)
    finally:
        del sys.modules["kit"]
    module.fields = lambda instance: dict(vars(instance))  # type: ignore[attr-defined]
    written: dict[str, Any] = {"__name__": "promises_here"}
    exec(compile(tests, "promises.py", "exec", dont_inherit=True), written)
    return {
        name: all(_keeps(promise, module, case) for case in _cases(promise))
        for name, promise in written.items()
        if name.startswith("test_")
    }


def _cases(promise: Callable[..., None]) -> Iterator[dict[str, Any]]:
    marks = [mark for mark in getattr(promise, "pytestmark", []) if mark.name == "parametrize"]
    for values in itertools.product(*(mark.args[1] for mark in marks)):
        yield dict(zip((mark.args[0] for mark in marks), values, strict=True))


def _keeps(promise: Callable[..., None], module: types.ModuleType, case: dict[str, Any]) -> bool:
    given = {"subject": module, "seed": 3, **case}
    wanted = inspect.signature(promise).parameters
    try:
        promise(**{name: value for name, value in given.items() if name in wanted})
    except (Exception, pytest.fail.Exception):
        return False
    return True


def test_a_right_file_is_fixed(
    judged: Judged, kit_source: str, promises: str, proxy_promises: str
) -> None:
    verdict = judged(
        kit_source,
        f"{promises}\n\n{proxy_promises.replace('from __future__ import annotations', '')}",
        public_names=("scaled", "Cache.append", "Status", "EPSILON"),
        seed=11,
    )

    broken = [(r.promise.name, r.outcome, r.detail) for r in verdict.results if not r.kept]
    assert broken == []
    assert verdict.kind is VerdictKind.FIXED, verdict.reason
    assert len(verdict.results) >= 25
    assert (verdict.device, verdict.rung, verdict.seed) == ("cpu", rung_here(), 11)
    assert verdict.seconds > 0
    assert all(in_process(kit_source, promises).values())


def test_the_same_promises_break_in_this_process_and_through_the_proxy(
    judged: Judged, kit_source: str, promises: str
) -> None:
    source = kit_source
    for right, wrong in BREAKAGES.items():
        assert source.count(right) == 1, right
        source = source.replace(right, wrong)

    verdict = judged(source, promises)

    kept_here = in_process(source, promises)
    assert {r.promise.name: r.kept for r in verdict.results} == kept_here
    assert verdict.kind is VerdictKind.NOT_FIXED
    assert verdict.broken == tuple(name for name, kept in kept_here.items() if not kept)
    assert len(verdict.broken) == len(BREAKAGES) + 1  # one breaks two promises
    kept = len(verdict.results) - len(verdict.broken)
    assert verdict.reason == f"{kept} of {len(verdict.results)} promises are kept"
    found = outcomes(verdict)
    assert found["test_scaled_doubles"] is Outcome.WRONG
    assert found["test_exceptions_are_those_that_were_raised"] is Outcome.RAISED
    assert found["test_values_survive_the_trip"] is Outcome.KEPT


def test_a_detail_says_what_the_test_and_the_file_did(in_court: InCourt) -> None:
    tests = (
        "def test_value(subject):\n    assert subject.one() == 1, 'not one'\n"
        "def test_raise(subject):\n    subject.two()\n"
    )
    source = 'def one():\n    return 2\n\ndef two():\n    raise ValueError("\\x1b[31mred\\u202e")\n'

    _, (value, raised) = in_court(source, tests)

    assert (value.outcome, raised.outcome) == (Outcome.WRONG, Outcome.RAISED)
    assert "assert subject.one() == 1" in value.detail
    assert "AssertionError: not one" in value.detail
    assert "In the submission" not in value.detail
    assert "subject.two()" in raised.detail
    assert 'File "kit.py", line 5, in two' in raised.detail
    assert "\\x1b[31mred\\u202e" in raised.detail
    assert "\x1b" not in raised.detail


@pytest.mark.parametrize(
    ("outcome", "lines"),
    [
        pytest.param(Outcome.WRONG, "    assert subject.one() == 2\n", id="another value"),
        pytest.param(
            Outcome.WRONG,
            "    with pytest.raises(ValueError):\n        subject.one()\n",
            id="no exception",
        ),
        pytest.param(
            Outcome.RAISED,
            "    with pytest.raises(KeyError):\n        subject.refuse()\n",
            id="another exception",
        ),
        pytest.param(Outcome.RAISED, "    subject.gone()\n", id="a name that is not there"),
        pytest.param(
            Outcome.RAISED,
            "    with pytest.raises(RuntimeError):\n        subject.leave()\n",
            id="SystemExit, which is no RuntimeError",
        ),
        pytest.param(
            Outcome.WRONG,
            "    def step(_):\n        assert False\n    subject.swallow(step)\n",
            id="an assertion in a callback, swallowed by the file",
        ),
        pytest.param(Outcome.WRONG, "    assert subject.thing == 1\n", id="an object for a value"),
        pytest.param(
            Outcome.WRONG, "    assert subject.pair == 1\n", id="an object that equals anything"
        ),
    ],
)
def test_the_outcome_tells_wrong_from_raised(
    in_court: InCourt, outcome: Outcome, lines: str
) -> None:
    source = """
def one():
    return 1

def refuse():
    raise ValueError("no")

def leave():
    raise SystemExit(0)

def swallow(step):
    try:
        step(1)
    except BaseException:
        pass

class Equal:
    __eq__ = __ne__ = lambda self, other: True

thing, pair = Equal(), (Equal(), Equal())
"""
    ruling, found = in_court(source, f"import pytest\ndef test_it(subject):\n{lines}")

    assert ruling == Ruling(VerdictKind.NOT_FIXED, "0 of 1 promises are kept")
    assert [finding.outcome for finding in found] == [outcome]


UNSOUND = {
    "an unknown fixture": (
        "def test_one(subject, nobody):\n    pass\n",
        None,
        "wants a fixture",
    ),
    "a skipped promise": (
        "import pytest\n@pytest.mark.skip\ndef test_one(subject):\n    pass\n",
        None,
        "is skipped",
    ),
    "a promise expected to fail": (
        "import pytest\n\n@pytest.mark.xfail\n" + ONE.replace("== 1", "== 2"),
        None,
        "is skipped or marked",
    ),
    "a promise that fails to fail": (
        "import pytest\n\n@pytest.mark.xfail\n" + ONE,
        None,
        "is skipped or marked",
    ),
    "no promise in the tests": ("x = 1\n", ("test_one",), "not collected: test_one"),
    "a promise too many": (ONE, (), "not in the manifest: test_one"),
    "a promise too few": (ONE, ("test_one", "test_two"), "not collected: test_two"),
    "a class of tests": (
        "class TestIt:\n    def test_one(self):\n        pass\n",
        ("test_one",),
        "manifest differ",
    ),
    "an unknown mark": (
        "import pytest\n@pytest.mark.unheard\ndef test_one(subject):\n    pass\n",
        None,
        "cannot be collected",
    ),
    "tests that are no Python": ("def test_one(subject) pass\n", ("test_one",), "be collected"),
    "an argument that cannot be passed": (
        "def test_one(subject):\n    subject.one(object())\n",
        None,
        "a test passes what the judge cannot",
    ),
    "a write into what came back": (
        "def test_one(subject):\n    subject.ones().add_(1)\n    out = subject.ones()\n"
        "    out += 1\n    subject.ones()\n",
        None,
        "clone the tensor first",
    ),
}


@pytest.mark.parametrize(("tests", "manifest", "sentence"), UNSOUND.values(), ids=UNSOUND)
def test_unsound_tests_are_our_failure(
    in_court: InCourt, tests: str, manifest: tuple[str, ...] | None, sentence: str
) -> None:
    source = f"import torch\n{RIGHT}\ndef ones():\n    return torch.ones(1)\n"

    ruling, _ = in_court(source, tests, promises=manifest)

    assert ruling.kind is VerdictKind.ENVIRONMENT
    assert sentence in ruling.reason


def test_a_name_that_is_taken_is_our_failure(in_court: InCourt) -> None:
    for name in ("torch", "no identifier"):
        ruling, _ = in_court(RIGHT, ONE, name=name)

        assert ruling.kind is VerdictKind.ENVIRONMENT
        assert repr(name) in ruling.reason


@pytest.mark.parametrize(
    "told",
    [
        pytest.param([], id="nothing"),
        pytest.param([{"name": "test_one", "outcome": "wrong"}], id="a broken promise"),
        pytest.param([{"name": "test_two", "outcome": "kept"}], id="another promise"),
    ],
)
def test_a_file_is_fixed_only_if_every_promise_was_seen_to_be_kept(
    monkeypatch: pytest.MonkeyPatch, trial: Callable[..., Trial], told: list[dict[str, str]]
) -> None:
    """Whatever a court rules."""

    class HastyCourt:
        def __init__(self, *_: object, **__: object) -> None: ...

        def hold(self, _: Trial) -> Iterator[dict[str, str]]:
            yield from ({"event": "promise_ended", "detail": "", **promise} for promise in told)
            yield {"event": "ruling", "kind": "fixed", "reason": "every promise is kept"}

        def end(self) -> None: ...

        close = end

    monkeypatch.setattr("halfhour.generator.judge.client.CourtProcess", HastyCourt)

    with Judge() as judge:
        verdict = judge.verdict(trial(RIGHT, ONE))

    assert verdict.kind is VerdictKind.ENVIRONMENT
    assert verdict.results == ()


def test_a_verdict_that_is_interrupted_ends_its_court(
    monkeypatch: pytest.MonkeyPatch, trial: Callable[..., Trial]
) -> None:
    """A caller that survives Ctrl-C has no process left, and may ask again."""
    ended: list[str] = []

    class InterruptedCourt:
        def __init__(self, *_: object, **__: object) -> None:
            ended.append("begun")

        def hold(self, _: Trial) -> Iterator[dict[str, str]]:
            raise KeyboardInterrupt

        def close(self) -> None:
            ended.append("ended")

    monkeypatch.setattr("halfhour.generator.judge.client.CourtProcess", InterruptedCourt)
    judge = Judge()

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            judge.verdict(trial(RIGHT, ONE))

    assert ended == ["begun", "ended"] * 2


def test_a_hasty_trial_stops_at_the_first_broken_promise(
    judge: Judge, trial: Callable[..., Trial]
) -> None:
    tests = """
def test_a(subject):
    assert subject.f() == 1

def test_b(subject):
    assert subject.f() == 2

def test_c(subject):
    assert subject.f() == 1
"""
    source = "def f():\n    return 1\n"

    hasty = judge.verdict(replace(trial(source, tests), hasty=True))
    fixed = judge.verdict(replace(trial(source, tests.replace("== 2", "> 0")), hasty=True))

    assert hasty.kind is VerdictKind.NOT_FIXED
    assert [result.outcome for result in hasty.results] == [
        Outcome.KEPT,
        Outcome.WRONG,
        Outcome.NOT_REACHED,
    ]
    assert fixed.kind is VerdictKind.FIXED
