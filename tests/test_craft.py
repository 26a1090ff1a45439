"""A puzzle is drawn by its seed, and every bug in it alone would be one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import toy
from homes import make_home
from shop import one_shop

from halfhour.generator.certify import hidden_trial
from halfhour.generator.craft import craft, craft_pair, craft_site, workshop
from halfhour.generator.demonstrate import Demonstrator
from halfhour.generator.errors import UsageError
from halfhour.generator.judge import Judge
from halfhour.generator.records import Packed, Status, VerdictKind
from halfhour.mutators import Sighting, mutator

SEEN = [Sighting("https://example.org/issues/1", "in a toy")]
HINTS = ["Try it.", "Look there.", "The rule."]


@mutator(
    topic="numerics",
    family="by-hand",
    hints=HINTS,
    sightings=SEEN,
    rewrites={"$total / len($values)": "$total / max(1, len($values) - 1)"},
    mutates={"x = total / len(values)": "x = total / max(1, len(values) - 1)"},
)
def mean_divides_by_one_less() -> None:
    """The sum is divided by one less than the count.

    A lesson.
    """


@mutator(
    topic="numerics",
    family="by-hand",
    hints=HINTS,
    sightings=SEEN,
    rewrites={"abs($value - $middle)": "max(0.0, $value - $middle)"},
    mutates={"x = abs(a - b)": "x = max(0.0, a - b)"},
)
def distance_below_counts_as_none() -> None:
    """What lies below the middle has no distance.

    A lesson.
    """


@mutator(
    topic="numerics",
    family="by-hand",
    hints=HINTS,
    sightings=SEEN,
    rewrites={"abs($value - $middle)": "abs($middle - $value)"},
    mutates={"x = abs(a - b)": "x = abs(b - a)"},
)
def distance_is_turned_around() -> None:
    """The distance is taken the other way round, which changes nothing.

    A lesson.
    """


BOTH = (mean_divides_by_one_less, distance_below_counts_as_none)


@pytest.fixture(scope="module", autouse=True)
def home(
    tmp_path_factory: pytest.TempPathFactory, court: Judge, screen: Demonstrator
) -> Iterator[None]:
    """A home for these tests alone: what one of them proved, the next need not prove again."""
    home = make_home(tmp_path_factory.mktemp("craft") / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HALFHOUR_HOME", str(home))
        with one_shop(court, screen):
            yield


def test_two_bugs_are_both_planted_and_each_alone_is_still_a_puzzle() -> None:
    puzzle, answer = craft([toy.subject()], BOTH, seed=3, bugs=2)

    assert puzzle.bugs == len(answer.bugs) == 2
    assert {bug.mutator for bug in answer.bugs} == {m.name for m in BOTH}
    assert "max(1, len(values) - 1)" in puzzle.source
    assert "max(0.0, value - middle)" in puzzle.source
    assert answer.certificate.status is Status.CERTIFIED


def test_mending_all_but_one_is_not_enough_and_says_how_many_promises_are_kept(
    court: Judge,
) -> None:
    _, answer = craft([toy.subject()], BOTH, seed=3, bugs=2)
    for bug in answer.bugs:
        (mutant_text,) = {
            toy.mutant("total / len(values)", "total / max(1, len(values) - 1)").source,
            toy.mutant("abs(value - middle)", "max(0.0, value - middle)").source,
        } & {_with_only(bug.diff)}
        verdict = court.verdict(hidden_trial(toy.subject(), mutant_text, 5))

        assert verdict.kind is VerdictKind.NOT_FIXED
        assert set(bug.broken) <= set(verdict.broken)
        assert verdict.reason == f"{4 - len(verdict.broken)} of 4 promises are kept"


def _with_only(diff: str) -> str:
    """Apply a bug's own diff to the correct file."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++", "@@"))]
    (old,) = (line[1:] for line in lines if line.startswith("-"))
    (new,) = (line[1:] for line in lines if line.startswith("+"))
    return toy.SOURCE.replace(old, new)


def test_the_same_seed_gives_the_same_puzzle() -> None:
    first, second = (craft([toy.subject()], BOTH, seed=4) for _ in range(2))

    assert first == second


def test_a_mutant_that_is_no_puzzle_is_passed_over() -> None:
    puzzle, answer = craft(
        [toy.subject()], [distance_is_turned_around, mean_divides_by_one_less], seed=1
    )

    assert answer.bugs[0].mutator == "mean_divides_by_one_less"
    assert puzzle.level == answer.certificate.level > 0


def test_a_bug_that_was_met_in_that_file_is_not_drawn() -> None:
    drawn = {
        name: craft([toy.subject()], BOTH, seed=4, met={("toy", name), ("another", "x")})
        for name in (bug.name for bug in BOTH)
    }

    for met, (_, answer) in drawn.items():
        assert answer.bugs[0].mutator != met
    with pytest.raises(UsageError, match="no certified puzzle"):
        craft([toy.subject()], BOTH[:1], seed=4, met={("toy", BOTH[0].name)})


def test_where_nothing_fits_it_says_what_to_widen() -> None:
    with pytest.raises(UsageError, match="no certified puzzle with 2 bugs"):
        craft([toy.subject()], BOTH[:1], seed=1, bugs=2)


def test_a_site_makes_the_puzzle_that_is_named_by_it() -> None:
    puzzle, answer = craft_site(toy.subject(), BOTH[0], 0, seed=7)

    assert "max(1, len(values) - 1)" in puzzle.source
    assert answer.bugs[0].site == 0
    with pytest.raises(UsageError, match="has no site 9"):
        craft_site(toy.subject(), BOTH[0], 9, seed=7)


def test_a_pair_makes_a_puzzle_of_its_level_alone() -> None:
    """With another bug beside it, or alone; a companion that changes nothing is passed over."""
    companions = [distance_is_turned_around, distance_below_counts_as_none]
    with workshop() as shop:
        made = {
            (bugs, level): craft_pair(
                shop,
                toy.subject(),
                mean_divides_by_one_less,
                companions=companions,
                bugs=bugs,
                seed=3,
                level=level,
                packed=Packed.WITHOUT_JUDGE,
            )
            for bugs in (1, 2)
            for level in range(1, 6)
        }

    for bugs, names in ((1, BOTH[:1]), (2, BOTH)):
        ((level, (puzzle, answer)),) = [
            (level, each) for (n, level), each in made.items() if n == bugs and each is not None
        ]
        assert (puzzle.level, puzzle.bugs, puzzle.seed) == (level, bugs, 0)
        assert [bug.mutator for bug in answer.bugs] == [each.name for each in names]
        assert answer.original != toy.SOURCE, "it is in disguise"
