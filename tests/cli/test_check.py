"""`halfhour check`: one verdict, its exit code, and never what a test expected."""

from __future__ import annotations

from pathlib import Path

import handmade
import pytest
import toy
from standins import FakeJudge, Run, the_object

from halfhour.generator import store
from halfhour.generator.errors import InvalidSubmission, JudgeError
from halfhour.generator.records import Outcome, PromiseResult, Verdict, VerdictKind
from halfhour.generator.session import Session


def test_not_fixed_names_the_broken_promises_and_exits_with_one(
    run: Run, hunt: Path, judge: FakeJudge
) -> None:
    ended = run("check", str(hunt))

    assert ended.exit_code == 1
    assert judge.devices == ["auto"]
    assert ended.stdout.splitlines() == [
        "not fixed: 2 of 4 promises are kept",
        "  test_mean_is_sum_over_count",
        "      The mean is the sum divided by the count.",
        "  test_spread_by_hand",
        "      The spread of 1, 2 and 6 is two.",
    ]
    assert "a hint: halfhour hint puzzles/0badcafe" in ended.stderr
    assert "of 30 minutes left" in ended.stderr


def test_fixed_exits_with_zero_and_points_to_the_reveal(
    run: Run, hunt: Path, judge: FakeJudge
) -> None:
    judge.broken = ()

    ended = run("check", str(hunt))

    assert ended.exit_code == 0
    assert ended.stdout == "fixed: all 4 promises are kept\n"
    assert "solved in 0:00 minutes of 30" in ended.stderr
    assert "halfhour reveal puzzles/0badcafe" in ended.stderr


def test_the_trial_is_the_edited_file_against_the_sealed_promises(
    run: Run, hunt: Path, judge: FakeJudge
) -> None:
    (hunt / "toy.py").write_text("mine = 1\n", encoding="utf-8")
    run("check", str(hunt), "--device", "cpu")
    run("check", str(hunt))

    first, second = judge.trials
    assert first.source == "mine = 1\n"
    assert first.name == "toy"
    assert first.tests == toy.HIDDEN
    assert first.promises == handmade.answer().promises
    assert first.public_names == ("mean", "spread")
    assert first.seed != second.seed
    assert judge.devices == ["cpu", "auto"]


def test_no_detail_of_a_test_reaches_the_candidate(run: Run, hunt: Path, judge: FakeJudge) -> None:
    assert judge.broken

    for options in ([], ["--json"], ["--debug"]):
        assert "3 != 4" not in run("check", str(hunt), *options).output


def test_quiet_promises_tells_the_count_alone(run: Run, hunt: Path, judge: FakeJudge) -> None:
    assert judge.broken

    ended = run("check", str(hunt), "--quiet-promises")
    as_json = the_object(run("check", str(hunt), "--quiet-promises", "--json"))

    assert ended.stdout == "not fixed: 2 of 4 promises are kept\n"
    assert as_json["promises"] == []
    assert (as_json["kept"], as_json["of"]) == (2, 4)


def test_the_json_object(run: Run, hunt: Path, judge: FakeJudge) -> None:
    assert judge.broken

    ended = run("check", str(hunt), "--json")

    assert ended.exit_code == 1
    assert the_object(ended) == {
        "schema": 1,
        "puzzle": "0badcafe",
        "subject": "toy",
        "verdict": "not_fixed",
        "reason": "a reason",
        "regressed": False,
        "kept": 2,
        "of": 4,
        "promises": [
            {"name": p.name, "text": p.text, "kept": p.name not in handmade.BROKEN}
            for p in handmade.answer().promises
        ],
        "device": "cpu",
        "rung": "process",
        "seconds": 0.123,
        "late": False,
    }


def test_a_promise_that_the_bug_kept_and_the_edit_breaks_is_a_regression(
    run: Run, hunt: Path, judge: FakeJudge
) -> None:
    judge.broken, judge.before = ("test_no_values_are_refused",), handmade.BROKEN
    (hunt / "toy.py").write_text("edited = True\n", encoding="utf-8")

    ended = run("check", str(hunt))

    assert "  test_no_values_are_refused  (kept when you started)" in ended.stdout
    assert the_object(run("check", str(hunt), "--json"))["regressed"] is True


def test_a_promise_that_the_bug_breaks_under_this_seed_is_no_regression(
    run: Run, hunt: Path, judge: FakeJudge
) -> None:
    """What the certificate's seeds did not show is tried with the file as handed out."""
    judge.broken = judge.before = ("test_no_values_are_refused",)
    (hunt / "toy.py").write_text("edited = True\n", encoding="utf-8")

    ended = run("check", str(hunt))

    assert "  test_no_values_are_refused\n" in ended.stdout
    edited, handed_out = judge.trials
    assert (edited.seed, handed_out.source) == (handed_out.seed, handmade.puzzle().source)
    assert the_object(run("check", str(hunt), "--json"))["regressed"] is False


def test_what_was_not_reached_is_no_regression(run: Run, hunt: Path, judge: FakeJudge) -> None:
    judge.broken = ("test_no_values_are_refused",)
    judge.outcome = Outcome.NOT_REACHED

    ended = run("check", str(hunt))

    assert "test_no_values_are_refused" not in ended.stdout
    assert "1 more was not reached: a reason" in ended.stdout
    assert the_object(run("check", str(hunt), "--json"))["regressed"] is False


@pytest.mark.parametrize("raised", [True, False], ids=["raised", "returned"])
def test_an_invalid_file_exits_with_three(
    run: Run, hunt: Path, judge: FakeJudge, raised: bool
) -> None:
    sentence = "toy.py does not load: SyntaxError at line 3"
    verdict = Verdict(VerdictKind.INVALID, sentence)
    judge.says = InvalidSubmission(sentence) if raised else verdict

    ended = run("check", str(hunt))
    as_json = the_object(run("check", str(hunt), "--json"))

    assert ended.exit_code == 3
    assert ended.stdout == f"invalid: {sentence}\n"
    assert "halfhour reset puzzles/0badcafe" in ended.stderr
    assert (as_json["verdict"], as_json["reason"]) == ("invalid", sentence)


@pytest.mark.parametrize("raised", [True, False], ids=["raised", "returned"])
def test_a_failure_of_ours_exits_with_four_and_costs_nothing(
    run: Run, hunt: Path, judge: FakeJudge, raised: bool
) -> None:
    verdict = Verdict(VerdictKind.ENVIRONMENT, "no such device")
    judge.says = JudgeError("no such device") if raised else verdict

    ended = run("check", str(hunt), "--device", "cuda", "--json")

    assert ended.exit_code == 4
    assert the_object(ended)["verdict"] == "environment"
    assert "halfhour doctor" in ended.stderr
    assert Session(hunt, handmade.puzzle()).hunt.checks == ()


def test_debug_shows_the_traceback_of_a_failure_of_ours(
    run: Run, hunt: Path, judge: FakeJudge
) -> None:
    judge.says = JudgeError("the worker died")

    assert "Traceback" not in run("check", str(hunt)).output
    assert "Traceback" in run("check", str(hunt), "--debug").stderr


def test_each_check_is_remembered(run: Run, hunt: Path, judge: FakeJudge) -> None:
    run("check", str(hunt))
    judge.broken = ()
    run("check", str(hunt))

    checks = Session(hunt, handmade.puzzle()).hunt.checks
    assert [(c.verdict, c.kept, c.promises) for c in checks] == [
        (VerdictKind.NOT_FIXED, 2, 4),
        (VerdictKind.FIXED, 4, 4),
    ]


def test_the_puzzle_is_the_working_folder(
    run: Run, hunt: Path, judge: FakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert judge.broken
    monkeypatch.chdir(hunt)

    ended = run("check")

    assert ended.exit_code == 1
    assert ended.stderr.rstrip().endswith("a hint: halfhour hint")


def test_the_puzzle_is_else_the_hunt_under_way(
    run: Run, hunt: Path, judge: FakeJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert judge.broken
    Session(hunt, handmade.puzzle()).start()
    monkeypatch.chdir(tmp_path)

    assert run("check").exit_code == 1


def test_without_a_puzzle_there_is_nothing_to_check(run: Run, judge: FakeJudge) -> None:
    ended = run("check")

    assert ended.exit_code == 2
    assert "start one with: halfhour new" in ended.stderr
    assert judge.trials == []


def test_the_bell_is_said_and_locks_nothing(
    run: Run, hunt: Path, judge: FakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Session(hunt, handmade.puzzle(), clock=lambda: 0.0)
    log.start()
    assert judge.broken

    ended = run("check", str(hunt), "--json")
    monkeypatch.chdir(hunt)

    assert ended.exit_code == 1
    assert the_object(ended)["late"] is True
    assert "the bell rang" in run("check").stderr


def test_a_missing_answer_is_unsound_not_the_candidates_failure(
    run: Run, hunt: Path, judge: FakeJudge
) -> None:
    (hunt / store.SEAL).unlink()

    ended = run("check", str(hunt), "--json")

    assert ended.exit_code == 4
    found = the_object(ended)
    assert found["exit_code"] == 4
    assert "answer.sealed is missing" in found["error"]
    assert judge.trials == []


def test_a_result_of_nobody_is_not_kept(run: Run, hunt: Path, judge: FakeJudge) -> None:
    """A verdict without results says 0 of 0, never that all is well."""
    promise = handmade.answer().promises[0]
    judge.says = Verdict(
        VerdictKind.NOT_FIXED, "the process died", (PromiseResult(promise, Outcome.DIED),)
    )

    assert run("check", str(hunt)).stdout.startswith("not fixed: 0 of 1 promises are kept\n")
