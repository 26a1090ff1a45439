"""Collect the messages of a candidate; as a script, rewrite generator/locale/halfhour.pot."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import write_po
from jinja2.ext import babel_extract

GENERATOR = Path(__file__).resolve().parents[2] / "generator"
POT = GENERATOR / "locale" / "halfhour.pot"
HEAD = "# Messages of halfhour, for translators. Written by `make messages`."
WRITTEN_BY = {"tr": None, "tr_n": (1, 2)}
"""The functions whose messages are collected, as Babel's keywords."""
_OF_TODAY = (b'"POT-Creation-Date', b'"Generated-By')


def messages() -> Catalog:
    """Return all messages, in the order of the files."""
    catalog = Catalog(project="halfhour", version="", header_comment=HEAD)
    for file, method in _files():
        with file.open("rb") as text:
            for _, message, comments, _ in extract(method, text, keywords=WRITTEN_BY):
                place = file.relative_to(GENERATOR.parent).as_posix()
                catalog.add(message, locations=[(place, 0)], auto_comments=comments)
    return catalog


def pot() -> bytes:
    """Return the template of all catalogues."""
    out = io.BytesIO()
    write_po(out, messages(), width=100, include_lineno=False)
    kept = [line for line in out.getvalue().split(b"\n") if not line.startswith(_OF_TODAY)]
    return b"\n".join(kept)


def mark(text: str) -> str:
    """Translate a message to the toy language."""
    return f"~{text}"


def write_toy(folder: Path, language: str, say: Callable[[str], str] = mark) -> None:
    """Write a catalogue in which every message is said so."""
    catalog = messages()
    for message in catalog:
        if message.id:
            several = not isinstance(message.id, str)
            message.string = tuple(map(say, message.id)) if several else say(str(message.id))
    file = folder / language / "LC_MESSAGES" / "halfhour.mo"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as out:
        write_mo(out, catalog)


def _files() -> Iterator[tuple[Path, Any]]:
    for file in sorted(GENERATOR.rglob("*.py")):
        yield file, "python"
    for file in sorted((GENERATOR / "templates").glob("*.j2")):
        yield file, babel_extract


def main() -> None:
    POT.write_bytes(pot())


if __name__ == "__main__":
    main()
