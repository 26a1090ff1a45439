"""Make the puzzles of a week: what was drawn, disguised by the seed and proven anew."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from halfhour.mutators import Mutator

from ..craft import Workshop, craft_pair, workshop
from ..errors import EnvironmentFault
from ..records import Answer, Packed, Puzzle, Subject, Term, digest
from .draw import Candidate, Slot, draw, fill
from .layout import Crafted, pack_files
from .manifest import Recipe
from .order import Order
from .table import Pair, Table

_DIGITS = 6
"""Of a certificate's terms: logarithms differ in the last ones from machine to machine."""

Progress = Callable[[int, int], None]
"""Told which puzzle is at work, from 1, and how many steps were taken for it."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What puzzles are made of."""

    table: Table
    subject: Callable[[str], Subject]
    """Finds a subject by its name."""
    mutators: Mapping[str, Mutator]

    def mutator(self, name: str) -> Mutator:
        """Return the mutator of that name. Raises EnvironmentFault where the table is too old."""
        if name not in self.mutators:
            raise EnvironmentFault(
                f"the table of certified puzzles names {name}, which is not installed; in a"
                " checkout it is made anew by: make certify"
            )
        return self.mutators[name]


def build(
    order: Order,
    catalogue: Catalogue,
    met: Collection[Pair],
    *,
    progress: Progress = lambda _, __: None,
) -> dict[str, bytes]:
    """Return the three files of a week by name.

    `met` are the pairs of the packs of the year before. Raises UsageError where there are not
    enough puzzles, saying which constraint binds.
    """
    slots = draw(catalogue.table, order, met)
    with workshop() as shop:
        crafted = fill(slots, _Maker(shop, order, catalogue, progress))
    return pack_files(order, crafted)


class _Maker:
    """Makes puzzles one after the other, and tells how far it is."""

    def __init__(
        self, shop: Workshop, order: Order, catalogue: Catalogue, progress: Progress
    ) -> None:
        self._shop = shop
        self._order = order
        self._catalogue = catalogue
        self._progress = progress
        self._made = 0
        self._steps = 0

    def __call__(self, slot: Slot, candidate: Candidate) -> Crafted | None:
        seed = _seed_of(self._order, candidate)
        self._step()
        made = craft_pair(
            self._shop,
            self._catalogue.subject(candidate.subject),
            self._catalogue.mutator(candidate.mutator),
            companions=[self._catalogue.mutator(name) for name in candidate.companions],
            bugs=slot.bugs,
            seed=seed,
            level=slot.level,
            packed=Packed.WITH_JUDGE if self._order.judged else Packed.WITHOUT_JUDGE,
            progress=self._step,
        )
        if made is None:
            return None
        self._made += 1
        self._steps = 0
        return _crafted(*made, seed)

    def _step(self, _: str = "") -> None:
        # What the craft says would name the bug.
        self._steps += 1
        self._progress(self._made + 1, self._steps)


def _seed_of(order: Order, candidate: Candidate) -> int:
    drawn = digest("puzzle", order.week.name, str(order.seed), *candidate.pair)
    return int(drawn[:12], 16)


def _crafted(puzzle: Puzzle, answer: Answer, seed: int) -> Crafted:
    terms = tuple(_rounded(term) for term in answer.certificate.terms)
    return Crafted(
        puzzle=puzzle,
        answer=replace(answer, certificate=replace(answer.certificate, terms=terms)),
        recipe=Recipe(
            subject=puzzle.subject,
            mutators=tuple(bug.mutator for bug in answer.bugs),
            sites=tuple(bug.site for bug in answer.bugs),
            seed=seed,
            disguise=True,
        ),
    )


def _rounded(term: Term) -> Term:
    return replace(term, value=round(term.value, _DIGITS))
