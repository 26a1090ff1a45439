"""Watch the candidate's file: the system says at once that something changed, a look says what.

The folder is watched, since editors save by renaming a new file over the old one. Whether the file
changed is decided by looking at it, twice a second if nothing calls: where the system tells
nothing (network folders, some containers), nothing is missed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from watchfiles import watch

from .. import files

LOOK_EVERY = 0.5
"""Seconds between two looks that nothing called for."""

MOST_BYTES = 1 << 20
_SETTLED = 0.03
_MOST_LOOKS = 20

_Mark = tuple[int, int, int] | None


class Watched:
    """The files of one hunt, of which the first is the candidate's."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._marks = self._look()
        self.text = self._read()

    @property
    def missing(self) -> bool:
        """Whether the candidate's file is not there."""
        return self.text is None

    def changed(self) -> bool:
        """Return whether a file changed since the last time this was asked."""
        marks = self._look()
        if marks == self._marks:
            return False
        for _ in range(_MOST_LOOKS):  # a save in the middle: wait until it is whole
            time.sleep(_SETTLED)
            before, marks = marks, self._look()
            if before == marks:
                break
        others_changed = marks[1:] != self._marks[1:]
        self._marks = marks
        before_text, self.text = self.text, self._read()
        return self.text != before_text or others_changed

    def _look(self) -> tuple[_Mark, ...]:
        return tuple(_mark(path) for path in self._paths)

    def _read(self) -> str | None:
        try:
            data = files.read_at_most(self._paths[0], MOST_BYTES)
        except (OSError, ValueError):
            return None
        return data.decode("utf-8", errors="replace")


class Watcher:
    """Calls when something in the folder changed; only as good as the system is."""

    def __init__(self, folder: Path, call: Callable[[], None]) -> None:
        self._folder = folder
        self._call = call
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="halfhour-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stop.set()
        self._thread.join(timeout=1)

    def _watch(self) -> None:
        with suppress(Exception):  # too few watches, no such feature: the looks go on without it
            for _ in watch(
                self._folder,
                watch_filter=None,
                step=20,
                rust_timeout=250,
                yield_on_timeout=False,
                stop_event=self._stop,
                raise_interrupt=False,
                recursive=False,
            ):
                self._call()


def _mark(path: Path) -> _Mark:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
