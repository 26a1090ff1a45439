"""What the screen of a hunt says: plain words with a style each, from a state; nothing is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from ..messages import tr, tr_n, verdict
from ..session import Hunt
from .runner import Ran

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
        return tr("the file is not there; r puts it back"), "yellow"
    if state.running and state.ran is None:
        return tr("visible tests: running (the first run takes longer)"), ""
    if state.running:
        return tr("visible tests: running"), ""
    if state.ran is None:
        return tr("visible tests: not run yet"), ""
    return result(state.ran)


def result(ran: Ran) -> Line:
    """Say how one run ended."""
    seconds = f"{ran.seconds:.1f}"
    if ran.trouble:
        return tr("visible tests: {what}", what=plain(ran.trouble)), "yellow"
    if not ran.failed:
        passed = ran.passed
        return tr(
            "visible tests: all {all} passed ({seconds} s)", all=passed, seconds=seconds
        ), "green"
    text = tr(
        "visible tests: {failed} of {all} failed ({seconds} s): {first}",
        failed=ran.failed,
        all=ran.passed + ran.failed,
        seconds=seconds,
        first=plain(ran.first),
    )
    return text, "red"


def keys() -> str:
    """Say which keys there are."""
    does = {
        "c": tr("check"),
        "h": tr("hint"),
        "d": tr("my diff"),
        "a": tr("accuse"),
        "o": tr("open"),
        "r": tr("reset"),
        "q": tr("quit"),
    }
    return "  ".join(f"{key} {what}" for key, what in does.items())


def bell(before: float, now: float) -> str | None:
    """Return the warning that is due when the seconds left went from `before` to `now`."""
    for minutes in reversed(BELLS):
        if now <= minutes * 60 < before:
            if minutes == 0:
                return tr("The time is up. A fix still counts; it is marked late.")
            return tr_n("{count} minute left.", "{count} minutes left.", minutes)
    return None


def plain(text: str) -> str:
    """Return a text that cannot steer a terminal: it comes from the candidate's tests."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown if len(shown) <= _MOST_WORDS else f"{shown[: _MOST_WORDS - 3]}..."


def _last_check(hunt: Hunt) -> str:
    if not hunt.checks:
        return tr("last check: none yet, hints: {hints}", hints=hunt.hints)
    last = hunt.checks[-1]
    name = verdict(last.verdict)
    if not last.promises:
        return tr("last check: {verdict}, hints: {hints}", verdict=name, hints=hunt.hints)
    return tr(
        "last check: {verdict} ({kept} of {all} kept), hints: {hints}",
        verdict=name,
        kept=last.kept,
        all=last.promises,
        hints=hunt.hints,
    )


def _urgency(hunt: Hunt) -> str:
    if hunt.solved is not None:
        return "bold green"
    if hunt.remaining <= 60:
        return "bold red"
    return "bold yellow" if hunt.remaining <= 600 else "bold"
