"""The weeks in a folder as a static site: an index and a feed, the same bytes every time."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

import packs
import pytest

from halfhour.generator.errors import UnsoundPuzzle, UsageError
from halfhour.generator.pack.site import published, site_files, write_site

TOY = packs.toy_pair()
WEEKS = ["2026-W48", "2027-W01", "2026-W53"]
ATOM = {"atom": "http://www.w3.org/2005/Atom"}
BASE = "https://example.org/weeks"


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """Three weeks; the answers of the oldest are published."""
    for week in WEEKS:
        made = packs.make(tmp_path / "public", [TOY], week=week)
        if week != "2026-W48":
            made.answers.unlink()
    return tmp_path / "public"


def written(folder: Path, base_url: str = "") -> dict[str, str]:
    content = site_files(published(folder), base_url)
    return {name: data.decode() for name, data in content.items()}


def feed(folder: Path, base_url: str = "") -> ElementTree.Element:
    return ElementTree.fromstring(written(folder, base_url)["atom.xml"])


def texts(element: ElementTree.Element, path: str) -> list[str | None]:
    return [found.text for found in element.findall(path, ATOM)]


def test_the_newest_week_comes_first(public: Path) -> None:
    assert [each.week.name for each in published(public)] == ["2027-W01", "2026-W53", "2026-W48"]


def test_the_index_leads_to_page_and_zip_and_to_answers_that_lie_there(public: Path) -> None:
    index = written(public)["index.html"]

    for week in WEEKS:
        assert f'href="halfhour-{week}.html"' in index
        assert f'href="halfhour-{week}.zip"' in index
    assert 'href="halfhour-2026-W48.answers.zip"' in index
    assert 'href="halfhour-2027-W01.answers.zip"' not in index
    assert TOY[0].title in index
    assert "<script" not in index


def test_the_feed_has_what_atom_wants(public: Path) -> None:
    """RFC 4287, 4.1: id, title and updated of feed and entries, an author, a link to itself."""
    found = feed(public, BASE)

    assert found.tag == "{http://www.w3.org/2005/Atom}feed"
    assert texts(found, "atom:author/atom:name") == ["halfhour"]
    assert [link.get("href") for link in found.findall("atom:link[@rel='self']", ATOM)] == [
        f"{BASE}/atom.xml"
    ]
    for element in (found, *found.findall("atom:entry", ATOM)):
        for name in ("id", "title", "updated"):
            assert len(texts(element, f"atom:{name}")) == 1
    ids = texts(found, "atom:id") + texts(found, "atom:entry/atom:id")
    assert len(set(ids)) == 4
    assert texts(found, "atom:entry/atom:title")[0] == "2027-W01: One bug hunt"


def test_a_week_is_as_old_as_its_monday(public: Path) -> None:
    found = feed(public)

    assert texts(found, "atom:updated") == ["2027-01-04T00:00:00Z"]
    assert texts(found, "atom:entry/atom:updated") == [
        "2027-01-04T00:00:00Z",
        "2026-12-28T00:00:00Z",
        "2026-11-23T00:00:00Z",
    ]


def test_a_feed_reader_can_fetch_the_zip(public: Path) -> None:
    link = feed(public, BASE).find("atom:entry/atom:link[@rel='enclosure']", ATOM)

    assert link is not None
    assert link.attrib == {
        "rel": "enclosure",
        "type": "application/zip",
        "length": str((public / "halfhour-2027-W01.zip").stat().st_size),
        "href": f"{BASE}/halfhour-2027-W01.zip",
    }


def test_a_week_keeps_its_id_wherever_it_is_served(public: Path) -> None:
    ids = "atom:entry/atom:id"

    assert texts(feed(public), ids) == texts(feed(public, BASE), ids)


def test_a_title_is_text_and_not_markup(tmp_path: Path) -> None:
    puzzle, answer = packs.titled("Keys & <values>\x1b")
    packs.make(tmp_path, [(puzzle, answer)])

    assert "Keys &amp; &lt;values&gt;" in written(tmp_path)["index.html"]
    summary = texts(feed(tmp_path), "atom:entry/atom:summary")
    assert summary == ["Keys & <values> (level 2)"]


# in the folder


def test_written_again_nothing_changes(public: Path) -> None:
    first = write_site(public, site_files(published(public), BASE))
    os.utime(public / "halfhour-2026-W48.zip", (0, 0))
    again = write_site(public, site_files(published(public), BASE))

    assert (first, again) == (("index.html", "atom.xml"), ())


def test_a_new_week_is_added(public: Path) -> None:
    write_site(public, site_files(published(public)))
    packs.make(public, [TOY], week="2027-W02")

    assert write_site(public, site_files(published(public))) == ("index.html", "atom.xml")
    assert "2027-W02" in (public / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["index.html", "atom.xml"])
def test_a_file_of_someone_else_is_not_written_over(public: Path, name: str) -> None:
    (public / name).write_text("mine", encoding="utf-8")

    with pytest.raises(UsageError, match="is not of halfhour"):
        write_site(public, site_files(published(public)))

    assert (public / name).read_text(encoding="utf-8") == "mine"
    assert sum((public / each).exists() for each in ("index.html", "atom.xml")) == 1


def test_a_zip_without_its_page_is_left_out(public: Path) -> None:
    (public / "halfhour-2027-W01.html").unlink()

    assert [each.week.name for each in published(public)] == ["2026-W53", "2026-W48"]


# what is wrong


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        published(tmp_path / "gone")


def test_a_folder_without_a_week(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no week; make one with: halfhour pack this"):
        published(tmp_path)


def test_a_damaged_zip_stops_it(public: Path) -> None:
    (public / "halfhour-2026-W53.zip").write_bytes(b"PK\x03\x04")

    with pytest.raises(UnsoundPuzzle, match=r"halfhour-2026-W53\.zip"):
        published(public)


def test_a_zip_under_the_name_of_another_week_stops_it(public: Path) -> None:
    (public / "halfhour-2026-W48.zip").replace(public / "halfhour-2026-W53.zip")

    with pytest.raises(UnsoundPuzzle, match="holds the week 2026-W48"):
        published(public)


@pytest.mark.parametrize(
    "url", ["example.org", "ftp://example.org/", "https://", "https://a.org/?x=1", "https://a b/"]
)
def test_an_address_that_is_none(public: Path, url: str) -> None:
    with pytest.raises(UsageError):
        site_files(published(public), url)
