"""Draw the pictures in the README from a hunt made up by hand; as a script, rewrite screens/."""

from __future__ import annotations

import re
from pathlib import Path

import handmade
import toy

from halfhour.generator import past, report
from halfhour.generator.past import Event

FOLDER = Path(__file__).resolve().parents[2] / "screens"
WIDTH = 880
HEIGHT = 760
"""Of the report as much as shows how it begins."""

_MINUTE = 60


def hunt() -> past.Past:
    """Return a hunt of a quarter of an hour."""
    wrong = handmade.puzzle().source.replace("total = 0.0", "total = values[0]")
    events = [
        _at(0, "started", puzzle="0badcafe", folder="/puzzles/0badcafe", minutes=30),
        _at(3.2, "saved", text=wrong),
        _at(3.25, "ran", passed=0, failed=1, seconds=0.4),
        _at(4.1, "checked", verdict="not_fixed", kept=1, promises=4),
        _at(4.5, "reset"),
        _at(6.8, "hinted", step=1, cost=1),
        _at(9.6, "accused", line=8, because="The sum starts too high.", hit=False),
        _at(12.9, "accused", line=11, because="Two equal values have another mean.", hit=True),
        _at(13.7, "saved", text=toy.SOURCE),
        _at(13.75, "ran", passed=1, failed=0, seconds=0.4),
        _at(14.4, "checked", verdict="fixed", kept=4, promises=4),
    ]
    (only,) = past.hunts(events, minutes=30, now=20.0 * _MINUTE)
    return only


def page() -> str:
    """Return the report of the hunt."""
    return report.page(handmade.puzzle(), handmade.answer(), hunt())


def picture() -> str:
    """Return the upper part of the report as a picture, which any browser draws by itself."""
    found = re.search(r"<style>(.*?)</style>.*<body>(.*)</body>", page(), re.DOTALL)
    assert found is not None
    style, body = found.groups()
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH} {HEIGHT}">\n'
        f"<foreignObject {size}>\n"
        f'<div xmlns="http://www.w3.org/1999/xhtml" class="page">\n'
        f"<style>{style}"
        ".page { padding: 1rem 2rem; min-height: 100%; background: var(--page);"
        " color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; }</style>"
        f"{_for_svg(body)}</div>\n</foreignObject>\n</svg>\n"
    )


def _for_svg(body: str) -> str:
    """Name the time line's language: within XHTML an `svg` without one is no picture."""
    return body.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ').replace(
        "<details open>", '<details open="">'
    )


def _at(minute: float, event: str, /, **facts: object) -> Event:
    return {"event": event, "at": minute * _MINUTE, **facts}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "report.svg").write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main()
