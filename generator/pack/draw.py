"""Draw a week from the table: which levels and topics, and which bugs in which files. Pure.

Every slot has another level to reach, another topic and another file. Of what fits, what later
weeks will miss least is drawn with the greatest chance: files and topics with much left, and bugs
that make puzzles of no other level.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count as counter
from typing import TypeVar

from ..errors import UsageError
from ..records import digest
from .manifest import LEVELS
from .order import Order
from .table import Pair, Table

YEAR = 52
"""No pair comes back within so many weeks."""
MANY_BUGS_FROM = 4
"""From this level on a puzzle has as many bugs as were asked for."""
_RARE = 40.0
"""How much it counts that a bug could serve another level, of which there are few."""
_MOST_STEPS = 20_000
"""Of the search: far more than a draw needs that has a solution."""

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Candidate:
    """What may become a puzzle."""

    subject: str
    mutator: str
    topic: str
    companions: tuple[str, ...] = ()
    """Other mutators of the file, of which more bugs are taken, in the order to try."""

    @property
    def pair(self) -> Pair:
        return self.subject, self.mutator


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the pack."""

    level: int
    bugs: int
    candidates: tuple[Candidate, ...]
    """The one that was drawn, then those that may take its place, in the order to try."""

    @property
    def drawn(self) -> Candidate:
        return self.candidates[0]


def levels(count: int) -> tuple[int, ...]:
    """Return the levels of so many puzzles: spread from the lowest to the highest, rising."""
    return tuple(LEVELS[(2 * place + 1) * len(LEVELS) // (2 * count)] for place in range(count))


def draw(table: Table, order: Order, met: Collection[Pair] = ()) -> tuple[Slot, ...]:
    """Return the slots of a week by rising level; a pure function of its arguments.

    `met` are the pairs of earlier packs. Raises UsageError where there are not enough puzzles,
    saying which constraint binds and what would relax it.
    """
    wanted = levels(order.count)
    pool = _Pool(table, order)
    ranked = pool.ranked(wanted, frozenset(met))
    drawn = _assigned([ranked[level] for level in wanted])
    if drawn is None:
        raise UsageError(_binding(pool, wanted, ranked))
    return tuple(
        Slot(level, pool.bugs_at(level), _order(ranked[level], drawn, place))
        for place, level in enumerate(wanted)
    )


def fill(slots: Sequence[Slot], make: Callable[[Slot, Candidate], Made | None]) -> tuple[Made, ...]:
    """Return what was made for each slot, of its first candidate of which something can be made.

    Candidates whose file or topic is in the pack already are passed over. Raises UsageError where
    none of a slot's can be used.
    """
    made: list[Made] = []
    subjects: set[str] = set()
    topics: set[str] = set()
    for slot in slots:
        tried = 0
        for candidate in slot.candidates:
            if candidate.subject in subjects or candidate.topic in topics:
                continue
            tried += 1
            if (found := make(slot, candidate)) is not None:
                made.append(found)
                subjects.add(candidate.subject)
                topics.add(candidate.topic)
                break
        else:
            raise UsageError(_unmade(slot, tried))
    return tuple(made)


@dataclass(frozen=True, slots=True)
class _Pool:
    """What there is to draw from, and in which order."""

    table: Table
    order: Order

    def bugs_at(self, level: int) -> int:
        return self.order.bugs if level >= MANY_BUGS_FROM else 1

    def ranked(self, wanted: Collection[int], met: Collection[Pair]) -> dict[int, list[Candidate]]:
        """Return what could become a puzzle of each level, the best choice first."""
        left = {pair: found for pair, found in self.table.levels.items() if pair not in met}
        of_level = Counter(level for found in left.values() for level in found)
        of_topic = Counter(self.table.topics[mutator] for _, mutator in left)
        of_subject = Counter(subject for subject, _ in left)

        def rank(pair: Pair, level: int) -> tuple[float, Pair]:
            subject, mutator = pair
            regret = 1 + sum(_RARE / of_level[other] for other in left[pair] - {level})
            plenty = of_topic[self.table.topics[mutator]] * of_subject[subject]
            return self._chance(subject, mutator, str(level)) * regret / plenty, pair

        found = {}
        for level in sorted(set(wanted)):
            pairs = sorted((p for p in left if level in left[p]), key=lambda p: rank(p, level))
            candidates = [self._candidate(pair, level, left) for pair in pairs]
            found[level] = [c for c in candidates if len(c.companions) >= self.bugs_at(level) - 1]
        return found

    def _candidate(self, pair: Pair, level: int, left: Mapping[Pair, frozenset[int]]) -> Candidate:
        subject, mutator = pair
        others: list[str] = []
        if self.bugs_at(level) > 1:
            others = [
                other
                for of, other in left
                if of == subject and other != mutator and max(left[of, other]) >= MANY_BUGS_FROM
            ]
        others.sort(key=lambda other: self._chance(subject, mutator, other))
        return Candidate(subject, mutator, self.table.topics[mutator], tuple(others))

    def _chance(self, *what: str) -> float:
        """Return a number from 0 to 1 that is the same on every machine."""
        drawn = digest("pack", self.order.week.name, str(self.order.seed), *what)
        return int(drawn[:12], 16) / 2**48


def _assigned(
    options: Sequence[Sequence[Candidate]], *, topics: bool = True, subjects: bool = True
) -> list[Candidate] | None:
    """Return one of each slot's options, in their order, with no file and no topic twice."""
    order = sorted(range(len(options)), key=lambda place: len(options[place]))
    # Only the first of a file and topic matters: the others exclude the same.
    distinct = [list(_firsts(options[place])) for place in order]
    steps = counter()

    def search(chosen: tuple[Candidate, ...]) -> tuple[Candidate, ...] | None:
        if len(chosen) == len(distinct):
            return chosen
        for candidate in distinct[len(chosen)]:
            if next(steps) > _MOST_STEPS:
                return None
            if any(
                (subjects and candidate.subject == other.subject)
                or (topics and candidate.topic == other.topic)
                or candidate.pair == other.pair
                for other in chosen
            ):
                continue
            if (found := search((*chosen, candidate))) is not None:
                return found
        return None

    found = search(())
    if found is None:
        return None
    return [candidate for _, candidate in sorted(zip(order, found, strict=True))]


def _firsts(options: Sequence[Candidate]) -> Iterator[Candidate]:
    seen: set[tuple[str, str]] = set()
    for option in options:
        what = (option.subject, option.topic)
        if what not in seen:
            seen.add(what)
            yield option


def _order(
    ranked: Sequence[Candidate], drawn: Sequence[Candidate], place: int
) -> tuple[Candidate, ...]:
    """Return what was drawn for a place, and then what may be there beside the others drawn."""
    others = [*drawn[:place], *drawn[place + 1 :]]
    subjects = {each.subject for each in others}
    topics = {each.topic for each in others}
    rest = (
        each
        for each in ranked
        if each != drawn[place] and each.subject not in subjects and each.topic not in topics
    )
    return (drawn[place], *rest)


def _binding(pool: _Pool, wanted: Sequence[int], ranked: Mapping[int, Sequence[Candidate]]) -> str:
    """Say which constraint has to give way for a week to be drawn."""
    fewer = "ask for fewer with --count"
    start = f"{len(wanted)} puzzles for {pool.order.week.name} cannot be drawn"
    ever = pool.ranked(wanted, ())
    if _assigned([ever[level] for level in wanted]) is not None:
        scarce = min(wanted, key=lambda level: (len(ranked[level]), level))
        return (
            f"{start}: the history binds, for only {len(ranked[scarce])} of {len(ever[scarce])}"
            f" bugs of level {scarce} were in no pack of the {YEAR} weeks before; {fewer}, or name"
            " a --history that holds less"
        )
    for level in wanted:
        if len(ever[level]) < wanted.count(level):
            return (
                f"{start}: the level binds, for {wanted.count(level)} of level {level} are wanted"
                f" and {len(ever[level])} certified; {fewer}"
                + (", or for fewer --bugs" if pool.bugs_at(level) > 1 else "")
            )
    options = [ever[level] for level in wanted]
    if _assigned(options, topics=False) is not None:
        return f"{start}: the topic binds, for each must be of another; {fewer}"
    if _assigned(options, subjects=False) is not None:
        return f"{start}: the subject binds, for each must be in another file; {fewer}"
    return f"{start}: topic and subject bind together, for each must be of others; {fewer}"


def _unmade(slot: Slot, tried: int) -> str:
    return (
        f"no puzzle of level {slot.level} can be made: the level binds, for none of {tried}"
        " certified bugs is of it in its disguised file; take another --seed, or ask for fewer"
        " with --count"
    )
