"""Grading: each file under two seeds, the worse run counts, and nothing stops the rest."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import handmade
import pytest
import toy

from halfhour.generator import grade
from halfhour.generator.errors import EnvironmentFault
from halfhour.generator.judge import protection
from halfhour.generator.judge.rungs import Rung
from halfhour.generator.records import Trial, Verdict, VerdictKind


class ScriptedJudge:
    """Rules as it is told, trial after trial."""

    device = "cpu"

    def __init__(self, *kinds: VerdictKind) -> None:
        self.kinds = iter(kinds)
        self.trials: list[Trial] = []

    def __call__(self, **_: object) -> ScriptedJudge:
        return self

    def __enter__(self) -> ScriptedJudge:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def verdict(self, trial: Trial) -> Verdict:
        self.trials.append(trial)
        return Verdict(next(self.kinds), f"run {len(self.trials)}")


FIXED, NOT_FIXED = VerdictKind.FIXED, VerdictKind.NOT_FIXED


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "toy.py"
    path.write_text(toy.SOURCE, encoding="utf-8")
    return path


def graded(monkeypatch: pytest.MonkeyPatch, judge: ScriptedJudge, *files: Path) -> list[Verdict]:
    monkeypatch.setattr(grade, "Judge", judge)
    monkeypatch.setattr(grade, "rung_for_others", lambda *_, **__: Rung.L3)
    draw = count(7).__next__
    return [each.verdict for each in grade.grade(handmade.answer(), "toy", files, draw=draw)]


def test_a_file_is_fixed_if_both_runs_say_so(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    judge = ScriptedJudge(FIXED, FIXED)

    (verdict,) = graded(monkeypatch, judge, file)

    assert verdict.kind is FIXED
    assert [trial.seed for trial in judge.trials] == [7, 8]
    assert {trial.source for trial in judge.trials} == {toy.SOURCE}


def test_one_run_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    second = graded(monkeypatch, ScriptedJudge(FIXED, NOT_FIXED), file)
    first = ScriptedJudge(NOT_FIXED)

    assert second == [Verdict(NOT_FIXED, "run 2")]
    assert graded(monkeypatch, first, file) == [Verdict(NOT_FIXED, "run 1")]


def test_a_file_that_cannot_be_read_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, file: Path, tmp_path: Path
) -> None:
    missing = tmp_path / "none.py"

    verdicts = graded(monkeypatch, ScriptedJudge(FIXED, FIXED), missing, file)

    assert [verdict.kind for verdict in verdicts] == [VerdictKind.INVALID, FIXED]
    assert str(missing) in verdicts[0].reason


def test_nothing_runs_where_the_machine_is_too_weak(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    judge = ScriptedJudge()
    monkeypatch.setattr(grade, "Judge", judge)
    monkeypatch.setattr(protection, "_remembered", lambda *_: Rung.L0)

    with pytest.raises(EnvironmentFault, match="--accept-risk"):
        list(grade.grade(handmade.answer(), "toy", [file]))
    assert not judge.trials
