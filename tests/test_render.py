"""What people read: a brief that tells the symptom and not the bug, a reveal that tells it all."""

from __future__ import annotations

from dataclasses import replace

import handmade
import pytest
import toy

from halfhour.generator import render
from halfhour.generator.records import Demonstration, PlantedBug, Promise

PUZZLE = handmade.puzzle()
ANSWER = handmade.answer()


def test_a_brief_tells_the_symptom_the_promises_and_the_commands() -> None:
    brief = PUZZLE.brief

    assert "> Averages look too small." in brief
    assert all(f"- {promise.text}" in brief for promise in ANSWER.promises)
    for command in ("pytest -q test_visible.py", "halfhour check", "halfhour hint"):
        assert command in brief
    for rule in ("30 minutes", "One bug was planted", "Any correct fix counts", "A CPU is enough"):
        assert rule in brief
    assert "Apache-2.0" in brief


def test_a_brief_gives_nothing_away() -> None:
    assert render.leaks(PUZZLE.brief, PUZZLE, ANSWER) == []


def test_a_brief_of_two_bugs_tells_a_symptom_of_each_and_nothing_else() -> None:
    bugs = handmade.two_bugs()
    puzzle, answer = handmade.puzzle(bugs=bugs), handmade.answer(bugs=bugs)

    assert "Two bugs were planted" in puzzle.brief
    assert "> Averages look too small." in puzzle.brief
    assert "> The spread grows when everything moves up." in puzzle.brief
    assert render.leaks(puzzle.brief, puzzle, answer) == []


@pytest.mark.parametrize(
    ("slip", "says"),
    [
        ("see divisor_counts_one_too_many", "names the mutator"),
        ("The Divisor Counts\none too many.", "names the mutator"),
        ("A mean divides by one\nvalue more than it has.", "holds the title"),
        ("Look at the divisor!", "holds a hint"),
        ("`return total / len(values)`", "holds a changed line"),
        ("Line 11 is near.", "names line 11"),
        ("Look near line 11.", "names line 11"),
        ("toy.py:11", "names line 11"),
        ("toy.py#L11", "names line 11"),
    ],
)
def test_a_slip_in_a_brief_is_found(slip: str, says: str) -> None:
    found = render.leaks(f"{PUZZLE.brief}\n{slip}\n", PUZZLE, ANSWER)

    assert len(found) == 1
    assert says in found[0]


LEAKY_BUG = replace(
    handmade.BUG,
    diff=(
        "--- a/toy.py\n+++ b/toy.py\n@@ -17,1 +17,1 @@\n"
        "-    return mean([abs(value - middle) for value in values])\n"
        "+    return mean([abs(value + middle) for value in values])\n"
    ),
)


def leaky(*symptoms: str) -> tuple[PlantedBug, tuple[Promise, ...]]:
    """Return a bug beside `middle`, a local name, that breaks promises of these symptoms."""
    promises = tuple(Promise(f"test_{n}", f"Text {n}.", s) for n, s in enumerate(symptoms))
    return replace(LEAKY_BUG, broken=tuple(p.name for p in promises)), promises


@pytest.mark.parametrize(
    ("slip", "leak"),
    [
        pytest.param("It is about `middle`.", True, id="a local name as code"),
        pytest.param("It is about `abs(middle - 1)`.", True, id="a local name within code"),
        pytest.param("It stands in the middle.", False, id="a word of English"),
        pytest.param("> Nobody calls `mean`.", True, id="a public name in the ticket alone"),
        pytest.param("It promises `mean`.\n> Nobody calls `mean`.", False, id="told anyway"),
    ],
)
def test_a_brief_may_not_tell_names_of_the_changed_line(slip: str, leak: bool) -> None:
    answer = handmade.answer(bugs=(LEAKY_BUG,))

    found = render.leaks(f"# A brief\n\n{slip}\n", PUZZLE, answer)

    assert [said.endswith("of the changed line") for said in found] == [True] * leak


def test_a_line_of_the_demonstration_is_a_leak() -> None:
    shown = Demonstration("import toy\nprint(toy.mean([1.0, 3.0]))\n", "2.0\n", "1.3\n", "test_0")
    answer = handmade.answer(bugs=(replace(handmade.BUG, demonstration=shown),))

    (found,) = render.leaks("Try print(toy.mean([1.0, 3.0])) first.", PUZZLE, answer)

    assert "holds a hint" in found


def test_a_symptom_that_leaks_gives_way_to_the_next() -> None:
    bug, promises = leaky("`middle` is off", "the spread is too large")
    answer = replace(handmade.answer(bugs=(bug,)), promises=promises)

    assert render.ticket(answer) == ("the spread is too large",)


def test_where_every_symptom_leaks_a_promise_is_told() -> None:
    bug, promises = leaky("`middle` is off")
    answer = replace(handmade.answer(bugs=(bug,)), promises=promises)
    (line,) = render.ticket(answer)
    assert "Text 0." in line


def test_a_blind_brief_has_no_ticket() -> None:
    blind = render.with_brief(PUZZLE, toy.subject(), ANSWER, blind=True).brief

    assert "Averages look too small." not in blind
    assert "The ticket" not in blind
    assert "no ticket" in blind
    assert "## The rules" in blind
    assert "\n\n\n" not in blind


def test_the_picture_of_a_subject_stands_in_the_brief_as_it_is_drawn() -> None:
    flow = "  values [n] --> mean\n             |\n          spread"
    subject = replace(toy.subject(), flow=flow)

    brief = render.with_brief(PUZZLE, subject, ANSWER).brief

    assert f"\n```text\n{flow}\n```\n" in brief
    assert "```" not in PUZZLE.brief


@pytest.mark.parametrize("innocent", ["You have 11 minutes.", "line 110", "lines 1 to 300"])
def test_other_numbers_are_no_leak(innocent: str) -> None:
    assert render.leaks(innocent, PUZZLE, ANSWER) == []


def test_the_ticket_holds_no_symptom_twice_and_two_of_a_bug_at_the_most() -> None:
    promises = tuple(Promise(f"test_{n}", f"Text {n}.", f"symptom {n // 2}") for n in range(8))
    bug = replace(handmade.BUG, broken=tuple(p.name for p in promises))
    answer = replace(handmade.answer(bugs=(bug, bug)), promises=promises)

    assert render.ticket(answer) == ("symptom 0", "symptom 1")


def test_a_bug_that_no_user_would_notice_is_reported_by_its_promise() -> None:
    bug = replace(handmade.BUG, broken=("test_spread_by_hand",))

    (line,) = render.ticket(handmade.answer(bugs=(bug,)))

    assert "The spread of 1, 2 and 6 is two." in line


def test_the_reveal_tells_everything() -> None:
    text = render.reveal(PUZZLE, ANSWER)

    bug = handmade.BUG
    for part in (bug.title, bug.lesson, bug.diff, bug.mutator, "line 11", "2 of 4 promises"):
        assert part in text
    assert "- The spread of 1, 2 and 6 is two." in text
    assert "Adding the same number" not in text
    assert "a running mean: https://example.org/pull/7" in text


def test_the_reveal_teaches_in_five_parts_where_the_puzzle_has_them() -> None:
    bug = replace(
        handmade.BUG,
        demonstration=Demonstration(
            "import toy\nprint(toy.mean([1.0, 3.0]))\n", "2.0\n", "1.3\n", "test_spread_by_hand"
        ),
        missed="The visible test passes without any call of `spread`.",
        route=("Begin at `mean`.", "Line 11 has no good answer."),
    )

    text = render.reveal(PUZZLE, handmade.answer(bugs=(bug,)))

    parts = [
        bug.diff.rstrip("\n"),
        "    import toy\n    print(toy.mean([1.0, 3.0]))\n\nIt should print\n\n    2.0\n\n"
        "and with the bug it prints\n\n    1.3\n",
        "Why nobody noticed: The visible test passes without any call of `spread`.",
        "1. Begin at `mean`.\n2. Line 11 has no good answer.\n",
        "a running mean: https://example.org/pull/7",
    ]
    places = [text.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)


def test_the_reveal_of_an_older_puzzle_leaves_out_what_it_does_not_hold() -> None:
    text = render.reveal(PUZZLE, ANSWER)

    for part in ("smallest input", "Why nobody noticed", "Five minutes"):
        assert part not in text
    assert "\n\n\n" not in text


def test_the_reveal_of_two_bugs_numbers_them() -> None:
    bugs = handmade.two_bugs()

    text = render.reveal(handmade.puzzle(bugs=bugs), handmade.answer(bugs=bugs))

    assert f"Bug 1 of 2: {bugs[0].title}" in text
    assert f"Bug 2 of 2: {bugs[1].title}" in text


def test_only_the_diff_is_painted() -> None:
    painted = render.reveal(PUZZLE, ANSWER, paint=str.upper)

    assert "RETURN TOTAL" in painted
    assert handmade.BUG.title in painted


def test_texts_are_plain_and_the_same_every_time() -> None:
    """Markup in a title is a text like any other; lines end in a newline alone."""
    subject = replace(toy.subject(), title="a < b & c", description="{{ braces }}")
    bare = replace(PUZZLE, title=subject.title, brief="")

    first, second = (render.with_brief(bare, subject, ANSWER).brief for _ in range(2))

    assert first == second
    assert first.startswith("# a < b & c\n\n{{ braces }}\n")
    assert "\r" not in first
    assert "\n\n\n" not in first
    assert first.endswith("runs.\n")
