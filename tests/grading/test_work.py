"""One unit: each text under two seeds, the worse run counts, and nothing secret is needed."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace

import handmade
import pytest
import toy

from halfhour.generator.errors import EnvironmentFault
from halfhour.generator.grading import work
from halfhour.generator.judge import protection
from halfhour.generator.judge.rungs import Rung
from halfhour.generator.records import Outcome, PromiseResult, Trial, Verdict, VerdictKind

FIXED, NOT_FIXED = VerdictKind.FIXED, VerdictKind.NOT_FIXED

MATERIAL = work.material_of(handmade.puzzle(), handmade.answer())


class ScriptedJudge:
    """Rules as it is told, trial after trial."""

    def __init__(self, *kinds: VerdictKind) -> None:
        self.kinds = iter(kinds)
        self.outcome = Outcome.WRONG
        self.seconds = 0.1
        self.trials: list[Trial] = []
        self.made = 0
        self.closed = 0

    def __call__(self, **_: object) -> ScriptedJudge:
        self.made += 1
        return self

    def close(self) -> None:
        self.closed += 1

    def verdict(self, trial: Trial) -> Verdict:
        self.trials.append(trial)
        results = (PromiseResult(trial.promises[0], self.outcome, "3 != 4"),)
        reason = f"run {len(self.trials)}"
        return Verdict(next(self.kinds), reason, results, seconds=self.seconds)


@pytest.fixture(autouse=True)
def _no_judge_is_left() -> Iterator[None]:
    yield
    work.close_judges()


def scripted(monkeypatch: pytest.MonkeyPatch, *kinds: VerdictKind) -> ScriptedJudge:
    judge = ScriptedJudge(*kinds)
    monkeypatch.setattr(work, "Judge", judge)
    monkeypatch.setattr(work, "rung_for_others", lambda *_, **__: Rung.L3)
    return judge


def request(**changed: object) -> work.UnitRequest:
    plain = work.UnitRequest(MATERIAL, toy.SOURCE, seeds=(7, 8))
    return replace(plain, **changed)  # type: ignore[arg-type]


def test_a_file_is_fixed_if_both_runs_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = scripted(monkeypatch, FIXED, FIXED)

    judged = work.judge_unit(request())

    assert (judged.verdict.kind, judged.runs) == (FIXED, 2)
    assert [trial.seed for trial in judge.trials] == [7, 8]
    assert {trial.source for trial in judge.trials} == {toy.SOURCE}
    assert judge.trials[0].tests == handmade.answer().hidden_tests


def test_one_run_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, FIXED, NOT_FIXED)
    second = work.judge_unit(request())
    work.close_judges()
    scripted(monkeypatch, NOT_FIXED)
    first = work.judge_unit(request())

    assert (second.verdict.kind, second.verdict.reason, second.runs) == (NOT_FIXED, "run 2", 2)
    assert (first.verdict.kind, first.verdict.reason, first.runs) == (NOT_FIXED, "run 1", 1)


@pytest.mark.parametrize(
    ("kind", "outcome", "seconds"),
    [
        (NOT_FIXED, Outcome.TIMED_OUT, 9.0),
        (VerdictKind.INVALID, Outcome.WRONG, 9.0),
        (VerdictKind.ENVIRONMENT, Outcome.WRONG, 0.1),
    ],
    ids=["a call is late", "the import is late", "the judge failed"],
)
def test_a_busy_machine_is_not_the_candidates_fault(
    monkeypatch: pytest.MonkeyPatch, kind: VerdictKind, outcome: Outcome, seconds: float
) -> None:
    """The run is tried once more under its seed, and then stands."""
    judge = scripted(monkeypatch, kind, kind)
    judge.outcome, judge.seconds = outcome, seconds

    judged = work.judge_unit(request())

    assert (judged.verdict.kind, judged.verdict.reason, judged.runs) == (kind, "run 2", 1)
    assert [trial.seed for trial in judge.trials] == [7, 7]


def test_expected_values_do_not_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, NOT_FIXED)

    verdict = work.judge_unit(request()).verdict

    assert [result.detail for result in verdict.results] == [""]
    assert handmade.answer().original not in pickle.dumps(request(source="")).decode("latin-1")


def test_a_process_keeps_its_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = scripted(monkeypatch, NOT_FIXED, NOT_FIXED)

    work.judge_unit(request())
    work.judge_unit(request(source="other"))

    assert (judge.made, judge.closed) == (1, 0)
    work.close_judges()
    assert judge.closed == 1


def test_a_judge_that_was_interrupted_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = scripted(monkeypatch)

    def interrupt(_: Trial) -> Verdict:
        raise KeyboardInterrupt

    monkeypatch.setattr(judge, "verdict", interrupt)
    with pytest.raises(KeyboardInterrupt):
        work.judge_unit(request())
    assert judge.closed == 1


def test_material_is_named_by_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it need not travel with each request."""
    scripted(monkeypatch, NOT_FIXED)
    light = work.by_digest(request())

    assert light.material == MATERIAL.digest != replace(MATERIAL, tests="other").digest
    with pytest.raises(EnvironmentFault, match="was not told"):
        work.judge_unit(replace(light, material="0" * 64))
    work.learn([MATERIAL])
    assert work.judge_unit(light).verdict.kind is NOT_FIXED


def test_seeds_follow_from_the_salt_and_the_text_alone() -> None:
    of_one = work.seeds("salt", "a" * 64)

    assert of_one == work.seeds("salt", "a" * 64)
    assert len({*of_one, *work.seeds("salt", "b" * 64), *work.seeds("other", "a" * 64)}) == 6


def test_nothing_runs_where_the_machine_is_too_weak(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = ScriptedJudge()
    monkeypatch.setattr(work, "Judge", judge)
    monkeypatch.setattr(protection, "_remembered", lambda *_: Rung.L0)

    with pytest.raises(EnvironmentFault, match="--accept-risk"):
        work.judge_unit(request())
    assert not judge.made
