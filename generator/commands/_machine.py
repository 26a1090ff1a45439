"""Doors to the heavy rooms: each imports what it needs when it is called, so that commands start
at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AuthorError, UnsoundSubject, UsageError
from ..records import (
    Answer,
    Certificate,
    Mutant,
    Puzzle,
    Subject,
    Trial,
    Verdict,
)

if TYPE_CHECKING:
    from halfhour.mutators import Mutator

    from ..catalogue import Entry
    from ..grade import Graded
    from ..judge.rungs import Protection
    from ..session import Hunt, Session
    from ..soundness import Report

Work = Sequence[tuple[Subject, Mutant, bool]]


def mutators() -> tuple[Mutator, ...]:
    """Return every mutator. Raises AuthorError where one is written wrongly."""
    from halfhour.mutators import MutatorError, all_mutators

    try:
        return all_mutators()
    except MutatorError as error:
        raise AuthorError(str(error).rstrip(".")) from error


def mutators_in_file(file: Path) -> tuple[Mutator, ...]:
    """Return the mutators that any file defines. Raises AuthorError where it is written wrongly."""
    from halfhour.mutators import MutatorError
    from halfhour.mutators import mutators_in_file as read

    try:
        return read(file)
    except MutatorError as error:
        raise AuthorError(str(error).rstrip(".")) from error


def mutator_problems(mutator: Mutator) -> list[str]:
    """Return which rules a mutator breaks, a sentence each; see `contract.mutator_rules`."""
    from ..contract.mutator_rules import problems

    return problems(mutator)


def subject_problems(subject: Subject, folder: Path) -> list[str]:
    """Return which rules a subject breaks, a sentence each; see `contract.subject_rules`."""
    from ..contract.subject_rules import problems

    return problems(subject, folder)


def refuse_a_poor_name(name: str) -> None:
    """Raise UsageError where a mutator cannot be called that."""
    from halfhour.mutators import NAME

    from ..contract.mutator_rules import LEAST_WORDS

    if not NAME.fullmatch(name) or len(name.split("_")) < LEAST_WORDS:
        raise UsageError(
            f"{name!r} is no name for a bug: say it as a sentence of {LEAST_WORDS} words or more in"
            " snake_case, such as top_k_keeps_one_more"
        )


def mutator_file(name: str, topic: str) -> str:
    """Return the text of a new mutator."""
    from ..scaffold import mutator_file as text

    return text(name, topic)


def subject_files(name: str) -> dict[str, str]:
    """Return the texts of a new subject's folder."""
    from ..scaffold import subject_files as texts

    return texts(name)


def catalogue_pages(entries: Sequence[Entry]) -> dict[str, str]:
    """Return the catalogue to read, by file name."""
    from ..page import pages

    return pages(entries)


def plant(
    name: str, text: str, mutators: Sequence[Mutator], *, kinds: Iterable[tuple[str, str]] = ()
) -> tuple[Mutant, ...]:
    """Return the mutants of a text, in reading order; see `plant.plant_text`."""
    from ..plant import plant_text

    return plant_text(name, text, mutators, kinds=kinds)


def trace(subject: Subject) -> Mapping[str, str]:
    """Return what the local variables of a correct file held in one run of its promises.

    Raises UnsoundSubject where its tests cannot be traced.
    """
    from ..certify import seeds
    from ..screen import Screen, Unscreenable

    with Screen() as screen:
        try:
            return screen.profile(subject, seed=seeds(subject)[0]).kinds
        except Unscreenable as error:
            raise UnsoundSubject(f"{subject.file_name} cannot be traced: {error}") from error


def diff(before: str, after: str, file_name: str) -> str:
    """Return the unified diff of two texts."""
    from .. import textdiff

    return textdiff.unified(before, after, file_name)


def craft(
    subjects: Sequence[Subject],
    mutators: Sequence[Mutator],
    *,
    seed: int,
    bugs: int,
    level: int | None,
    disguise: bool,
    blind: bool,
    met: Collection[tuple[str, str]],
    progress: Callable[[str], None],
) -> tuple[Puzzle, Answer]:
    """Return a certified puzzle; see `craft.craft`."""
    from ..craft import craft as craft_one

    return craft_one(
        subjects,
        mutators,
        seed=seed,
        bugs=bugs,
        level=level,
        disguise=disguise,
        blind=blind,
        met=met,
        progress=progress,
    )


def certify(work: Work, *, jobs: int, device: str) -> Iterator[Certificate]:
    """Return the certificates of the work, in its order; see `certify.certify_all`."""
    from ..certify import certify_all

    return certify_all(work, jobs=jobs, device=device)


def twins(certificates: Sequence[Certificate]) -> dict[str, Certificate]:
    """Return the certified mutants that repeat another; see `survivors.twins`."""
    from ..survivors import twins as find

    return find(certificates)


def explain_survivors(work: Sequence[tuple[Subject, Mutant]]) -> Iterator[tuple[str, str]]:
    """Yield why each mutant keeps every promise, by its id; see `survivors.explain`."""
    from ..screen import Screen
    from ..survivors import explain

    with Screen() as screen:
        for subject, mutant in work:
            yield mutant.id, explain(screen, subject, mutant)


def prove(subject: Subject, *, mutants: bool, progress: Callable[[str], None]) -> Report:
    """Return what was found of a correct file and, if wanted, of its mutants.

    See `soundness.prove`.
    """
    from ..soundness import prove as prove_one

    catalogue = {mutator.name: mutator for mutator in mutators()} if mutants else {}
    everything = list(catalogue.values())
    planted = plant(subject.name, subject.source, everything, kinds=subject.kinds)
    work = [(mutant, catalogue[mutant.mutator].crash_is_the_bug) for mutant in planted]
    return prove_one(subject, work, progress=progress)


def degenerate_words(answer: str) -> str:
    """Say what a degenerate file answers."""
    from ..degenerate import ANSWERS

    return ANSWERS[answer]


def read_submission(path: Path) -> str:
    """Return the text of the candidate's file. Raises InvalidSubmission."""
    from ..judge import read_submission as read

    return read(path)


def judge(trial: Trial, *, device: str) -> Verdict:
    """Return the verdict on one file, from a judge that is warm if there can be one."""
    from ..judge import Judge, warm

    if ruled := warm.verdict(trial, device=device):
        return ruled
    with Judge(device=device) as judge:
        return judge.verdict(trial)


def hunt(
    folder: Path,
    puzzle: Puzzle,
    log: Session,
    actions: Mapping[str, Callable[[str, bool], None]],
    *,
    clock: Callable[[Hunt], str],
    record: bool,
    poll: bool,
    plain: bool,
) -> None:
    """Sit at a puzzle until the candidate quits; see `hunt.loop`."""
    from ..hunt.loop import Hunting

    Hunting(folder, puzzle, log, actions, clock=clock, record=record, poll=poll, plain=plain).run()


def grade(
    answer: Answer, name: str, files: Sequence[Path], *, device: str, accept_risk: bool
) -> Iterator[Graded]:
    """Return what became of each file; see `grade.grade`."""
    from ..grade import grade as grade_all

    return grade_all(answer, name, files, device=device, accept_risk=accept_risk)


def protection() -> Protection:
    """Try everything in children; return the strongest rung and what was really refused there."""
    from ..judge import rungs

    return rungs.probe()


def meaning_of(rung: str) -> str:
    """Say what a worker on this rung is kept from, and what it is not kept from."""
    from ..judge import Rung

    return Rung(rung).sentence
