"""What flows through the machine: frozen records, no input or output, no torch, no libcst."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum


def digest(*parts: str) -> str:
    """Return the SHA-256 (hex) of the parts, each length-prefixed so that no two lists collide."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode()
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()


@dataclass(frozen=True, slots=True)
class Promise:
    """One behaviour that a correct file keeps: a function in the hidden tests."""

    name: str
    text: str
    """One line a candidate may read."""
    symptom: str = ""
    """What a user would report if it is broken; empty where no user would notice it directly."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A correct file with its promises and its visible test."""

    name: str
    title: str
    topics: tuple[str, ...]
    description: str
    reference: str
    source: str
    visible_tests: str
    hidden_tests: str
    promises: tuple[Promise, ...]
    visible_promises: tuple[Promise, ...]
    """The functions of the visible test, in the same form."""
    public_names: tuple[str, ...]
    """Dotted names (`function`, `Class`, `Class.method`) that a submission must still offer."""
    flow: str = ""
    """A few lines of text art: what goes in, through which public names, and what comes out."""
    kinds: tuple[tuple[str, str], ...] = ()
    """What local variables held when the file was traced: (`function.variable`, `float3`)."""

    @property
    def file_name(self) -> str:
        return f"{self.name}.py"


@dataclass(frozen=True, slots=True)
class Trial:
    """One file and the tests it must pass: all that the judge is told."""

    name: str
    """Module name of the file: what a visible test imports."""
    source: str
    tests: str
    """Text of a pytest module of ours; trusted."""
    promises: tuple[Promise, ...]
    """The manifest: each must be collected and pass, else the file is not fixed."""
    public_names: tuple[str, ...]
    seed: int
    hasty: bool = False
    """Whether one broken promise is enough, and those after it need not be tried."""
    threads: int = 1
    """How many threads torch may use for one operation of the file."""


class Packed(StrEnum):
    """How a puzzle of a pack is handed out."""

    WITHOUT_JUDGE = "without_judge"
    """The file is sent to the publisher, who alone has the answer."""
    WITH_JUDGE = "with_judge"
    """The answer is sealed in the folder, so that it can be judged there."""


class Outcome(StrEnum):
    """How one promise fared."""

    KEPT = "kept"
    WRONG = "wrong"
    """A value came back and it was not the promised one."""
    RAISED = "raised"
    """The file raised where it should have answered."""
    TIMED_OUT = "timed_out"
    DIED = "died"
    """The worker process ended during the promise."""
    NOT_REACHED = "not_reached"
    """An earlier promise ended the worker."""


@dataclass(frozen=True, slots=True)
class PromiseResult:
    promise: Promise
    outcome: Outcome
    detail: str = ""
    """For authors and for `--debug`: never shown to a candidate, may hold expected values."""

    @property
    def kept(self) -> bool:
        return self.outcome is Outcome.KEPT


class VerdictKind(StrEnum):
    FIXED = "fixed"
    NOT_FIXED = "not_fixed"
    INVALID = "invalid"
    """The file could not be judged: it does not load, or a public name is gone."""
    ENVIRONMENT = "environment"
    """Our failure; says nothing about the file."""


@dataclass(frozen=True, slots=True)
class Verdict:
    kind: VerdictKind
    reason: str
    """One sentence; safe to show to the candidate."""
    results: tuple[PromiseResult, ...] = ()
    device: str = "cpu"
    rung: str = "process"
    """How strongly the worker was confined; `process` means process separation only."""
    seed: int = 0
    seconds: float = 0.0

    @property
    def broken(self) -> tuple[str, ...]:
        return tuple(r.promise.name for r in self.results if not r.kept)


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace `text[start:end]` (code points) by `replacement`."""

    start: int
    end: int
    replacement: str

    def apply(self, text: str) -> str:
        return text[: self.start] + self.replacement + text[self.end :]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A subject with one planted bug. (subject, mutator, site) names it for ever."""

    id: str
    """Digest of the file, the mutator, the span and the replacement."""
    subject: str
    mutator: str
    site: int
    """Counts the places in the file where the mutator fits, from 0, in reading order."""
    edit: Edit
    line: int
    """First line (from 1) of the correct file that the edit touches."""
    source: str
    """The file with the bug."""


class Status(StrEnum):
    """What certifying a mutant found."""

    CERTIFIED = "certified"
    EQUIVALENT = "equivalent"
    CRASHES = "crashes"
    VISIBLE = "visible"
    NOISY = "noisy"
    FLAKY = "flaky"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Term:
    """One reason why a puzzle is hard or easy."""

    name: str
    value: float
    """From 0, easy, to 1, hard."""
    words: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """The proof that a mutant is, or is not, a puzzle. Holds no wall time: same input,
    same bytes."""

    mutant: str
    """`Mutant.id`."""
    subject: str
    mutator: str
    site: int
    line: int
    status: Status
    sentence: str
    """Why, for a person."""
    broken: tuple[str, ...] = ()
    """Names of the promises that the mutant always breaks, in the order of the hidden tests."""
    unsteady: tuple[str, ...] = ()
    """Names of those that it breaks under some seeds only: their inputs are drawn."""
    level: int = 0
    """1 (easy) to 5 (hard); 0 where there is no puzzle."""
    seeds: tuple[int, ...] = ()
    torch: str = ""
    device: str = "cpu"
    terms: tuple[Term, ...] = ()
    """Why it is of this level; empty where there is no puzzle."""


@dataclass(frozen=True, slots=True)
class SeenIn:
    """Where a bug truly happened."""

    url: str
    note: str


@dataclass(frozen=True, slots=True)
class Demonstration:
    """The smallest input found that shows a bug: a script that runs beside either file."""

    script: str
    """Python that imports the file by its name, calls it and prints a line or a few."""
    correct: str
    """What it prints beside the correct file."""
    buggy: str
    """What it prints beside the file with the bug."""
    promise: str
    """Name of the promise whose test it was cut from."""


@dataclass(frozen=True, slots=True)
class PlantedBug:
    """One bug of a puzzle with all that teaches it; plain text, so that a hint needs no libcst."""

    mutant: str
    mutator: str
    topic: str
    site: int
    line: int
    title: str
    lesson: str
    hints: tuple[str, ...]
    sightings: tuple[SeenIn, ...]
    diff: str
    """Unified diff from the correct file to the buggy one, three lines of context."""
    broken: tuple[str, ...]
    demonstration: Demonstration | None = None
    """None where no short script shows the bug."""
    missed: str = ""
    """Why the visible tests do not see it; empty where that was not looked into."""
    route: tuple[str, ...] = ()
    """The way from a broken promise to the line by reading, a sentence each."""


@dataclass(frozen=True, slots=True)
class Puzzle:
    """What a candidate gets; nothing in it spoils."""

    id: str
    version: str
    """The halfhour that made it."""
    subject: str
    title: str
    topics: tuple[str, ...]
    level: int
    minutes: int
    bugs: int
    seed: int
    file_name: str
    source: str
    """The file with the bug, as handed out."""
    visible_tests: str
    brief: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the judge and the reveal need: sealed in the folder, or kept by the publisher."""

    puzzle: str
    original: str
    hidden_tests: str
    promises: tuple[Promise, ...]
    public_names: tuple[str, ...]
    bugs: tuple[PlantedBug, ...]
    certificate: Certificate = field(repr=False)
