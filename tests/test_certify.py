"""A mutant becomes a puzzle only if it is silently wrong; every other one is told why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import toy
from homes import make_home

from halfhour.generator import certify
from halfhour.generator.cache import ProofCache
from halfhour.generator.certify import Certifier, certify_all
from halfhour.generator.difficulty import level
from halfhour.generator.errors import JudgeError, UnsoundSubject
from halfhour.generator.judge import Judge, Limits
from halfhour.generator.records import (
    Mutant,
    Outcome,
    PromiseResult,
    Status,
    Trial,
    Verdict,
    VerdictKind,
)
from halfhour.generator.screen import Screen

TOO_SMALL = ("test_mean_is_sum_over_count", "test_spread_ignores_a_shift", "test_spread_by_hand")
"""What it breaks."""
SCREEN = Screen()
"""One process for all: it is started when it is first asked, and ends with this one."""

WRONG_DIVISOR = ("total / len(values)", "total / (len(values) + (len(values) > 1))")


def certifier_with(judge: Judge, cache: ProofCache) -> Certifier:
    return Certifier(judge, cache, screen=SCREEN)


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(limits=Limits(load_s=5, call_s=2, verdict_s=20), many=True) as judge:
        yield judge


@pytest.fixture(scope="module")
def certifier(judge: Judge, tmp_path_factory: pytest.TempPathFactory) -> Certifier:
    return certifier_with(judge, ProofCache(tmp_path_factory.mktemp("proofs")))


class NoJudge(Judge):
    """Stands where nothing may be judged."""

    device = "cpu"

    def __init__(self) -> None:
        pass

    def verdict(self, trial: Trial) -> Verdict:
        raise AssertionError(f"judged {trial.name}")


class SickJudge(NoJudge):
    def verdict(self, trial: Trial) -> Verdict:
        return Verdict(VerdictKind.ENVIRONMENT, f"no worker for {trial.name}")


class ScriptedJudge(NoJudge):
    """Keeps every promise, but for those that the script breaks in the mutant's hidden runs."""

    def __init__(self, broken_by_run: list[set[str]]) -> None:
        self._broken_by_run = iter([*broken_by_run, set[str](), set[str]()])

    def verdict(self, trial: Trial) -> Verdict:
        mutant_and_hidden = trial.source != toy.SOURCE and len(trial.promises) > 1
        broken = next(self._broken_by_run) if mutant_and_hidden else set[str]()
        results = tuple(
            PromiseResult(p, Outcome.WRONG if p.name in broken else Outcome.KEPT)
            for p in trial.promises
        )
        kind = VerdictKind.NOT_FIXED if broken else VerdictKind.FIXED
        return Verdict(kind, "scripted", results)


def test_a_silent_wrong_value_is_certified_with_the_promises_it_breaks(
    certifier: Certifier,
) -> None:
    certificate = certifier.certify(toy.subject(), toy.mutant(*WRONG_DIVISOR))

    assert certificate.status is Status.CERTIFIED
    assert certificate.broken == (
        "test_mean_is_sum_over_count",
        "test_spread_ignores_a_shift",
        "test_spread_by_hand",
    )
    assert certificate.level == 1
    assert certificate.line == 11


@pytest.mark.parametrize(
    ("old", "new", "status", "says"),
    [
        pytest.param("total += value", "total = value + total", Status.EQUIVALENT, "no promise"),
        pytest.param(
            "def mean(", "print(undefined)\n\n\ndef mean(", Status.NOISY, "undefined", id="a name"
        ),
        pytest.param(
            "    total = 0.0\n",
            "    total = 1.0\n    total -= 1.0\n    total += 1.0\n    total -= 1.0\n",
            Status.NOISY,
            "lines differ",
            id="a long edit",
        ),
        pytest.param('"""Mean', 'int("x")\n"""Mean', Status.CRASHES, "ValueError", id="at import"),
        pytest.param(
            "middle = mean(values)",
            "middle = mean(values[9:])",
            Status.CRASHES,
            "spread",
            id="in a call",
        ),
        pytest.param("total = 0.0", "total = 1.0", Status.VISIBLE, "test_mean_of_one_value"),
        pytest.param(
            "return mean([abs(value - middle) for value in values])",
            "while len(values) > 1:\n        middle += 0\n    return middle",
            Status.TIMEOUT,
            "test_spread",
        ),
    ],
)
def test_every_other_mutant_is_refused_with_its_reason(
    certifier: Certifier, old: str, new: str, status: Status, says: str
) -> None:
    certificate = certifier.certify(toy.subject(), toy.mutant(old, new))

    assert certificate.status is status, certificate.sentence
    assert says in certificate.sentence
    assert certificate.broken == ()
    assert certificate.level == 0


@pytest.mark.parametrize(
    "broken_by_run",
    [
        pytest.param([{"test_spread_by_hand"}, set()], id="only under one seed"),
        pytest.param([set(), {"test_spread_by_hand"}], id="only under the other seed"),
        pytest.param(
            [{"test_spread_by_hand"}, {"test_spread_by_hand"}, set()], id="not when repeated"
        ),
        pytest.param(
            [{"test_spread_by_hand"}, {"test_spread_ignores_a_shift"}, {"test_spread_by_hand"}],
            id="another under each seed",
        ),
    ],
)
def test_a_mutant_that_no_promise_sees_in_every_run_is_flaky(
    tmp_path: Path, broken_by_run: list[set[str]]
) -> None:
    certifier = certifier_with(ScriptedJudge(broken_by_run), ProofCache(tmp_path))

    certificate = certifier.certify(toy.subject(), toy.mutant(*WRONG_DIVISOR))

    assert certificate.status is Status.FLAKY
    assert "test_spread_by_hand" in certificate.sentence


def test_a_promise_that_breaks_under_some_seeds_only_is_told_apart(tmp_path: Path) -> None:
    """Its inputs are drawn: that is no reason to refuse a bug that another promise always sees."""
    always, sometimes = "test_spread_by_hand", "test_spread_ignores_a_shift"
    runs = [{always, sometimes}, {always}, {always, sometimes}]

    certificate = certifier_with(ScriptedJudge(runs), ProofCache(tmp_path)).certify(
        toy.subject(), toy.mutant(*WRONG_DIVISOR)
    )

    assert certificate.status is Status.CERTIFIED
    assert certificate.broken == (always,)
    assert certificate.unsteady == (sometimes,)


def test_a_crash_counts_where_the_mutator_says_that_it_is_the_bug(certifier: Certifier) -> None:
    crashing = toy.mutant("middle = mean(values)", "middle = mean(values[9:])")

    certificate = certifier.certify(toy.subject(), crashing, crash_is_the_bug=True)

    assert certificate.status is Status.CERTIFIED
    assert set(certificate.broken) == {"test_spread_ignores_a_shift", "test_spread_by_hand"}


def test_a_correct_file_that_breaks_a_promise_makes_no_puzzles(certifier: Certifier) -> None:
    unsound = toy.subject(source=toy.SOURCE.replace("total / len(values)", "total / 2"))

    with pytest.raises(UnsoundSubject, match="test_mean_of_one_value"):
        certifier.check_subject(unsound)


ONE_BROKEN = [{"test_spread_by_hand"}] * 3


def test_a_proof_is_made_once(tmp_path: Path) -> None:
    subject, mutant, cache = toy.subject(), toy.mutant(*WRONG_DIVISOR), ProofCache(tmp_path)
    first = certifier_with(ScriptedJudge(ONE_BROKEN), cache).certify(subject, mutant)

    assert certifier_with(NoJudge(), cache).certify(subject, mutant) == first


@pytest.mark.parametrize("changed", ["source", "visible", "hidden"])
def test_a_proof_is_not_trusted_for_a_changed_file(tmp_path: Path, changed: str) -> None:
    mutant, cache = toy.mutant(*WRONG_DIVISOR), ProofCache(tmp_path)
    certifier_with(ScriptedJudge(ONE_BROKEN), cache).certify(toy.subject(), mutant)
    texts = {"source": toy.SOURCE, "visible": toy.VISIBLE, "hidden": toy.HIDDEN}
    other = toy.subject(**{changed: texts[changed] + "# changed\n"})

    with pytest.raises(AssertionError, match="judged toy"):
        certifier_with(NoJudge(), cache).certify(other, mutant)


def test_a_damaged_proof_is_made_again(tmp_path: Path) -> None:
    subject, mutant, cache = toy.subject(), toy.mutant(*WRONG_DIVISOR), ProofCache(tmp_path)
    first = certifier_with(ScriptedJudge(ONE_BROKEN), cache).certify(subject, mutant)
    for kept in tmp_path.rglob("*.json"):
        kept.write_text("{", encoding="utf-8")

    assert certifier_with(ScriptedJudge(ONE_BROKEN), cache).certify(subject, mutant) == first


def test_a_failure_of_the_judge_is_never_a_status(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="no worker for toy"):
        certifier_with(SickJudge(), ProofCache(tmp_path)).certify(
            toy.subject(), toy.mutant(*WRONG_DIVISOR)
        )


def test_certificates_come_in_the_order_of_the_work_whatever_the_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, court: Judge
) -> None:
    monkeypatch.setattr(certify, "Judge", lambda **_: nullcontext(court))
    monkeypatch.setenv("HALFHOUR_HOME", str(make_home(tmp_path / "home")))
    mutants = [
        toy.mutant("total += value", "total = value + total"),
        toy.mutant(*WRONG_DIVISOR),
        toy.mutant("total = 0.0", "total = 1.0"),
    ]

    def statuses(jobs: int, work: list[Mutant]) -> list[Status]:
        upheld: Counter[bool] = Counter()
        found = list(
            certify_all([(toy.subject(), m, False) for m in work], jobs=jobs, upheld=upheld)
        )
        assert upheld == {True: 1}, "of a proof that was kept, too"
        return [certificate.status for certificate in found]

    assert statuses(2, mutants) == [Status.EQUIVALENT, Status.CERTIFIED, Status.VISIBLE]
    assert statuses(1, mutants[::-1]) == [Status.VISIBLE, Status.CERTIFIED, Status.EQUIVALENT]


def test_only_mutants_that_pass_the_screen_are_judged(
    tmp_path: Path,
) -> None:
    crashes = toy.mutant("total = 0.0", "total = None")
    equivalent = toy.mutant("total += value", "total = value + total")
    certifier = certifier_with(NothingButTheOriginal(), ProofCache(tmp_path))

    found = certifier.certify_screened(toy.subject(), [(crashes, False), (equivalent, False)])

    assert [c.status for c in found] == [Status.VISIBLE, Status.EQUIVALENT]


class NothingButTheOriginal(NoJudge):
    """Keeps every promise of the correct file; judges nothing else."""

    def verdict(self, trial: Trial) -> Verdict:
        assert trial.source == toy.SOURCE
        results = tuple(PromiseResult(p, Outcome.KEPT) for p in trial.promises)
        return Verdict(VerdictKind.FIXED, "scripted", results)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_passes_the_screen_is_confirmed_by_the_judge_at_times_with_two_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(certify, "_ONE_IN", 1 if threads == 2 else 1 << 20)
    judge = Agreeing(set(TOO_SMALL))
    certifier = certifier_with(judge, ProofCache(tmp_path))

    (found,) = certifier.certify_screened(toy.subject(), [(toy.mutant(*WRONG_DIVISOR), False)])

    assert found.status is Status.CERTIFIED
    assert found.broken == TOO_SMALL
    assert [(t.seed, t.threads) for t in judge.of_the_mutant] == [
        (found.seeds[0], 1),  # the visible test
        (found.seeds[1], threads),
    ]
    assert certifier.upheld == {True: 1}


class Agreeing(NoJudge):
    """Breaks these promises in every run of a mutant; remembers the runs."""

    def __init__(self, broken: set[str]) -> None:
        self.of_the_mutant: list[Trial] = []
        self._broken = broken

    def verdict(self, trial: Trial) -> Verdict:
        original = trial.source == toy.SOURCE
        if not original:
            self.of_the_mutant.append(trial)
        results = tuple(
            PromiseResult(
                p, Outcome.WRONG if p.name in self._broken and not original else Outcome.KEPT
            )
            for p in trial.promises
        )
        broken = any(not result.kept for result in results)
        return Verdict(VerdictKind.NOT_FIXED if broken else VerdictKind.FIXED, "scripted", results)


def test_where_the_judge_sees_something_else_the_screen_counts_for_nothing(
    tmp_path: Path,
) -> None:
    certifier = certifier_with(Agreeing(set()), ProofCache(tmp_path))

    (found,) = certifier.certify_screened(toy.subject(), [(toy.mutant(*WRONG_DIVISOR), False)])

    assert found.status is Status.EQUIVALENT
    assert certifier.upheld == {False: 1}


def test_tests_that_only_pytest_can_run_are_left_to_the_judge(tmp_path: Path) -> None:
    marked = toy.HIDDEN.replace(
        "def test_spread_by_hand", "@pytest.mark.usefixtures()\ndef test_spread_by_hand"
    )
    judge = Agreeing(set(TOO_SMALL))
    subject = toy.subject(hidden=marked)
    certifier = certifier_with(judge, ProofCache(tmp_path))

    (found,) = certifier.certify_screened(subject, [(toy.mutant(*WRONG_DIVISOR), False)])

    assert found.status is Status.CERTIFIED
    assert len(judge.of_the_mutant) == 4  # the visible test, and both seeds, one of them twice


def test_a_certificate_says_why_it_is_of_its_level(certifier: Certifier) -> None:
    certificate = certifier.certify(toy.subject(), toy.mutant(*WRONG_DIVISOR))

    assert [term.name for term in certificate.terms] == ["few", "special", "unlit", "deep", "small"]
    assert certificate.level == level(certificate.terms)
