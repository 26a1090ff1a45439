"""The loop of a hunt: it waits for a save, a result, a key or the clock, and answers each."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

from ..messages import tr
from ..records import Puzzle
from ..session import Hunt, Session
from ..store import VISIBLE_TESTS
from . import view
from .keys import Key, Keys
from .runner import Ran, Runner
from .surface import Lines, Screen, Surface
from .view import State
from .watch import LOOK_EVERY, Watched, Watcher

Action = Callable[[str, bool], None]
"""What a key does, with what followed it on its line, and whether the candidate can be asked.

It prints and asks on its own."""


class Hunting:
    """One sitting at a puzzle, from the screen's first line to `q`."""

    def __init__(
        self,
        folder: Path,
        puzzle: Puzzle,
        log: Session,
        actions: Mapping[str, Action],
        *,
        clock: Callable[[Hunt], str],
        record: bool,
        poll: bool,
        plain: bool,
    ) -> None:
        self._folder = folder
        self._puzzle = puzzle
        self._log = log
        self._actions = actions
        self._clock = clock
        self._record = record
        self._poll = poll
        self._surface: Surface = Lines() if plain else Screen()
        self._watched = Watched([folder / puzzle.file_name, folder / VISIBLE_TESTS])
        heavy = ("torch",) if "torch" in puzzle.source else ()
        self._runner = Runner(folder, VISIBLE_TESTS, preload=heavy)
        self._ran: Ran | None = None
        self._left = 0.0

    def run(self) -> None:
        """Hunt until the candidate quits. Raises KeyboardInterrupt where they are stopped."""
        with ExitStack() as stack:
            bell = stack.enter_context(_wakes())
            stack.callback(self._runner.close)
            if not self._poll:
                watcher = Watcher(self._folder, bell.ring)
                watcher.start()
                stack.callback(watcher.stop)
            keys = stack.enter_context(Keys())
            self._surface.open()
            stack.callback(self._surface.close)
            self._left = self._log.hunt.remaining
            self._show()
            self._note_save()
            self._test()
            while self._wait(bell, keys):
                pass

    def _wait(self, bell: _Wakes, keys: Keys) -> bool:
        """Answer whatever comes first; return whether to go on."""
        self._show()
        if bell.stopped:  # what the end interrupted may have kept it to itself
            raise KeyboardInterrupt
        tests = self._runner.fileno()
        sources = [bell.reader, *(h for h in (keys.handle, tests) if h is not None)]
        ready, _, _ = select.select(sources, [], [], LOOK_EVERY)
        if bell.reader in ready and bell.drain():
            keys.take()
            self._surface.resized()
        if tests in ready:
            self._hear()
        self._log.refresh()
        self._warn()
        if self._watched.changed():
            self._saved()
        if keys.handle is not None and keys.handle in ready:
            typed = keys.read()
            go_on = typed is not None and self._press_all(typed, keys)
            bell.stopped = False  # Ctrl-C at a question ended the question
            return go_on
        return True

    def _press_all(self, typed: Sequence[Key], keys: Keys) -> bool:
        """Do what the keys say; return whether to go on."""
        for key in typed:
            if not self._press(key, keys):
                return False
            if keys.single and key.name in self._actions:
                return True  # what came with it was typed before that command could be seen
        return True

    def _press(self, key: Key, keys: Keys) -> bool:
        """Do what a key says; return whether to go on."""
        if key.name == "q":
            return False
        action = self._actions.get(key.name)
        if action is None:
            if key.name.isprintable():
                now = self._clock(self._log.hunt)
                text = tr("{clock}; keys: {keys}", clock=now, keys=view.keys())
                self._surface.tell((text, ""))
            return True
        with self._surface.aside(), keys.released():
            action(key.rest, keys.single)
        self._log.refresh()
        return True

    def _saved(self) -> None:
        if self._watched.text is None:
            self._runner_idle()
            text = tr("{file} is not there; r puts it back", file=self._puzzle.file_name)
            self._surface.tell((text, "yellow"))
            return
        self._note_save()
        self._surface.tell((tr("saved; running the visible tests"), "dim"))
        self._test()

    def _runner_idle(self) -> None:
        """What is under way tests a file that is gone."""
        if self._runner.running:
            self._runner.close()

    def _test(self) -> None:
        if not self._watched.missing:
            self._runner.start()

    def _hear(self) -> None:
        ran = self._runner.read()
        if ran is None:
            return
        self._ran = ran
        if self._record and not ran.trouble:
            self._log.ran(ran.passed, ran.failed, ran.seconds)
        self._surface.tell(view.result(ran))

    def _warn(self) -> None:
        hunt = self._log.hunt
        if hunt.is_open and hunt.paused is None:
            warning = view.bell(self._left, hunt.remaining)
            if warning is not None:
                self._surface.tell((warning, "bold yellow"), ring=True)
        self._left = hunt.remaining

    def _note_save(self) -> None:
        text = self._watched.text
        if self._record and text is not None and not self._log.knows(text):
            self._log.saved(text)

    def _show(self) -> None:
        hunt = self._log.hunt
        self._surface.show(
            State(
                title=self._puzzle.title,
                hunt=hunt,
                clock=self._clock(hunt),
                ran=self._ran,
                running=self._runner.running,
                missing=self._watched.missing,
            )
        )


class _Wakes:
    """A pipe that ends the waiting: threads and signals write, the loop reads."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        self.stopped = False
        os.set_blocking(self.reader, False)
        os.set_blocking(self._writer, False)

    def ring(self) -> None:
        """End the waiting: have a look."""
        self._write(b"l")

    def redraw(self, _: int, __: FrameType | None) -> None:
        """End the waiting: the terminal is another."""
        self._write(b"r")

    def stop(self, _: int, __: FrameType | None) -> None:
        """End the hunt, now or at the next turn."""
        self.stopped = True
        self._write(b"l")
        raise KeyboardInterrupt

    def drain(self) -> bool:
        """Take all rings; return whether there is something to draw."""
        with suppress(BlockingIOError):
            return b"r" in os.read(self.reader, 65536)
        return False

    def close(self) -> None:
        """Close both ends; a late ring is lost."""
        os.close(self.reader)
        writer, self._writer = self._writer, -1
        os.close(writer)

    def _write(self, mark: bytes) -> None:
        with suppress(OSError):
            os.write(self._writer, mark)


@contextmanager
def _wakes() -> Iterator[_Wakes]:
    """Give the pipe; while it is open, a new size redraws and an end is an orderly one."""
    wakes = _Wakes()
    handlers = {
        signal.SIGWINCH: wakes.redraw,
        signal.SIGCONT: wakes.redraw,
        signal.SIGINT: wakes.stop,
        signal.SIGTERM: wakes.stop,
        signal.SIGHUP: wakes.stop,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield wakes
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        wakes.close()
