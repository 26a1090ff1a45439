"""What the candidate types: single keys on a terminal, lines from anything else."""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any


@dataclass(frozen=True, slots=True)
class Key:
    """One key, and what followed it on its line where lines are read."""

    name: str
    rest: str = ""


class Keys:
    """Takes keys while it is entered; the terminal is as it was afterwards."""

    def __init__(self) -> None:
        try:
            self.handle: int | None = sys.stdin.fileno()
        except (AttributeError, OSError, ValueError):
            self.handle = None
        self.single = self.handle is not None and os.isatty(self.handle)
        """Whether one key is enough, and the candidate can be asked."""
        self._before: list[Any] | None = None
        self._line = b""

    def __enter__(self) -> Keys:
        if self.single and self.handle is not None:
            with suppress(termios.error):
                self._before = termios.tcgetattr(self.handle)
        self.take()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._give_back()

    def take(self) -> None:
        """Have the terminal give single keys, unseen; Ctrl-C and Ctrl-Z stay what they are."""
        if self._before is not None and self.handle is not None:
            with suppress(termios.error):
                tty.setcbreak(self.handle, termios.TCSADRAIN)

    @contextmanager
    def released(self) -> Iterator[None]:
        """Give the terminal back for as long as a command speaks and asks.

        Letters that were typed meanwhile were meant for nobody: they are no keys afterwards.
        """
        self._give_back()
        try:
            yield
        finally:
            self.take()
            if self._before is not None and self.handle is not None:
                with suppress(termios.error):
                    termios.tcflush(self.handle, termios.TCIFLUSH)

    def read(self) -> list[Key] | None:
        """Return what was typed, once there is something; None at the end of the input."""
        assert self.handle is not None
        try:
            data = os.read(self.handle, 1024)
        except OSError:  # the terminal is gone
            return None
        if self.single:
            return self._single(data)
        if not data:
            *lines, self._line = self._line, b""
        else:
            *lines, self._line = (self._line + data).split(b"\n")
        found = [_from_line(line) for line in lines if line.strip()]
        return found if data or found else None

    def _single(self, data: bytes) -> list[Key] | None:
        if not data or data == b"\x04":
            return None
        if data.startswith(b"\x1b"):  # an arrow is no letter
            return []
        return [Key(letter) for letter in data.decode("utf-8", errors="ignore").lower()]

    def _give_back(self) -> None:
        if self._before is not None and self.handle is not None:
            with suppress(termios.error):
                termios.tcsetattr(self.handle, termios.TCSADRAIN, self._before)


def _from_line(line: bytes) -> Key:
    text = line.decode("utf-8", errors="replace").strip()
    return Key(text[:1].lower(), text[1:].strip())
