"""The ladder of a bug: five steps from far to near, none of which tells more than it should."""

from __future__ import annotations

from dataclasses import replace

import pytest
import toy
from shares import FAR, HIDDEN, MUTANT, NEAR, RULE, SHOWN, SOURCE, SUBJECT, planted

from halfhour.generator import hints, spoilers
from halfhour.generator.anatomy import Anatomy


def test_there_are_five_steps_and_they_tell_nothing_too_early() -> None:
    bug = planted()

    assert len(bug.hints) == hints.STEPS == 5
    assert hints.problems(bug, SOURCE) == []


def test_step_1_rules_out_what_broken_promises_run_and_what_holds_no_bug() -> None:
    step = planted().hints[0]

    assert step == "Leave `Counter.ranking` and `rounded` alone: both are right as they stand."


def test_step_1_names_no_function_with_another_bug_of_the_puzzle() -> None:
    line = SOURCE.split("\n").index("    result = []") + 1
    bug = planted()
    bare = replace(bug, hints=(FAR, NEAR, RULE))

    step = hints.ladder(SUBJECT, bare, MUTANT.edit, handed_out=MUTANT.source, elsewhere=[line])[0]

    assert "rounded" not in step


def test_step_2_is_the_experiment_without_its_answer() -> None:
    step = planted().hints[1]

    assert "    import toy\n    result = toy.normalized([1, 3])\n    print(result)" in step
    assert "0.25" not in step
    assert "0.2, 0.6" not in step


def test_step_2_is_something_to_try_where_there_is_no_experiment() -> None:
    assert planted(shown=None).hints[1] == FAR


def test_step_2_falls_back_where_the_experiment_or_the_hint_names_the_changed_line() -> None:
    telling = replace(SHOWN, script="import toy\nprint(toy.Counter([]).grand_total)\n")
    assert planted(shown=telling).hints[1] == FAR

    step = planted(shown=None, said=("Print `grand_total`.", NEAR, RULE)).hints[1]
    assert "grand_total" not in step
    assert "Shares sum to one." in step


def test_step_3_names_the_function_and_the_promise_and_no_line() -> None:
    step = planted().hints[2]

    assert "`normalized`" in step
    assert "Shares sum to one." in step
    assert NEAR in step
    assert str(MUTANT.line) not in step
    assert "line" not in planted(said=(FAR, "Look at line 33.", RULE)).hints[2]


def test_step_4_shows_three_lines_with_their_numbers_both_values_and_the_rule() -> None:
    step = planted().hints[3]

    at = MUTANT.line
    numbers = [line.split()[0] for line in step.split("\n")[2:5]]
    assert numbers == [str(at - 1), str(at), str(at + 1)]
    assert "count / (grand_total + 1)" in step
    assert "[0.2, 0.6]" in step
    assert "[0.25, 0.75]" in step
    assert RULE in step


def test_step_4_numbers_the_lines_of_the_file_as_handed_out() -> None:
    """Another bug of the puzzle, above, took a line away."""
    gone = "        others = ranked[1:]\n"
    bug = replace(planted(), hints=(FAR, NEAR, RULE))
    handed_out = MUTANT.source.replace(gone, "")

    step = hints.ladder(SUBJECT, bug, MUTANT.edit, handed_out=handed_out)[3]

    assert f"{MUTANT.line - 1}      shares = [count / (grand_total + 1)" in step


def test_a_line_that_was_taken_away_is_shown_by_its_neighbours() -> None:
    gone = toy.mutant("        found += count\n", "", of=SUBJECT)

    first, last = hints.place_in(SOURCE, gone.source, gone.line)

    assert gone.source.split("\n")[first - 1 : last] == [
        "    for count in counts:",
        "    return found",
    ]


def test_step_5_is_the_fix() -> None:
    step = planted().hints[4]

    assert "-    shares = [count / (grand_total + 1) for count in counts]" in step
    assert "+    shares = [count / grand_total for count in counts]" in step


@pytest.mark.parametrize(
    ("step", "text", "says"),
    [
        (1, "Leave `grand_total` alone.", "hint 1 names grand_total"),
        (2, "Print grand_total.", "hint 2 names grand_total"),
        (2, "Run:\n\n    print(x.grand_total)", "hint 2 names grand_total"),
        (3, "Look at line 33.", "hint 3 names a line"),
        (3, "See toy.py:33.", "hint 3 names a line"),
    ],
)
def test_a_step_that_tells_too_much_is_found(step: int, text: str, says: str) -> None:
    bug = planted()
    steps = list(bug.hints)
    steps[step - 1] = text

    (found,) = hints.problems(replace(bug, hints=tuple(steps)), SOURCE)

    assert found.startswith(says)


def test_secret_are_the_names_of_the_changed_line_that_no_caller_writes() -> None:
    """Callers write `counts` and `shares`: a parameter and a method."""
    assert spoilers.secret_names(planted().diff, SOURCE) == {"count", "grand_total"}


def test_names_in_strings_and_comments_are_none() -> None:
    assert spoilers.names_in(['say("counts", x)  # total']) == {"say", "x"}
    assert spoilers.names_in(["found = call(first,"]) == {"found", "call", "first"}


def test_a_script_tells_no_names_that_it_gives_itself() -> None:
    assert spoilers.told_by_script("count = f(1)\nprint(count)", ["count"]) == []
    assert spoilers.told_by_script("print(count)", ["count"]) == ["count"]


def test_the_file_is_read_for_functions_and_calls() -> None:
    file = Anatomy(SOURCE)
    goal = next(f for f in file.functions if f.name == "_sum")

    entered = file.entered_by(HIDDEN, "test_shares_sum_to_one")
    path = file.path(entered, goal)

    assert [f.name for f in path] == ["Counter.shares", "normalized", "_sum"]
    assert file.path(file.entered_by(HIDDEN, "test_rounded"), goal) == ()
    assert file.at(MUTANT.line).name == "normalized"  # type: ignore[union-attr]
    assert file.at(1) is None
