"""The page of a week presents it, spoils nothing, and needs nothing but itself."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import packs
import pytest

from halfhour.generator.pack.week_page import week_page

PAIRS = packs.starter_pairs()
MANIFEST = packs.manifest_of(PAIRS)
SOURCES = [puzzle.source for puzzle, _ in PAIRS]


class Reading(HTMLParser):
    """What a page says, and what it would fetch or lead to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def outside() -> Reading:
    return Reading(week_page(MANIFEST, SOURCES))


def test_each_puzzle_is_presented(outside: Reading) -> None:
    words = " ".join(outside.text.split())

    assert "Two bug hunts" in words
    assert "Week 2026-W48, from Monday, 23 November 2026. 60 minutes in all." in words
    for puzzle in MANIFEST.puzzles:
        assert puzzle.title in words
        assert f"level {puzzle.level} of 5" in words
        assert f"{puzzle.lines} lines" in words


def test_the_first_lines_of_each_file_are_shown_and_no_others(outside: Reading) -> None:
    for source in SOURCES:
        lines = source.splitlines()

        assert "\n".join(lines[:25]) in outside.text
        assert f"{len(lines) - 25} more lines" in outside.text
        assert lines[25].strip() not in outside.text or not lines[25].strip()


def test_a_text_that_is_cut_off_is_still_coloured_as_one() -> None:
    (puzzle, answer), *_ = PAIRS
    long = "x = 1\n" * 24 + '"""What x is,\n' + "and why.\n" * 9 + '"""\n'
    cut = replace(puzzle, source=long)

    page = week_page(packs.manifest_of([(cut, answer)]), [long])

    assert '<span class="sd">"""What x is,</span>' in page
    assert page.count("<span") == page.count("</span>")


def test_nothing_of_an_answer_is_on_it(outside: Reading) -> None:
    for _, answer in PAIRS:
        for bug in answer.bugs:
            spoilers = [bug.mutator, bug.title, *bug.hints, *bug.broken]
            spoilers += [line[1:].strip() for line in bug.diff.splitlines() if line[:1] in "+-"]

            assert [each for each in spoilers if each and each in outside.text] == []


def test_it_asks_for_nothing_from_anywhere(outside: Reading) -> None:
    assert outside.tags.isdisjoint({"script", "img", "link", "iframe", "object", "base"})
    assert outside.links == ["halfhour-2026-W48.zip"]
    page = week_page(MANIFEST, SOURCES)
    assert "url(" not in page
    assert "@import" not in page


def test_the_page_in_the_zip_leads_to_the_folders() -> None:
    inside = Reading(week_page(MANIFEST, SOURCES, inside=True))

    assert inside.links == [
        f"{puzzle.folder}/{name}"
        for puzzle in MANIFEST.puzzles
        for name in ("README.md", puzzle.file)
    ]


def test_it_names_the_answers_that_are_committed_to(outside: Reading) -> None:
    assert MANIFEST.answers in outside.text


def test_several_bugs_are_said_where_there_are_several() -> None:
    first, *rest = MANIFEST.puzzles
    several = replace(MANIFEST, puzzles=(replace(first, bugs=2), *rest))

    assert "2 bugs" in Reading(week_page(several, SOURCES)).text
    assert "bugs" not in Reading(week_page(MANIFEST, SOURCES)).text


def test_code_and_titles_are_text_and_not_markup() -> None:
    (puzzle, answer), *_ = PAIRS
    hostile = replace(puzzle, title="<b>x</b>", source='x = "<script>alert(1)</script>"\n')

    page = Reading(week_page(packs.manifest_of([(hostile, answer)]), [hostile.source]))

    assert page.tags.isdisjoint({"script"})
    assert '"<script>alert(1)</script>"' in page.text
    assert "<b>x</b>" in page.text


def test_it_has_colours_for_both_themes_and_for_paper() -> None:
    page = week_page(MANIFEST, SOURCES)

    assert '<span class="kn">from</span>' in page
    assert page.count(".code .kn {") == 2
    assert "@media (prefers-color-scheme: dark)" in page
    assert "@media print" in page


def test_every_month_has_its_name() -> None:
    manifests = [replace(MANIFEST, week=f"2026-W{n:02d}") for n in (3, 7, 12, 20, 50)]

    days = [re.search(r"Monday, [^<]*", week_page(each, SOURCES)) for each in manifests]

    assert [day and day[0] for day in days] == [
        "Monday, 12 January 2026",
        "Monday, 9 February 2026",
        "Monday, 16 March 2026",
        "Monday, 11 May 2026",
        "Monday, 7 December 2026",
    ]
