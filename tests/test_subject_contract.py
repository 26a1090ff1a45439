"""Our own subjects keep the contract that plugins keep, and each of its rules is broken once."""

from __future__ import annotations

from pathlib import Path

import pytest

from halfhour.generator import library, scaffold
from halfhour.generator.contract import subject_rules as rules

NAME = "my_softmax"
OURS = library.folders()


@pytest.mark.parametrize("folder", OURS.values(), ids=OURS)
def test_a_subject_keeps_every_rule(folder: Path) -> None:
    """Those of the contract, of which a plugin gets one test each."""
    assert rules.problems(library.load_subject(folder), folder) == []


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A subject with everything filled in."""
    made = tmp_path / NAME
    made.mkdir()
    for name, text in scaffold.subject_files(NAME).items():
        (made / name).write_text(text.replace("FILL IN", "Filled in"), encoding="utf-8")
    return made


def problems(made: Path) -> list[str]:
    return rules.problems(library.load_subject(made), made)


def test_a_subject_that_is_filled_in_keeps_every_rule(shelf: Path) -> None:
    assert problems(shelf) == []


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        pytest.param(
            "subject.toml",
            ('"Filled in: the paper', '"FILL IN: the paper'),
            ":4: still to",
            id="mark",
        ),
        pytest.param("subject.toml", ('"attention"', '"attenton"'), "is no topic", id="topic"),
        pytest.param("subject.toml", ("and when.", "and when"), "no sentence", id="description"),
        pytest.param(
            "test_hidden.py", ("by their sum.", "by their sum"), ":17: test_weights", id="promise"
        ),
        pytest.param(
            "test_visible.py", ("for every score.", "for all" * 20), ":9: test_one", id="visible"
        ),
        pytest.param(
            "test_hidden.py", ("wrong tokens.", "wrong tokens"), ":17: the symptom", id="symptom"
        ),
        pytest.param(
            "test_hidden.py", ("import math\n", f"import {NAME}\n"), ":9: imports", id="import"
        ),
        pytest.param(
            "test_hidden.py",
            ("(subject: Any) ->", "(other: Any) ->"),
            ":34: test_a_query",
            id="blind",
        ),
        pytest.param(
            "test_visible.py", (f"from {NAME}", "from other"), ":1: does not import", id="no import"
        ),
        pytest.param(
            "test_hidden.py",
            (
                "Without a visible key all weights are zero, and those of other queries are"
                " unharmed.",
                "The weights are the exponentials of the visible scores, divided by their sum.",
            ),
            ":34: test_a_query_that_sees_nothing_gets_zeros says what test_weights",
            id="twice",
        ),
    ],
)
def test_a_rule_that_is_broken_is_told_with_its_file(
    shelf: Path, file: str, change: tuple[str, str], says: str
) -> None:
    text = (shelf / file).read_text(encoding="utf-8")
    assert change[0] in text
    (shelf / file).write_text(text.replace(*change), encoding="utf-8")

    (problem,) = problems(shelf)

    assert problem.startswith(f"{shelf / file}:")
    assert says in problem


def test_somebody_has_to_report_something(shelf: Path) -> None:
    hidden = shelf / "test_hidden.py"
    lines = hidden.read_text(encoding="utf-8").splitlines(keepends=True)
    hidden.write_text("".join(li for li in lines if "symptom" not in li), encoding="utf-8")

    (problem,) = problems(shelf)

    assert problem.startswith(f"{hidden}:1: no promise says what a user would report")
