"""Stand-ins for the heavy rooms of the command line: nothing is crafted and no file is run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import handmade
from click.testing import Result

from halfhour.generator.catalogue import Entry
from halfhour.generator.errors import HalfhourError
from halfhour.generator.records import (
    Answer,
    Outcome,
    PromiseResult,
    Puzzle,
    SeenIn,
    Trial,
    Verdict,
    VerdictKind,
)

Run = Callable[..., Result]


@dataclass
class FakeJudge:
    """Breaks the promises it is told to break; remembers what it was asked."""

    broken: tuple[str, ...] = handmade.BROKEN
    outcome: Outcome = Outcome.WRONG
    before: tuple[str, ...] | None = None
    """What the file as handed out breaks, if that is another thing."""
    says: Verdict | HalfhourError | None = None
    trials: list[Trial] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)

    def __call__(self, trial: Trial, *, device: str) -> Verdict:
        self.trials.append(trial)
        self.devices.append(device)
        if isinstance(self.says, HalfhourError):
            raise self.says
        if self.says is not None:
            return self.says
        broken = self.broken
        if self.before is not None and trial.source == handmade.puzzle().source:
            broken = self.before
        results = tuple(
            PromiseResult(p, self.outcome if p.name in broken else Outcome.KEPT, "3 != 4")
            for p in trial.promises
        )
        kind = VerdictKind.NOT_FIXED if broken else VerdictKind.FIXED
        return Verdict(kind, "a reason", results, device="cpu", seed=trial.seed, seconds=0.1234)


@dataclass
class FakeCraft:
    """Hands out the puzzle made by hand; remembers what was asked for."""

    says: BaseException | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __call__(
        self,
        subjects: Sequence[object],
        mutators: Sequence[object],
        *,
        progress: Callable[[str], None],
        **asked: object,
    ) -> tuple[Puzzle, Answer]:
        self.asked.append({"subjects": subjects, "mutators": mutators, **asked})
        progress(f"proving {handmade.BUG.mutator} at toy:11")
        if self.says is not None:
            raise self.says
        return handmade.puzzle(), handmade.answer()


@dataclass(frozen=True)
class FakeMutator:
    name: str
    topic: str
    crash_is_the_bug: bool = False


ENTRIES = tuple(
    Entry(
        name=name,
        topic=topic,
        family="a-family",
        title=f"The title of {name}.",
        lesson="The rule.\n\nWhy nobody noticed.",
        hints=("far", "nearer", "near"),
        sightings=(SeenIn("https://example.org/1", "in a server"),),
        where=f"mutators/{topic}/{name}.py:7",
    )
    for topic, name in [
        ("masking", "window_lets_one_key_too_many_in"),
        ("numerics", "divisor_counts_one_too_many"),
    ]
)


def the_object(result: Result) -> dict[str, Any]:
    """Return the one JSON object that a `--json` run prints on stdout."""
    assert result.stdout.endswith("}\n")
    found = json.loads(result.stdout)
    assert found["schema"] == 1
    return cast(dict[str, Any], found)
