"""Trace the visible tests of a subject on the correct file; a trace is kept under its content."""

from __future__ import annotations

from dataclasses import replace

from .cache import ProofCache
from .records import Subject, digest
from .screen import Profile, Screen, Unscreenable, kept_profile

_FORM = "visible trace 1"


class VisibleTraces:
    """Which lines the visible tests run; asks the screen only where nothing is kept."""

    def __init__(self, screen: Screen, cache: ProofCache | None = None) -> None:
        self._screen = screen
        self._cache = cache if cache is not None else ProofCache()

    def of(self, subject: Subject) -> Profile | None:
        """Return the trace of a subject; None where its tests cannot be traced.

        Raises JudgeError where the screen fails: what is said of a bug depends on the trace.
        """
        key = digest(_FORM, subject.source, subject.visible_tests)
        alone = replace(
            subject, hidden_tests=subject.visible_tests, promises=subject.visible_promises
        )
        try:
            return kept_profile(self._cache, key, lambda: self._screen.profile(alone, seed=0))
        except Unscreenable:
            return None
