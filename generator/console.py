"""The one place that prints: data to stdout, words to stderr, colour only where it is wanted."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

SCHEMA = 1
_REWIND = "\r\x1b[K"


class Console:
    """How one run of a command speaks; options set it once, before the command's own work."""

    def __init__(self, *, as_json: bool = False, debug: bool = False) -> None:
        self.as_json = as_json
        self.debug = debug
        self.plain = False
        """Whether no line may be written over."""

    def out(self, text: str) -> None:
        """Print data."""
        click.echo(text, color=_colour(sys.stdout))

    def prose(self, text: str, *, indent: int = 0) -> None:
        """Print data that is read: on a terminal no word is broken; what is indented is code."""
        for line in text.split("\n"):
            self.out(_folded(line, indent))

    def say(self, text: str) -> None:
        """Print words to a person."""
        click.echo(text, err=True, color=_colour(sys.stderr))

    def note(self, text: str) -> None:
        """Say something beside the matter."""
        self.say(click.style(f"note: {text}", dim=True))

    def link(self, path: Path, text: str) -> str:
        """Return a path's text as words that can be clicked, where the terminal knows how."""
        return _link(path, text, sys.stderr)

    def error(self, sentence: str, exit_code: int) -> None:
        """Say what went wrong; under `--json` print it as the one object too."""
        self.say(f"halfhour: {sentence}")
        if self.as_json:
            self.json({"error": sentence, "exit_code": exit_code})

    def trace(self) -> None:
        """Print the exception being handled, for `--debug`."""
        self.say(traceback.format_exc().rstrip("\n"))

    def json(self, fields: dict[str, object]) -> None:
        """Print the one object of a `--json` run."""
        click.echo(json.dumps({"schema": SCHEMA, **fields}, ensure_ascii=False), color=False)

    def table(self, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print rows below a head, in columns as wide as they need; numbers to the right."""
        cells = [list(head), *([str(cell) for cell in row] for row in rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
        right = [all(row[i].isdigit() for row in cells[1:]) for i in range(len(head))]
        for number, row in enumerate(cells):
            columns = zip(row, widths, right, strict=True)
            line = "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in columns).rstrip()
            self.out(click.style(line, bold=True) if number == 0 else line)

    @contextmanager
    def progress(self) -> Iterator[Callable[[str], None]]:
        """Give a reporter of slow work: on a terminal one line that is rewritten and goes away."""
        if self.plain or not is_lively(sys.stderr):
            yield lambda _: None
            return
        try:
            yield lambda text: click.echo(f"{_REWIND}{text}", err=True, nl=False)
        finally:
            click.echo(_REWIND, err=True, nl=False)

    @contextmanager
    def waiting(self, words: Callable[[], str]) -> Iterator[None]:
        """Show how things stand while something slow is done: anew each second, on a terminal."""
        if self.plain or not is_lively(sys.stderr):
            yield
            return
        over = threading.Event()

        def show(report: Callable[[str], None]) -> None:
            while True:
                report(words()[: shutil.get_terminal_size().columns - 1])
                if over.wait(1.0):
                    return

        with self.progress() as report:
            shower = threading.Thread(target=show, args=(report,), daemon=True)
            shower.start()
            try:
                yield
            finally:
                over.set()
                shower.join()


def is_lively(stream: IO[str]) -> bool:
    """Tell whether a line on this stream can be written over."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def paint_diff(text: str) -> str:
    """Return a unified diff with its lines coloured."""
    return "\n".join(_diff_line(line) for line in text.splitlines())


def _folded(line: str, indent: int) -> str:
    before = " " * indent
    if not _is_terminal(sys.stdout) or line.startswith("  "):
        return before + line
    fill = textwrap.TextWrapper(
        max(indent + 10, shutil.get_terminal_size().columns),
        initial_indent=before,
        subsequent_indent=before,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return fill.fill(line)


def _is_terminal(stream: IO[str]) -> bool:
    return stream.isatty()


def _diff_line(line: str) -> str:
    if line.startswith(("---", "+++")):
        return click.style(line, bold=True)
    if line.startswith("@@"):
        return click.style(line, fg="cyan")
    if line.startswith("+"):
        return click.style(line, fg="green")
    if line.startswith("-"):
        return click.style(line, fg="red")
    return line


def _link(path: Path, text: str, stream: IO[str]) -> str:
    """OSC 8; the terminals that print it as it stands are left out."""
    bare = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") in {"dumb", "linux"}
    if bare or not stream.isatty():
        return text
    return f"\x1b]8;;{path.resolve().as_uri()}\x1b\\{text}\x1b]8;;\x1b\\"


def _colour(stream: IO[str]) -> bool:
    """NO_COLOR wins over FORCE_COLOR wins over what the stream is."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def here() -> Console:
    """Return the console of the command that runs."""
    console = click.get_current_context().find_object(Console)
    return console if console is not None else Console()


def debug_flag() -> click.Option:
    """Return the option `--debug`, which every command takes."""
    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_set_debug,
        help="Show the traceback of an error.",
    )


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Console).debug = True
