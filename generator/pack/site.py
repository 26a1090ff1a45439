"""A static site of weeks: an index and an Atom feed of the packs that lie in a folder.

Both are functions of the folder alone, so that writing them again changes nothing.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

from .. import files
from ..errors import UnsoundPuzzle, UsageError
from ..template import template
from . import names
from .manifest import Manifest
from .opened import open_zip
from .week import Week
from .week_page import count_words, day_words, topic_words

INDEX = "index.html"
FEED = "atom.xml"
MARKS: Mapping[str, bytes] = {
    INDEX: b"<!doctype html>\n<!-- halfhour weeks -->",
    FEED: b"<?xml version='1.0' encoding='utf-8'?>\n<!-- halfhour weeks -->",
}
"""How each file begins: one of ours may be written over."""

_ATOM = "http://www.w3.org/2005/Atom"
_ZIP = re.compile(r"halfhour-([0-9]{4}-W[0-9]{2})\.zip")
_TITLE = "halfhour, week by week"
_SUMMARY = "Correct-looking inference code with planted bugs. Read, find, mend."
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:halfhour:weeks")


@dataclass(frozen=True, slots=True)
class Published:
    """A week that lies in the folder."""

    week: Week
    manifest: Manifest
    zip_size: int
    revealed: bool
    """Whether its answers lie there too."""

    @property
    def page(self) -> str:
        return names.page(self.week.name)

    @property
    def zip(self) -> str:
        return names.puzzles_zip(self.week.name)

    @property
    def answers(self) -> str:
        return names.answers_zip(self.week.name)

    @property
    def count(self) -> str:
        return count_words(self.manifest)

    @property
    def day(self) -> str:
        return day_words(self.week)

    @property
    def updated(self) -> str:
        """The Monday and not the clock: the same folder gives the same feed."""
        return f"{self.week.monday.isoformat()}T00:00:00Z"


def published(folder: Path) -> tuple[Published, ...]:
    """Return the weeks of which page and zip lie in a folder, newest first.

    Raises UsageError where there are none, UnsoundPuzzle where a zip is damaged or is another's.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    weeks = [
        _read(folder, Week.named(found[1]))
        for path in folder.iterdir()
        if (found := _ZIP.fullmatch(path.name)) and (folder / names.page(found[1])).is_file()
    ]
    if not weeks:
        raise UsageError(
            f"{folder} holds no week; make one with: halfhour pack this --out {folder}"
        )
    return tuple(sorted(weeks, key=lambda each: each.week, reverse=True))


def site_files(weeks: Sequence[Published], base_url: str = "") -> dict[str, bytes]:
    """Return the files of the site by name.

    `base_url` is where the folder will be served, and makes the feed's links absolute. Raises
    UsageError where it is no web address.
    """
    base = _base(base_url)
    page = template("weeks.html").render(
        title=_TITLE, summary=_SUMMARY, weeks=weeks, topics=topic_words
    )
    return {INDEX: page.encode("utf-8"), FEED: _feed(weeks, base)}


def write_site(folder: Path, content: Mapping[str, bytes]) -> tuple[str, ...]:
    """Write what differs and return its names; raises UsageError for a file that is not ours."""
    changed = []
    for name, data in content.items():
        found = _found(folder / name)
        if found is not None and not found.startswith(MARKS[name]):
            raise UsageError(
                f"{folder / name} is not of halfhour; move it away, or use another folder"
            )
        if found != data:
            changed.append(name)
    for name in changed:
        files.replace_file(folder / name, content[name])
    return tuple(changed)


def _read(folder: Path, week: Week) -> Published:
    path = folder / names.puzzles_zip(week.name)
    manifest = open_zip(path).puzzles
    if manifest.week != week.name:
        raise UnsoundPuzzle(f"{path} holds the week {manifest.week}")
    revealed = (folder / names.answers_zip(week.name)).is_file()
    return Published(week, manifest, path.stat().st_size, revealed)


def _found(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _base(url: str) -> str:
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.netloc or " " in url):
        raise UsageError(f"{url!r} is no web address such as https://example.org/weeks/")
    if parts.query or parts.fragment:
        raise UsageError(f"{url!r} must end in a folder, without ? and #")
    return url if not url or url.endswith("/") else f"{url}/"


def _feed(weeks: Sequence[Published], base: str) -> bytes:
    ElementTree.register_namespace("", _ATOM)
    feed = ElementTree.Element(f"{{{_ATOM}}}feed")
    _child(feed, "title", _TITLE)
    _child(feed, "subtitle", _SUMMARY)
    _child(feed, "id", base or uuid.uuid5(_NAMESPACE, "feed").urn)
    _child(feed, "updated", weeks[0].updated)
    _child(_child(feed, "author"), "name", "halfhour")
    _child(feed, "link", rel="self", type="application/atom+xml", href=f"{base}{FEED}")
    _child(feed, "link", rel="alternate", type="text/html", href=f"{base}{INDEX}")
    for each in weeks:
        entry = _child(feed, "entry")
        _child(entry, "title", f"{each.week.name}: {each.count}")
        _child(entry, "id", uuid.uuid5(_NAMESPACE, f"{each.week.name} {each.manifest.answers}").urn)
        _child(entry, "updated", each.updated)
        _child(entry, "link", rel="alternate", type="text/html", href=f"{base}{each.page}")
        _child(
            *(entry, "link"),
            rel="enclosure",
            type="application/zip",
            length=str(each.zip_size),
            href=f"{base}{each.zip}",
        )
        titles = [f"{p.title} (level {p.level})" for p in each.manifest.puzzles]
        _child(entry, "summary", "; ".join(titles))
    ElementTree.indent(feed)
    text = ElementTree.tostring(feed, encoding="unicode")
    return b"%b\n%b\n" % (MARKS[FEED], text.encode("utf-8"))


def _child(
    parent: ElementTree.Element, name: str, text: str = "", **attributes: str
) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, f"{{{_ATOM}}}{name}", attributes)
    child.text = "".join(filter(str.isprintable, text)) or None  # XML has no other characters
    return child
