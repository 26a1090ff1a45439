"""Doors to the heavy rooms: each imports what it needs when it is called, so that commands start
at once."""

from __future__ import annotations

from collections import Counter
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
    from ..grading.names import Names
    from ..grading.records import Graded, Submission
    from ..grading.report import Row
    from ..grading.run import Progress
    from ..judge.rungs import Protection
    from ..pack.answers import Answers
    from ..pack.manifest import Manifest as PackManifest
    from ..pack.order import Order
    from ..pack.site import Published
    from ..pack.verify import Pack, Proof
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


def certify(
    work: Work, *, jobs: int, device: str, upheld: Counter[bool] | None = None
) -> Iterator[Certificate]:
    """Return the certificates of the work, in its order; see `certify.certify_all`."""
    from ..certify import certify_all

    return certify_all(work, jobs=jobs, device=device, upheld=upheld)


def standing_pack(folder: Path, order: Order) -> PackManifest | None:
    """Return the manifest of a week that is there as ordered; see `pack.standing`."""
    from ..pack.standing import standing

    return standing(folder, order)


def make_pack(
    order: Order,
    met: Collection[tuple[str, str]],
    folder: Path,
    *,
    progress: Callable[[int, int], None],
) -> PackManifest:
    """Build a week and write its files, whole or not at all; see `pack.build`."""
    from .. import library
    from ..pack.build import Catalogue, build
    from ..pack.standing import standing, write
    from ..pack.table import read_table

    catalogue = Catalogue(
        read_table(), library.find_subject, {mutator.name: mutator for mutator in mutators()}
    )
    write(folder, build(order, catalogue, met, progress=progress))
    written = standing(folder, order)
    assert written is not None
    return written


def open_pack(file: Path, answers: Path | None) -> Pack:
    """Return both zips of a week; see `pack.verify.open_pack`."""
    from ..pack.verify import open_pack as open_both

    return open_both(file, answers)


def pack_differences(pack: Pack) -> list[str]:
    """Return in what a week's answers are not those of its puzzles, a sentence each."""
    from ..pack.verify import differences

    return list(differences(pack))


def prove_pack(pack: Pack, *, progress: Callable[[str], None]) -> Iterator[Proof]:
    """Yield the proof of each puzzle of a week; see `pack.verify.prove`."""
    from ..judge import Judge
    from ..pack.verify import prove as prove_all

    with Judge(many=True) as judge:
        yield from prove_all(pack, judge, progress=progress)


def unpack(file: Path, to: Path) -> tuple[Path, bool]:
    """Write what lies in a zip of a week; see `pack.unpack.unpack`."""
    from ..pack.unpack import unpack as unpack_one

    return unpack_one(file, to)


def publish_packs(source: Path, folder: Path, *, reveal: bool) -> Sequence[str]:
    """Copy what may be known of the weeks in a folder to another; see `pack.publish`."""
    from ..pack.publish import publish

    return publish(source, folder, reveal=reveal)


def write_site(folder: Path, base_url: str) -> tuple[Sequence[Published], Sequence[str]]:
    """Write the index and the feed of the weeks in a folder; return these, and what changed."""
    from ..pack import site

    weeks = site.published(folder)
    return weeks, site.write_site(folder, site.site_files(weeks, base_url))


def certified_table(work: Work, certificates: Sequence[Certificate]) -> bytes:
    """Return the text of the table of what is certified; see `pack.table`."""
    from ..pack.table import table_bytes, table_of

    planted: dict[str, list[Mutant]] = {}
    for subject, mutant, _ in work:
        planted.setdefault(subject.name, []).append(mutant)
    subjects = {subject.name: subject for subject, _, _ in work}
    topics = {mutator.name: mutator.topic for mutator in mutators()}
    return table_bytes(table_of(certificates, planted, subjects.values(), topics))


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


def answers(path: Path) -> Answers:
    """Return the answers to grade by; see `pack.answers.read_answers`."""
    from ..pack.answers import read_answers

    return read_answers(path)


def names(path: Path) -> Names:
    """Return who handed in what; see `grading.names.read_names`."""
    from ..grading.names import read_names

    return read_names(path)


def submissions(
    paths: Sequence[Path], answers: Answers, *, names: Names | None, leave_out: Collection[Path]
) -> tuple[Submission, ...]:
    """Return everything that was handed in; see `grading.intake.submissions`."""
    from ..grading.intake import submissions as find

    puzzles = [puzzle for puzzle, _ in answers.puzzles]
    return find(paths, puzzles, names=names, leave_out=leave_out)


def grade(
    answers: Answers,
    submissions: Sequence[Submission],
    *,
    jobs: int,
    scheduler: str | None,
    device: str,
    accept_risk: bool,
    journal: Path | None,
    fresh: bool,
    report: Callable[[Progress], None],
) -> tuple[Graded, ...]:
    """Return what became of each submission; see `grading.engine.grade_all`."""
    from ..grading.engine import grade_all

    return grade_all(
        answers,
        submissions,
        jobs=jobs,
        scheduler=scheduler,
        device=device,
        accept_risk=accept_risk,
        journal=journal,
        fresh=fresh,
        report=report,
    )


def graded_rows(
    graded: Sequence[Graded], answers: Answers, *, max_lines: int | None
) -> tuple[Row, ...]:
    """Return what is to be said of each submission; see `grading.report.rows`."""
    from ..grading.report import rows

    return rows(graded, answers, max_lines=max_lines)


def graded_why(row: Row, *, quiet: bool) -> str:
    """Say in a line why a verdict is what it is."""
    from ..grading.report import why

    return why(row, quiet=quiet)


def grades_json(rows: Sequence[Row], *, quiet: bool) -> list[dict[str, object]]:
    """Return the rows for scripts."""
    from ..grading.report import as_json

    return [as_json(row, quiet=quiet) for row in rows]


def grades_csv(rows: Sequence[Row], *, quiet: bool) -> str:
    """Return the rows as a table for a spreadsheet."""
    from ..grading.report import csv_text

    return csv_text(rows, quiet=quiet)


def grades_html(rows: Sequence[Row], answers: Answers, *, quiet: bool) -> str:
    """Return the rows as a page to read."""
    from ..grading.report import html_text

    return html_text(rows, answers, quiet=quiet)


def protection() -> Protection:
    """Try everything in children; return the strongest rung and what was really refused there."""
    from ..judge import rungs

    return rungs.probe()


def meaning_of(rung: str) -> str:
    """Say what a worker on this rung is kept from, and what it is not kept from."""
    from ..judge import Rung

    return Rung(rung).sentence
