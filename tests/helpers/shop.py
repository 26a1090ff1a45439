"""One court and one screen for all that proves: each would start its own, which takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest

from halfhour.generator import craft, soundness
from halfhour.generator.cache import ProofCache
from halfhour.generator.demonstrate import Demonstrator
from halfhour.generator.judge import Judge


@contextmanager
def one_shop(court: Judge, screen: Demonstrator) -> Iterator[None]:
    """Let everything that is crafted or proven find these processes."""

    def shared_screen() -> AbstractContextManager[Demonstrator]:
        return nullcontext(remembering(screen, ProofCache()))  # of the home that it is asked from

    with pytest.MonkeyPatch.context() as patch:
        for module in (craft, soundness):
            patch.setattr(module, "Judge", lambda **_: nullcontext(court))
        patch.setattr(craft, "Demonstrator", shared_screen)
        patch.setattr(soundness, "Screen", shared_screen)
        yield


def remembering(screen: Demonstrator, cache: ProofCache) -> Demonstrator:
    """Let the process go on with another memory."""
    screen._cache = cache
    return screen
