"""Trace the visible tests of a subject on the correct file; a trace is kept under its content."""

from __future__ import annotations

from dataclasses import replace

from .cache import ProofCache
from .errors import JudgeError
from .records import Subject, digest
from .screen import Profile, Screen, Unscreenable

_FORM = "visible trace 1"


class VisibleTraces:
    """Which lines the visible tests run; its process starts when it is first needed."""

    def __init__(self, cache: ProofCache | None = None) -> None:
        self._cache = cache if cache is not None else ProofCache()

    def of(self, subject: Subject) -> Profile | None:
        """Return the trace of a subject; None where its tests cannot be traced."""
        key = digest(_FORM, subject.source, subject.visible_tests)
        match self._cache.get(key):
            case {"depths": dict(depths)}:
                return Profile.from_json(depths)
        alone = replace(
            subject, hidden_tests=subject.visible_tests, promises=subject.visible_promises
        )
        try:
            with Screen() as screen:
                found = screen.profile(alone, seed=0)
        except (JudgeError, Unscreenable):
            return None
        self._cache.put(key, {"depths": found.as_json()})
        return found
