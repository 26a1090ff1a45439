"""Diffs are what a reader expects, line by line."""

from __future__ import annotations

import pytest

from halfhour.generator import textdiff

ORIGINAL = "a\nb\nc\nd\ne\nf\ng\nh\ni\n"


def test_a_diff_shows_three_lines_of_context() -> None:
    assert textdiff.unified(ORIGINAL, ORIGINAL.replace("e", "E"), "x.py") == (
        "--- a/x.py\n+++ b/x.py\n@@ -2,7 +2,7 @@\n b\n c\n d\n-e\n+E\n f\n g\n h\n"
    )


def test_equal_texts_have_no_diff() -> None:
    assert textdiff.unified(ORIGINAL, ORIGINAL, "x.py") == ""


def test_a_missing_newline_at_the_end_is_said() -> None:
    assert textdiff.unified("a\nb", "a\nB", "x.py").endswith(
        "-b\n\\ No newline at end of file\n+B\n\\ No newline at end of file\n"
    )


def test_a_form_feed_is_no_end_of_line() -> None:
    assert textdiff.unified("a\x0cb\n", "a\x0cB\n", "x.py").endswith("-a\x0cb\n+a\x0cB\n")


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        pytest.param(ORIGINAL, 0, id="nothing"),
        pytest.param(ORIGINAL.replace("e", "E"), 1, id="one rewritten"),
        pytest.param(ORIGINAL.replace("e\n", ""), 1, id="one lost"),
        pytest.param(ORIGINAL.replace("e\n", "e\ne\n"), 1, id="one added"),
        pytest.param(ORIGINAL.replace("d\ne\n", "e\nd\n"), 2, id="two exchanged"),
        pytest.param(ORIGINAL.replace("b", "B").replace("h", "H"), 2, id="two apart"),
    ],
)
def test_changed_lines_are_counted(changed: str, lines: int) -> None:
    assert textdiff.changed_lines(ORIGINAL, changed) == lines


def test_a_long_file_of_frequent_lines_is_compared_line_by_line() -> None:
    before = [f"line {number % 50}\n" for number in range(300)]
    after = [*before[:150], "changed\n", *before[151:]]

    assert textdiff.changed_lines("".join(before), "".join(after)) == 1
