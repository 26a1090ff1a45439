"""What the screen of a hunt says: plain words with a style each, from a state; nothing is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from ..session import Hunt
from .runner import Ran

KEYS = {
    "c": "check",
    "h": "hint",
    "d": "my diff",
    "a": "accuse",
    "o": "open",
    "r": "reset",
    "q": "quit",
}
BELLS = (10, 5, 1, 0)
"""Minutes that are left when a warning is due."""

_MOST_WORDS = 160


@dataclass(frozen=True, slots=True)
class State:
    """All that the screen shows."""

    title: str
    hunt: Hunt
    clock: str
    ran: Ran | None = None
    running: bool = False
    missing: bool = False


Line = tuple[str, str]
"""Words and their style, as rich names it."""


def block(state: State) -> list[Line]:
    """Return the lines that are on the screen at all times."""
    return [
        (state.title, "bold"),
        (state.clock, _urgency(state.hunt)),
        tests(state),
        (_last_check(state.hunt), ""),
        (keys(), "dim"),
    ]


def tests(state: State) -> Line:
    """Say how the visible tests stand."""
    if state.missing:
        return "the file is not there; r puts it back", "yellow"
    if state.running:
        first = " (the first run takes longer)" if state.ran is None else ""
        return f"visible tests: running{first}", ""
    if state.ran is None:
        return "visible tests: not run yet", ""
    return result(state.ran)


def result(ran: Ran) -> Line:
    """Say how one run ended."""
    if ran.trouble:
        return f"visible tests: {plain(ran.trouble)}", "yellow"
    seconds = f"({ran.seconds:.1f} s)"
    if ran.failed:
        count = f"{ran.failed} of {ran.passed + ran.failed} failed {seconds}"
        return f"visible tests: {count}: {plain(ran.first)}", "red"
    return f"visible tests: all {ran.passed} passed {seconds}", "green"


def keys() -> str:
    """Say which keys there are."""
    return "  ".join(f"{key} {does}" for key, does in KEYS.items())


def bell(before: float, now: float) -> str | None:
    """Return the warning that is due when the seconds left went from `before` to `now`."""
    for minutes in reversed(BELLS):
        if now <= minutes * 60 < before:
            if minutes == 0:
                return "The time is up. A fix still counts; it is marked late."
            return f"{minutes} {'minute' if minutes == 1 else 'minutes'} left."
    return None


def plain(text: str) -> str:
    """Return a text that cannot steer a terminal: it comes from the candidate's tests."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown if len(shown) <= _MOST_WORDS else f"{shown[: _MOST_WORDS - 3]}..."


def _last_check(hunt: Hunt) -> str:
    hints = f"hints: {hunt.hints}"
    if not hunt.checks:
        return f"last check: none yet, {hints}"
    last = hunt.checks[-1]
    kept = f" ({last.kept} of {last.promises} kept)" if last.promises else ""
    return f"last check: {str(last.verdict).replace('_', ' ')}{kept}, {hints}"


def _urgency(hunt: Hunt) -> str:
    if hunt.solved is not None:
        return "bold green"
    if hunt.remaining <= 60:
        return "bold red"
    return "bold yellow" if hunt.remaining <= 600 else "bold"
