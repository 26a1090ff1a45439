"""Make one puzzle: draw a subject and then its mutants, by the seed, until one certifies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from halfhour.mutators import Mutator

from . import render, textdiff
from ._version import VERSION
from .certify import Certifier
from .disguise import disguise as disguised
from .errors import UsageError
from .judge import Judge
from .plant import plant
from .records import (
    Answer,
    Certificate,
    Edit,
    Mutant,
    PlantedBug,
    Puzzle,
    SeenIn,
    Status,
    Subject,
    digest,
)

MINUTES = 30
MOST_BUGS = 4
APART = 3
"""Bugs of one puzzle stand more lines apart than this: two diffs, not one."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Proven:
    """A bug that alone makes a puzzle."""

    subject: Subject
    mutant: Mutant
    mutator: Mutator
    certificate: Certificate


def craft(
    subjects: Sequence[Subject],
    mutators: Sequence[Mutator],
    *,
    seed: int,
    bugs: int = 1,
    level: int | None = None,
    disguise: bool = False,
    progress: Progress = lambda _: None,
) -> tuple[Puzzle, Answer]:
    """Return a certified puzzle with its answer: a pure function of its arguments.

    With a disguise the file is rewritten by the seed before a bug is planted in it. Every bug is
    certified alone: a file with all but one of them mended is still wrong.
    Raises UsageError where no mutant of these subjects and mutators makes such a puzzle.
    """
    with Judge(many=True) as judge:
        certifier = Certifier(judge)
        for drawn in sorted(subjects, key=lambda s: digest(str(seed), s.name)):
            subject = disguised(drawn, seed) if disguise else drawn
            proven: list[_Proven] = []
            for mutant, mutator in _drawn(subject, mutators, seed):
                bug = _prove(certifier, subject, mutant, mutator, progress)
                if bug is None:
                    continue
                for others in combinations(proven, bugs - 1):
                    together = _prove_together(certifier, (*others, bug), progress)
                    if together is None:
                        continue
                    if level is None or together.level == level:
                        return _puzzle((*others, bug), together, seed)
                    progress(f"level {together.level}, not {level}")
                proven.append(bug)
    raise UsageError(_nothing(bugs, level))


def craft_site(
    subject: Subject,
    mutator: Mutator,
    site: int,
    *,
    seed: int,
    disguise: bool = False,
    progress: Progress = lambda _: None,
) -> tuple[Puzzle, Answer]:
    """Return the puzzle of one bug named by its site: how a pack is rebuilt from its recipe.

    With a disguise the sites are those of the file as the seed rewrites it.
    Raises UsageError where the site does not exist or its mutant is no puzzle.
    """
    if disguise:
        subject = disguised(subject, seed)
    mutants = [m for m in plant(subject, [mutator]) if m.site == site]
    if not mutants:
        raise UsageError(f"{mutator.name} has no site {site} in {subject.file_name}")
    with Judge(many=True) as judge:
        bug = _prove(Certifier(judge), subject, mutants[0], mutator, progress)
    if bug is None:
        raise UsageError(f"{mutator.name} at {subject.name}:{mutants[0].line} is not certified")
    return _puzzle((bug,), bug.certificate, seed)


def _drawn(
    subject: Subject, mutators: Sequence[Mutator], seed: int
) -> list[tuple[Mutant, Mutator]]:
    """Return the mutants of a subject in the seed's order, each with its mutator."""
    by_name = {mutator.name: mutator for mutator in mutators}
    found = [(mutant, by_name[mutant.mutator]) for mutant in plant(subject, mutators)]
    return sorted(found, key=lambda choice: digest(str(seed), choice[0].id))


def _prove(
    certifier: Certifier, subject: Subject, mutant: Mutant, mutator: Mutator, progress: Progress
) -> _Proven | None:
    label = f"{mutator.name} at {subject.name}:{mutant.line}"
    progress(f"proving {label}")
    proof = certifier.certify(subject, mutant, crash_is_the_bug=mutator.crash_is_the_bug)
    if proof.status is Status.CERTIFIED:
        return _Proven(subject, mutant, mutator, proof)
    progress(f"{proof.status}: {proof.sentence}")
    return None


def _prove_together(
    certifier: Certifier, bugs: Sequence[_Proven], progress: Progress
) -> Certificate | None:
    """Certify the file with all the bugs in it; None where they stand in each other's way."""
    if len(bugs) == 1:
        return bugs[0].certificate
    lines = sorted(bug.mutant.line for bug in bugs)
    if any(below - above <= APART for above, below in pairwise(lines)):
        return None
    if len({bug.mutator.name for bug in bugs}) < len(bugs):
        return None
    progress(f"proving {len(bugs)} bugs together")
    proof = certifier.certify(bugs[0].subject, _together(bugs), bugs=len(bugs))
    return proof if proof.status is Status.CERTIFIED else None


def _together(bugs: Sequence[_Proven]) -> Mutant:
    subject = bugs[0].subject
    source = subject.source
    for bug in sorted(bugs, key=lambda b: b.mutant.edit.start, reverse=True):
        source = bug.mutant.edit.apply(source)
    return Mutant(
        id=digest(*sorted(bug.mutant.id for bug in bugs)),
        subject=subject.name,
        mutator="+".join(bug.mutator.name for bug in bugs),
        site=0,
        edit=Edit(0, len(subject.source), source),
        line=min(bug.mutant.line for bug in bugs),
        source=source,
    )


def _puzzle(bugs: Sequence[_Proven], certificate: Certificate, seed: int) -> tuple[Puzzle, Answer]:
    subject = bugs[0].subject
    name = digest(
        "puzzle",
        subject.source,
        subject.visible_tests,
        subject.hidden_tests,
        str(seed),
        *(bug.mutant.id for bug in bugs),
    )[:8]
    puzzle = Puzzle(
        id=name,
        version=VERSION,
        subject=subject.name,
        title=subject.title,
        topics=subject.topics,
        level=certificate.level,
        minutes=MINUTES,
        bugs=len(bugs),
        seed=seed,
        file_name=subject.file_name,
        source=bugs[0].mutant.source if len(bugs) == 1 else _together(bugs).source,
        visible_tests=subject.visible_tests,
        brief="",
    )
    answer = Answer(
        puzzle=name,
        original=subject.source,
        hidden_tests=subject.hidden_tests,
        promises=subject.promises,
        public_names=subject.public_names,
        bugs=tuple(_bug(bug) for bug in bugs),
        certificate=certificate,
    )
    return render.with_brief(puzzle, subject, answer), answer


def _bug(bug: _Proven) -> PlantedBug:
    subject, mutant, mutator = bug.subject, bug.mutant, bug.mutator
    return PlantedBug(
        mutant=mutant.id,
        mutator=mutator.name,
        topic=mutator.topic,
        site=mutant.site,
        line=mutant.line,
        title=mutator.title,
        lesson=mutator.lesson,
        hints=tuple(mutator.hints),
        sightings=tuple(SeenIn(url=s.url, note=s.note) for s in mutator.sightings),
        diff=textdiff.unified(subject.source, mutant.source, subject.file_name),
        broken=bug.certificate.broken,
    )


def _nothing(bugs: int, level: int | None) -> str:
    asked = f"with {bugs} bugs" if bugs > 1 else "with one bug"
    if level is not None:
        asked += f" at level {level}"
    return f"no certified puzzle {asked} in this choice; widen --topic, --subject or --mutator" + (
        ", or drop --level" if level is not None else ""
    )
