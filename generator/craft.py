"""Make one puzzle: draw a subject and then its mutants, by the seed, until one certifies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, pairwise

from halfhour.mutators import Mutator

from . import hints, lesson, render, textdiff
from ._version import VERSION
from .certify import Certifier
from .demonstrate import Demonstrator
from .disguise import disguise as disguised
from .errors import UsageError
from .judge import Judge
from .plant import plant
from .records import (
    Answer,
    Certificate,
    Edit,
    Mutant,
    Packed,
    PlantedBug,
    Puzzle,
    SeenIn,
    Status,
    Subject,
    digest,
)
from .unseen import VisibleTraces

MINUTES = 30
MOST_BUGS = 4
MOST_COMPANIONS = 12
"""So many mutators are tried beside a first one before a puzzle of many bugs is given up."""
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


@dataclass(frozen=True, slots=True)
class Workshop:
    """What proves and demonstrates: once for many puzzles, for each costs seconds to begin."""

    certifier: Certifier
    demonstrator: Demonstrator


@contextmanager
def workshop() -> Iterator[Workshop]:
    """Open a workshop; its processes end with the block."""
    with Judge(many=True) as judge, Demonstrator() as demonstrator:
        yield Workshop(Certifier(judge, screen=demonstrator), demonstrator)


def craft(
    subjects: Sequence[Subject],
    mutators: Sequence[Mutator],
    *,
    seed: int,
    bugs: int = 1,
    level: int | None = None,
    disguise: bool = False,
    blind: bool = False,
    met: Collection[tuple[str, str]] = (),
    progress: Progress = lambda _: None,
) -> tuple[Puzzle, Answer]:
    """Return a certified puzzle with its answer: a pure function of its arguments.

    With a disguise the file is rewritten by the seed before a bug is planted in it. Every bug is
    certified alone: a file with all but one of them mended is still wrong. `met` names subjects
    and mutators that are not drawn together. A `blind` brief has no ticket; a puzzle whose brief
    or first hints would tell of the bug is passed over.
    Raises UsageError where no mutant of these subjects and mutators makes such a puzzle.
    """
    with workshop() as shop:
        made_of = partial(_made, shop, level=level, seed=seed, progress=progress, blind=blind)
        for drawn in sorted(subjects, key=lambda s: digest(str(seed), s.name)):
            subject = disguised(drawn, seed) if disguise else drawn
            proven: list[_Proven] = []
            for mutant, mutator in _drawn(subject, mutators, seed):
                if (subject.name, mutator.name) in met:
                    continue
                bug = _prove(shop.certifier, subject, mutant, mutator, progress)
                if bug is None:
                    continue
                for others in combinations(proven, bugs - 1):
                    together = _prove_together(shop.certifier, (*others, bug), progress)
                    if together is None:
                        continue
                    made = made_of((*others, bug), together)
                    if made is not None:
                        return made
                proven.append(bug)
    raise UsageError(_nothing(bugs, level))


def craft_pair(
    shop: Workshop,
    subject: Subject,
    mutator: Mutator,
    *,
    companions: Sequence[Mutator] = (),
    bugs: int = 1,
    seed: int,
    level: int,
    packed: Packed,
    progress: Progress = lambda _: None,
) -> tuple[Puzzle, Answer] | None:
    """Return the first puzzle of that level that a mutator makes of a subject in disguise, if any.

    Its places are tried in the seed's order; more bugs come from the companions, in their order.
    What the brief or the first hints would tell of is passed over. The puzzle does not name the
    seed, of which the answer follows. The same arguments give the same puzzle.
    """
    subject = disguised(subject, seed)
    made_of = partial(_made, shop, level=level, seed=seed, progress=progress, packed=packed)
    proven = _proving(shop, subject, _drawn(subject, [mutator], seed), progress)
    if bugs == 1:
        for bug in proven:
            made = made_of((bug,), bug.certificate)
            if made is not None:
                return made
        return None
    first = next(proven, None)
    if first is None:
        return None
    others: list[_Proven] = []
    for other in _proving(shop, subject, _drawn_in_order(subject, companions, seed), progress):
        for more in combinations(others, bugs - 2):
            together = _prove_together(shop.certifier, (first, *more, other), progress)
            if together is None:
                continue
            made = made_of((first, *more, other), together)
            if made is not None:
                return made
        others.append(other)
    return None


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
    with Demonstrator() as demonstrator:
        with Judge(many=True) as judge:
            certifier = Certifier(judge, screen=demonstrator)
            bug = _prove(certifier, subject, mutants[0], mutator, progress)
        if bug is None:
            raise UsageError(f"{mutator.name} at {subject.name}:{mutants[0].line} is not certified")
        made = _puzzle((bug,), bug.certificate, seed, demonstrator)
    if told := _told(*made):
        raise UsageError(f"{mutator.name} at {subject.name}:{bug.mutant.line}: {told[0]}")
    return made


def _proving(
    shop: Workshop,
    subject: Subject,
    drawn: Sequence[tuple[Mutant, Mutator]],
    progress: Progress,
) -> Iterator[_Proven]:
    """Yield the bugs that alone make a puzzle; each is proven when it is asked for."""
    for mutant, mutator in drawn:
        bug = _prove(shop.certifier, subject, mutant, mutator, progress)
        if bug is not None:
            yield bug


def _made(
    shop: Workshop,
    bugs: Sequence[_Proven],
    certificate: Certificate,
    *,
    level: int | None,
    seed: int,
    progress: Progress,
    blind: bool = False,
    packed: Packed | None = None,
) -> tuple[Puzzle, Answer] | None:
    """Return the puzzle of bugs that were proven; None where it is of another level or tells."""
    if level is not None and certificate.level != level:
        progress(f"level {certificate.level}, not {level}")
        return None
    made = _puzzle(bugs, certificate, seed, shop.demonstrator, blind=blind, packed=packed)
    if not (told := _told(*made)):
        return made
    progress(told[0])
    return None


def _drawn_in_order(
    subject: Subject, mutators: Sequence[Mutator], seed: int
) -> list[tuple[Mutant, Mutator]]:
    """Return the first mutants of each mutator, in the order of the mutators."""
    place = {mutator.name: n for n, mutator in enumerate(mutators)}
    drawn = reversed(_drawn(subject, mutators, seed))
    firsts = {mutator.name: (mutant, mutator) for mutant, mutator in drawn}
    return sorted(firsts.values(), key=lambda each: place[each[1].name])[:MOST_COMPANIONS]


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


def _puzzle(
    bugs: Sequence[_Proven],
    certificate: Certificate,
    seed: int,
    demonstrator: Demonstrator,
    *,
    blind: bool = False,
    packed: Packed | None = None,
) -> tuple[Puzzle, Answer]:
    subject = bugs[0].subject
    name = digest(
        "puzzle",
        subject.source,
        subject.visible_tests,
        subject.hidden_tests,
        str(seed),
        *(bug.mutant.id for bug in bugs),
        *(["blind"] if blind else []),
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
        seed=seed if packed is None else 0,
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
        bugs=_planted(bugs, puzzle.source, demonstrator),
        certificate=certificate,
    )
    return render.with_brief(puzzle, subject, answer, blind=blind, packed=packed), answer


def _told(puzzle: Puzzle, answer: Answer) -> list[str]:
    """Return what the brief and the first hints give away, a sentence each."""
    early = [said for bug in answer.bugs for said in hints.problems(bug, answer.original)]
    return [*render.leaks(puzzle.brief, puzzle, answer), *early]


def _planted(
    bugs: Sequence[_Proven], handed_out: str, demonstrator: Demonstrator
) -> tuple[PlantedBug, ...]:
    planted = [_bug(bug, demonstrator) for bug in bugs]
    visible = VisibleTraces(demonstrator).of(bugs[0].subject)
    lines = [bug.line for bug in planted]
    return tuple(
        replace(
            bug,
            hints=hints.ladder(
                proven.subject, bug, proven.mutant.edit, handed_out=handed_out, elsewhere=lines
            ),
            missed=lesson.missed(proven.subject, bug, proven.certificate, visible),
            route=lesson.route(proven.subject, bug),
        )
        for proven, bug in zip(bugs, planted, strict=True)
    )


def _bug(bug: _Proven, demonstrator: Demonstrator) -> PlantedBug:
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
        demonstration=demonstrator.demonstration(
            subject,
            mutant.source,
            broken=bug.certificate.broken,
            seeds=bug.certificate.seeds,
        ),
    )


def _nothing(bugs: int, level: int | None) -> str:
    asked = f"with {bugs} bugs" if bugs > 1 else "with one bug"
    if level is not None:
        asked += f" at level {level}"
    return f"no certified puzzle {asked} in this choice; widen --topic, --subject or --mutator" + (
        ", or drop --level" if level is not None else ""
    )
