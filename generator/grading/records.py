"""What flows through grading: who handed in what, and what became of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ..records import Verdict


@dataclass(frozen=True, slots=True)
class Submission:
    """One file that came back, or the reason why there is none to judge."""

    candidate: str
    where: str
    """As a person finds it: `inbox.zip: ada/token_sampler.py`."""
    puzzle: str
    """Its id; empty where nothing tells which puzzle is meant."""
    source: str | None
    problem: str
    """One sentence on why it cannot be judged, or empty."""

    @property
    def digest(self) -> str:
        """The SHA-256 (hex) of the text; empty where there is none."""
        if self.source is None:
            return ""
        return hashlib.sha256(self.source.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Graded:
    """What became of one submission."""

    submission: Submission
    verdict: Verdict
    """The worse of the runs."""
    runs: int
    """How many there were; 0 where nothing could be judged."""
