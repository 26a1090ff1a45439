"""What a reveal teaches beside the bug: why the visible tests missed it, and the way to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import handmade
import toy
from shares import MUTANT, SUBJECT, planted

from halfhour.generator import lesson
from halfhour.generator.cache import ProofCache
from halfhour.generator.records import PlantedBug, Term
from halfhour.generator.screen import Profile, Screen
from halfhour.generator.unseen import VisibleTraces

CERTIFICATE = handmade.answer().certificate
TEST = SUBJECT.visible_promises[0].name


def why(*lines: int, bug: PlantedBug | None = None, terms: tuple[Term, ...] = ()) -> str:
    """Say why a visible test that runs these lines missed the bug."""
    trace = Profile({TEST: dict.fromkeys(lines, 1)})
    certificate = replace(CERTIFICATE, terms=terms)
    return lesson.missed(SUBJECT, bug or planted(), certificate, trace)


def test_a_visible_test_that_never_calls_the_function_is_said() -> None:
    assert why(9) == "The visible test passes without any call of `normalized`."


def test_a_visible_test_that_leaves_out_the_line_is_said() -> None:
    said = why(MUTANT.line - 2, MUTANT.line - 1)

    assert "through `normalized`" in said
    assert f"leaves out line {MUTANT.line}" in said


def test_a_line_that_runs_on_an_innocent_input_is_said_with_the_test_and_the_others() -> None:
    special = Term("special", 0.5, "2 of the 3 promises that run the line do not mind")

    said = why(MUTANT.line, terms=(special,))

    assert "The line does run in the visible tests" in said
    assert "Nothing has no shares." in said
    assert "2 of the 3 promises that run the line do not mind." in said
    assert "do not mind" not in why(MUTANT.line, terms=(replace(special, value=0.0),))


def test_a_statement_of_several_lines_runs_as_one() -> None:
    source = SUBJECT.source.replace("count / grand_total for", "count\n        / grand_total for")
    subject = replace(SUBJECT, source=source)
    bug = replace(planted(), line=MUTANT.line + 1)
    trace = Profile({TEST: {MUTANT.line: 1}})

    assert "does run" in lesson.missed(subject, bug, CERTIFICATE, trace)


def test_a_bug_outside_of_functions_needs_an_input() -> None:
    assert "makes no difference" in why(9, bug=replace(planted(), line=1))


def test_nothing_is_said_without_a_trace() -> None:
    assert lesson.missed(SUBJECT, planted(), CERTIFICATE, None) == ""


def test_the_route_leads_from_the_promise_through_the_calls_to_the_line() -> None:
    stops = lesson.route(SUBJECT, planted())

    assert stops[0] == "`halfhour check` says what is broken: Shares sum to one."
    assert stops[1].startswith("`Counter.shares` in line ")
    assert stops[2].startswith("It calls `normalized`, line ")
    assert f"line {MUTANT.line}" in stops[-1]
    assert len(stops) == 4


def test_the_route_takes_the_promise_with_the_fewest_calls() -> None:
    bug = replace(planted(), broken=("test_shares_sum_to_one", "test_rounded"))
    line = SUBJECT.source.split("\n").index("    result = []") + 1

    stops = lesson.route(SUBJECT, replace(bug, line=line))

    assert "Values keep two digits." in stops[0]
    assert stops[1].startswith("`rounded`")


def test_there_is_a_route_to_what_stands_outside_of_functions() -> None:
    stops = lesson.route(SUBJECT, replace(planted(), line=1))

    assert len(stops) == 2
    assert "line 1" in stops[1]


def test_visible_tests_are_traced_once(screen: Screen, tmp_path: Path) -> None:
    """The toy's visible test calls `mean` with one value and never `spread`."""
    cache = ProofCache(tmp_path)
    subject = toy.subject()
    body = toy.SOURCE.split("\n").index("    return total / len(values)") + 1

    first = VisibleTraces(screen, cache).of(subject)
    kept = VisibleTraces(screen, cache).of(subject)

    assert first is not None
    assert kept is not None
    assert body in first.lines
    assert toy.SOURCE.split("\n").index("    middle = mean(values)") + 1 not in first.lines
    assert kept.depths == first.depths


def test_tests_that_cannot_be_traced_are_no_failure(screen: Screen, tmp_path: Path) -> None:
    cache = ProofCache(tmp_path)
    broken = toy.subject(visible='def test_it():\n    """It."""\n    import nowhere_to_be_found\n')

    found = VisibleTraces(screen, cache).of(replace(broken, source="raise OSError\n"))

    assert found is None


def test_the_order_of_a_trace_decides_nothing() -> None:
    """A trace that was kept comes back in another order than one just made."""
    names = [promise.name for promise in SUBJECT.visible_promises]
    hidden = [promise.name for promise in SUBJECT.promises]
    subject = replace(SUBJECT, visible_promises=(*SUBJECT.visible_promises, *SUBJECT.promises))
    lines = {MUTANT.line: 1}
    one = Profile(dict.fromkeys([*names, *hidden], lines))
    other = Profile(dict.fromkeys([*hidden, *names][::-1], lines))

    assert lesson.missed(subject, planted(), CERTIFICATE, one) == lesson.missed(
        subject, planted(), CERTIFICATE, other
    )
