"""The certified catalogue: which puzzles there are, read at once and without planting any.

`mutators/certified.json` is written by `make certify`; a test holds it against the mutators.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from .. import catalogue
from .._version import VERSION
from ..decoding import record
from ..errors import EnvironmentFault
from ..records import Certificate, Mutant, Status, Subject, digest

FORMAT = 1
TABLE = catalogue.MUTATORS / "certified.json"

Pair = tuple[str, str]
"""A subject and a mutator: what no two packs of a year share."""


@dataclass(frozen=True, slots=True)
class Certified:
    """A mutant that is a puzzle, planted in a file that is not disguised."""

    subject: str
    mutator: str
    topic: str
    site: int
    line: int
    level: int
    mutant: str


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A subject as it was when all its mutants were tried."""

    subject: str
    text: str
    """Digest of the file and its tests."""
    planted: str
    """Digest of the ids of its mutants, puzzles or not."""


@dataclass(frozen=True)
class Table:
    """All that is certified, in a fixed order."""

    version: str
    torch: str
    subjects: tuple[Surveyed, ...]
    puzzles: tuple[Certified, ...]

    @cached_property
    def levels(self) -> Mapping[Pair, frozenset[int]]:
        """Of which levels each pair has a puzzle."""
        found: dict[Pair, set[int]] = defaultdict(set)
        for each in self.puzzles:
            found[each.subject, each.mutator].add(each.level)
        return {pair: frozenset(levels) for pair, levels in sorted(found.items())}

    @cached_property
    def topics(self) -> Mapping[str, str]:
        """The topic of each mutator."""
        return {each.mutator: each.topic for each in self.puzzles}


def table_of(
    certificates: Iterable[Certificate],
    mutants: Mapping[str, Sequence[Mutant]],
    subjects: Iterable[Subject],
    topics: Mapping[str, str],
) -> Table:
    """Return the table of what was certified; `mutants` are those of each subject, by its name."""
    certified = sorted(
        (c for c in certificates if c.status is Status.CERTIFIED),
        key=lambda c: (c.subject, c.mutator, c.site),
    )
    return Table(
        version=VERSION,
        torch=", ".join(sorted({c.torch for c in certified})),
        subjects=tuple(
            surveyed(subject, mutants[subject.name])
            for subject in sorted(subjects, key=lambda s: s.name)
        ),
        puzzles=tuple(
            Certified(c.subject, c.mutator, topics[c.mutator], c.site, c.line, c.level, c.mutant)
            for c in certified
        ),
    )


def surveyed(subject: Subject, mutants: Iterable[Mutant]) -> Surveyed:
    """Return what tells whether the table is still that of a subject."""
    text = digest(subject.source, subject.visible_tests, subject.hidden_tests)
    return Surveyed(subject.name, text, digest(*sorted(mutant.id for mutant in mutants)))


def table_bytes(table: Table) -> bytes:
    """Return the text of a table, one line a puzzle."""
    head = {"format": FORMAT, "version": table.version, "torch": table.torch}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    for name, rows in (("subjects", table.subjects), ("puzzles", table.puzzles)):
        lines.append(f'"{name}": [')
        lines.append(",\n".join(json.dumps(asdict(row)) for row in rows))
        lines.append("]," if name == "subjects" else "]")
    return ("\n".join(["{", *lines, "}"]) + "\n").encode("ascii")


def read_table(path: Path | None = None) -> Table:
    """Return the table. Raises EnvironmentFault where it is missing or damaged."""
    path = path if path is not None else TABLE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"format {FORMAT} was expected")
        return record(Table, content)
    except OSError as error:
        raise EnvironmentFault(
            f"the table of certified puzzles, {path}, cannot be read ({error.strerror}); in a"
            " checkout it is made by: make certify"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EnvironmentFault(
            f"{path} is damaged ({error}); make it with: make certify"
        ) from error
