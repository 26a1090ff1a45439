"""What was changed is counted as a person sees it, and the same code is known by its looks."""

from __future__ import annotations

import pytest
import toy

from halfhour.generator.grading.changes import (
    Changes,
    alike,
    changes,
    code_digest,
    share_rewritten,
)

BEFORE = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\n"


@pytest.mark.parametrize(
    ("after", "counted"),
    [
        pytest.param(BEFORE, (0, 0, 0), id="nothing"),
        pytest.param(BEFORE.replace("e\n", "E\n"), (1, 1, 1), id="one rewritten"),
        pytest.param(BEFORE.replace("e\n", ""), (0, 1, 1), id="one lost"),
        pytest.param(BEFORE.replace("e\n", "e\n++\n--\n"), (2, 0, 2), id="two added"),
        pytest.param(BEFORE.replace("b", "B").replace("k", "K"), (2, 2, 2), id="two apart"),
        pytest.param(BEFORE.replace("b\nc\n", "B\n"), (1, 2, 2), id="two become one"),
        pytest.param(BEFORE[:-1], (1, 1, 1), id="the last newline"),
    ],
)
def test_lines_are_counted_as_in_the_diff(after: str, counted: tuple[int, int, int]) -> None:
    found = changes(BEFORE, after, "x.py")

    assert (found.added, found.removed, found.lines) == counted
    assert bool(found.diff) == (after != BEFORE)


def test_the_diff_names_the_file_and_has_three_lines_of_context() -> None:
    found = changes("1\n2\n3\n4\n5\n", "1\n2\n3\n4\nFIVE\n", "x.py")

    assert found == Changes(
        "--- a/x.py\n+++ b/x.py\n@@ -2,4 +2,4 @@\n 2\n 3\n 4\n-5\n+FIVE\n", 1, 1, 1
    )


def test_a_file_of_empty_lines_is_compared_at_once() -> None:
    assert changes(BEFORE, "\n" * 5000).added == 5000


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(toy.SOURCE.replace("    ", "        "), id="wider"),
        pytest.param(toy.SOURCE.replace('"""Return', '"""Give'), id="other docstrings"),
        pytest.param(f"# why\n{toy.SOURCE}\n\n", id="a comment"),
    ],
)
def test_layout_and_comments_are_no_code(after: str) -> None:
    assert share_rewritten(toy.SOURCE, after) == 0
    assert code_digest(after) == code_digest(toy.SOURCE)


def test_the_share_is_that_of_the_longer_text() -> None:
    half = "a = 1\nb = 2\n"

    assert share_rewritten(half, half + "c = 3\nd = 4\n") == 0.5
    assert share_rewritten(half, "c = 3\n") == 1.0
    assert code_digest(half) != code_digest("a = 1\nb = 3\n")


def test_what_is_no_python_is_its_own_code() -> None:
    assert code_digest("def (") != code_digest("def  (")


def test_alike_are_all_others_with_the_same_code() -> None:
    assert alike([(1, "x"), (2, "y"), (3, "x"), (4, "x")]) == {
        1: (3, 4),
        2: (),
        3: (1, 4),
        4: (1, 3),
    }
