"""The catalogue as a page: all the bugs' words, nothing from elsewhere, and never stale."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from standins import ENTRIES

from halfhour.generator import catalogue, page
from halfhour.generator.records import SeenIn

BUGS = (
    *ENTRIES,
    replace(
        ENTRIES[1],
        name="smaller_is_not_greater",
        family="another-family",
        title='`a < b` is "greater" & so on.',
        sightings=(SeenIn("https://example.org/2?a=1&b=2", "`a < b` upside down"),),
    ),
)


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return page.pages(BUGS)


class Parsed(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", [page.MARKDOWN, page.HTML])
def test_the_committed_page_is_what_the_mutators_say(name: str) -> None:
    fresh = page.pages(catalogue.built_in())[name]
    stale = (catalogue.MUTATORS / name).read_text(encoding="utf-8") != fresh

    assert not stale, f"{name} is not what the mutators say now; run: make catalogue"


def test_every_bug_is_told_whole(pages: dict[str, str]) -> None:
    said = Parsed(pages[page.HTML]).text
    for bug in ENTRIES:
        for text in (pages[page.MARKDOWN], said):
            assert bug.title in text
            assert bug.name in text
            assert bug.family in text
            assert all(paragraph in text for paragraph in bug.lesson.split("\n\n"))
        for seen in bug.sightings:
            assert f"[{seen.note}]({seen.url})" in pages[page.MARKDOWN]


def test_bugs_and_families_are_counted_by_topic(pages: dict[str, str]) -> None:
    assert "3 bugs of 2 families" in pages[page.MARKDOWN]
    assert "| [Masking](#masking) | 1 | 1 |" in pages[page.MARKDOWN]
    assert "| [Numerics](#numerics) | 2 | 2 |" in pages[page.MARKDOWN]
    assert '<a href="#numerics">Numerics</a></td><td>2</td><td>2</td>' in pages[page.HTML]


def test_a_reader_is_warned_before_the_first_bug(pages: dict[str, str]) -> None:
    for text in pages.values():
        assert text.index("Reading this spoils puzzles.") < text.index(BUGS[0].title)
        assert "names no puzzle" in text


def test_the_html_page_is_well_formed_and_escapes_what_authors_wrote(pages: dict[str, str]) -> None:
    parsed = Parsed(pages[page.HTML])

    assert parsed.open == []
    assert 'a < b is "greater" & so on.' in parsed.text
    assert "<code>a &lt; b</code>" in pages[page.HTML]
    assert "https://example.org/2?a=1&b=2" in [dict(a).get("href") for _, a in parsed.tags]


def test_the_html_page_asks_nobody_for_anything(pages: dict[str, str]) -> None:
    parsed = Parsed(pages[page.HTML])

    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in parsed.tags}
    assert not [attrs for _, attrs in parsed.tags if "src" in attrs]
    assert not re.search(r"@import|url\(", pages[page.HTML])


def test_the_html_page_is_for_light_dark_and_paper(pages: dict[str, str]) -> None:
    assert "color-scheme: light dark" in pages[page.HTML]
    assert "@media print" in pages[page.HTML]


def test_the_links_of_the_page_lead_to_its_chapters() -> None:
    parsed = Parsed(page.pages(catalogue.built_in())[page.HTML])
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]

    assert len(ids) == len(set(ids))
    for _, attrs in parsed.tags:
        href = attrs.get("href") or ""
        assert not href.startswith("#") or href[1:] in ids


def test_the_same_bugs_give_the_same_bytes(pages: dict[str, str]) -> None:
    assert page.pages(BUGS) == pages
    assert page.pages((replace(BUGS[0], lesson="Another.\n\nOne."), *BUGS[1:])) != pages
