"""Reports say the same whatever was judged first, and no name and no text gets out of its place."""

from __future__ import annotations

import csv
import io
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import handmade
import pytest
import toy

from halfhour.generator import store
from halfhour.generator.grading.flags import FlagKind
from halfhour.generator.grading.records import Graded, Submission
from halfhour.generator.grading.report import MOST_DIFF_LINES, as_json, csv_text, html_text, rows
from halfhour.generator.pack.answers import Answers
from halfhour.generator.records import Outcome, PromiseResult, Verdict, VerdictKind

STARTER = Path(__file__).resolve().parents[2] / "puzzles" / "starter"
TOY = handmade.puzzle(), handmade.answer()
FOLDER = min(path.parent for path in STARTER.glob("*/token_sampler.py"))
SAMPLER = store.read_puzzle(FOLDER), store.read_answer(FOLDER)
ANSWERS = Answers("week.answers", "2026-W48", (TOY, SAMPLER), "0" * 64)
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=y>\"'&\x1b[2J\u202e\x00"
VOID = {"meta"}


def graded(
    candidate: str,
    source: str | None = TOY[1].original,
    kind: VerdictKind = VerdictKind.FIXED,
    *,
    where: str = "",
    puzzle: str = TOY[0].id,
    broken: tuple[str, ...] = (),
    reason: str = "a reason",
) -> Graded:
    results = tuple(
        PromiseResult(p, Outcome.WRONG if p.name in broken else Outcome.KEPT)
        for p in TOY[1].promises
    )
    ruled = kind in (VerdictKind.FIXED, VerdictKind.NOT_FIXED)
    verdict = Verdict(kind, reason, results if ruled else (), rung="L2", seed=7, seconds=1.5)
    place = where or f"{candidate}.py"
    return Graded(Submission(candidate, place, puzzle, source, ""), verdict, runs=2)


def cells(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


class Page(HTMLParser):
    """Reads a page as a browser would, and refuses what is not well nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


ALL = [
    graded("ada"),
    graded("bob", TOY[0].source, VerdictKind.NOT_FIXED, broken=handmade.BROKEN),
    graded("carol", toy.SOURCE.replace("0.0", "0.25")),
    graded("dan", toy.SOURCE.replace("0.0", "0.25  # mine")),
    graded("eve", SAMPLER[1].original, puzzle=SAMPLER[0].id),
    graded("fay", None, VerdictKind.INVALID, puzzle="", reason="fay.py is of no puzzle"),
]


# ----- rows


def test_rows_are_in_the_order_of_puzzles_candidates_and_places() -> None:
    shuffled = [*ALL, graded("ada", where="a second file.py")]
    random.Random(3).shuffle(shuffled)

    table = rows(shuffled, ANSWERS)

    assert [(row.number, row.submission.candidate) for row in table] == [
        *((1, "ada"), (2, "ada"), (3, "bob"), (4, "carol"), (5, "dan"), (6, "eve"), (7, "fay"))
    ]
    assert [row.submission.where for row in table[:2]] == ["a second file.py", "ada.py"]
    assert table[-1].puzzle is None
    assert table[-1].changes is None


def test_the_order_of_judging_changes_no_byte() -> None:
    other = list(reversed(ALL))

    assert html_text(rows(other, ANSWERS), ANSWERS) == html_text(rows(ALL, ANSWERS), ANSWERS)
    assert csv_text(rows(other, ANSWERS)) == csv_text(rows(ALL, ANSWERS))


def test_the_same_code_is_told_unless_it_is_everyone_s() -> None:
    by_name = {row.submission.candidate: row for row in rows(ALL, ANSWERS)}

    assert by_name["ada"].same_as == "the correct file"
    assert by_name["bob"].same_as == "the file as handed out"
    assert by_name["carol"].alike == (by_name["dan"].number,)
    assert by_name["dan"].alike == (by_name["carol"].number,)
    assert [row.alike for row in rows([graded("ada"), graded("gil")], ANSWERS)] == [(), ()]


def test_the_same_text_for_another_puzzle_is_another() -> None:
    two = [graded("a", "x = 1\n"), graded("b", "x = 1\n", puzzle=SAMPLER[0].id)]

    assert [row.alike for row in rows(two, ANSWERS)] == [(), ()]


def test_the_budget_is_asked_for_and_flags_are_in_the_row() -> None:
    carol = rows(ALL, ANSWERS, max_lines=1)[2]

    assert [flag.kind for flag in carol.flags] == [FlagKind.BUDGET]
    assert rows(ALL, ANSWERS, max_lines=2)[2].flags == ()
    assert as_json(carol)["lines"] == 2
    assert as_json(carol)["flags"] == [
        {"kind": "budget", "sentence": "2 lines changed, 1 allowed", "line": None}
    ]


def test_no_wall_clock_and_no_drawn_seed_is_in_a_row_for_others() -> None:
    assert not {"seed", "seconds"} & as_json(rows(ALL, ANSWERS)[0]).keys()


# ----- the table for a spreadsheet


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@x", " =1", "\t=1", "\r=1", "＝1"])  # noqa: RUF001
def test_no_cell_is_a_formula(start: str) -> None:
    one = graded(start, where=f"{start}.py", kind=VerdictKind.INVALID, reason=f"{start} is no name")

    (row,) = cells(csv_text(rows([one], ANSWERS)))

    for column in ("candidate", "file", "why"):
        assert re.match(r"'|\\[tr]", row[column])


def test_every_submission_is_one_row_whatever_its_name() -> None:
    odd = [graded(f'a,"b"\n{n};c', where=HOSTILE) for n in range(3)]

    found = cells(csv_text(rows(odd, ANSWERS)))

    assert len(found) == 3
    assert found[0]["candidate"] == 'a,"b"\\n0;c'
    assert "\x1b" not in csv_text(rows(odd, ANSWERS))


def test_the_cells_say_what_the_row_says() -> None:
    bob = cells(csv_text(rows(ALL, ANSWERS)))[1]

    assert bob["verdict"] == "not_fixed"
    assert (bob["kept"], bob["of"]) == ("2", "4")
    assert bob["why"] == ", ".join(handmade.BROKEN)
    assert (bob["lines"], bob["same as"]) == ("0", "the file as handed out")


def test_quiet_names_no_promise_anywhere() -> None:
    table = rows(ALL, ANSWERS)
    texts = [csv_text(table, quiet=True), html_text(table, ANSWERS, quiet=True)]
    texts.append(str([as_json(row, quiet=True) for row in table]))

    for text in texts:
        assert not any(p.name in text or p.text in text for p in TOY[1].promises)
    assert handmade.BROKEN[0] in csv_text(table)
    assert handmade.BROKEN[0] in html_text(table, ANSWERS)


# ----- the page


def test_nothing_that_was_handed_in_becomes_markup() -> None:
    hostile = graded(
        HOSTILE, f"{toy.SOURCE}\n# {HOSTILE}\n'{HOSTILE}' == x", where=HOSTILE, reason=HOSTILE
    )
    plain = graded("a", f"{toy.SOURCE}\n# b\n'b' == x", where="c", reason="d")

    page = Page(html_text(rows([hostile], ANSWERS, max_lines=0), ANSWERS))

    honest = Page(html_text(rows([plain], ANSWERS, max_lines=0), ANSWERS))
    assert [tag for tag, _ in page.tags if tag not in ("ul", "li", "strong")] == [
        tag for tag, _ in honest.tags if tag not in ("ul", "li", "strong")
    ]
    assert "<script>alert(1)</script>" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", page.text)


def test_the_page_asks_for_nothing_but_itself() -> None:
    text = html_text(rows(ALL, ANSWERS), ANSWERS)
    page = Page(text)

    assert "http" not in re.sub(r'http-equiv="Content-Security-Policy"', "", text)
    assert not {"script", "img", "link", "iframe", "base", "form"} & {tag for tag, _ in page.tags}
    assert not any("src" in attrs or "style" in attrs for _, attrs in page.tags)
    hrefs = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    ids = [f"#{attrs['id']}" for _, attrs in page.tags if "id" in attrs]
    assert set(filter(None, hrefs)) <= set(ids)
    assert len(ids) == len(set(ids))


def test_the_page_shows_verdicts_promises_flags_diffs_and_those_alike() -> None:
    page = Page(html_text(rows(ALL, ANSWERS, max_lines=1), ANSWERS))

    assert "6 submissions, 4 fixed, 1 not fixed, 1 invalid" in page.text
    assert "The same code as no. 4 (dan)" in " ".join(page.text.split())
    assert "2 of 4 promises kept" in page.text
    assert "The mean is the sum divided by the count." in page.text
    assert "2 lines changed, 1 allowed" in page.text
    assert "+    total = 0.25" in page.text
    assert "Of no puzzle" in page.text
    assert "fay.py is of no puzzle" in page.text


def test_a_diff_is_shown_once_and_not_without_end() -> None:
    long = "".join(f"x_{n} = {n}\n" for n in range(1000))

    page = Page(html_text(rows([graded("a", long), graded("b", long)], ANSWERS), ANSWERS))

    assert page.text.count("+x_3 = 3") == 1
    assert "+x_999 = 999" not in page.text
    assert re.search(r"\d+ more lines of the diff are left out", page.text)
    assert sum(tag == "span" for tag, _ in page.tags) < MOST_DIFF_LINES + 40
