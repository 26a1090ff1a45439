"""Where a hunt speaks: a block that is redrawn below what was said, or plain lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ..messages import tr
from . import view
from .view import Line, State


class Surface(Protocol):
    """How the loop speaks, whatever it speaks to."""

    def open(self) -> None:
        """Begin to speak."""

    def close(self) -> None:
        """Leave the terminal as it was."""

    def show(self, state: State) -> None:
        """Show how the hunt stands."""

    def tell(self, line: Line, *, ring: bool = False) -> None:
        """Say something once."""

    def resized(self) -> None:
        """Draw anew after the terminal changed its size, or came back to the front."""

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Stand back while a command speaks."""


class Lines:
    """For screen readers, pipes and terminals that cannot move a cursor: one line per event."""

    def __init__(self) -> None:
        self._clock = ""

    def open(self) -> None:
        """Say once which keys there are."""
        self.tell((tr("keys: {keys}", keys=view.keys()), ""))

    def close(self) -> None:
        """Nothing is to be closed."""

    def show(self, state: State) -> None:
        """Keep the time, which every line begins with."""
        left = state.hunt.remaining
        self._clock = f"{int(left) // 60}:{int(left) % 60:02d}"

    def tell(self, line: Line, *, ring: bool = False) -> None:  # noqa: ARG002
        """Print one line."""
        print(f"[{self._clock}] {line[0]}" if self._clock else line[0], flush=True)

    def resized(self) -> None:
        """Nothing is to be drawn."""

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Stand back: there is nothing in the way."""
        sys.stdout.flush()
        yield
        sys.stdout.flush()


class Screen:
    """A block at the bottom of a terminal; what is said scrolls by above it.

    The cursor stays visible and no other screen is switched to, so that even a kill leaves the
    terminal usable.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console if console is not None else Console(highlight=False)
        self._live: Live | None = None
        self._shown: list[Line] = []
        self._width = 0

    def open(self) -> None:
        """Draw the block."""
        self._width = self._console.width
        self._live = Live(
            self._block(),
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._live.start(refresh=True)
        self._console.show_cursor(True)

    def close(self) -> None:
        """Take the block away; what was said stays."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, state: State) -> None:
        """Draw the block if it says something new."""
        lines = view.block(state)
        if lines != self._shown:
            self._shown = lines
            if self._live is not None:
                self._live.update(self._block(), refresh=True)

    def tell(self, line: Line, *, ring: bool = False) -> None:
        """Print above the block."""
        if ring:
            self._console.bell()
        self._console.print(Text(*line))

    def resized(self) -> None:
        """Draw anew; a narrower terminal has broken the lines that were there, so they go up."""
        narrower = self._console.width < self._width
        if self._live is None:
            return
        if narrower:
            self._live.transient = False
            self._live.stop()
            self._live = None
            self._console.file.write("\n" * self._console.height)  # a hint can be scrolled to
            self._console.clear()
            self.open()
        else:
            self._width = self._console.width
            self._live.update(self._block(), refresh=True)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the block away while a command speaks, and draw it below what was said."""
        self.close()
        try:
            yield
        finally:
            self.open()

    def _block(self) -> Group:
        rule = Text("─" * min(self._console.width, 72), style="dim")
        return Group(rule, *(Text(*line) for line in self._shown))
