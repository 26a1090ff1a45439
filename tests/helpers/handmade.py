"""A puzzle and its answer, made by hand from the toy: nothing is crafted, nothing is judged."""

from __future__ import annotations

from dataclasses import replace

import toy

from halfhour.generator import render
from halfhour.generator._version import VERSION
from halfhour.generator.records import Answer, Certificate, PlantedBug, Puzzle, SeenIn, Status

BROKEN = ("test_mean_is_sum_over_count", "test_spread_by_hand")

BUG = PlantedBug(
    mutant="m" * 64,
    mutator="divisor_counts_one_too_many",
    topic="numerics",
    site=0,
    line=11,
    title="A mean divides by one value more than it has.",
    lesson="The divisor is the number of values.\n\nOne value hides it: the visible test has one.",
    hints=("Take the mean of two equal values.", "Look at the divisor.", "Divide by the count."),
    sightings=(SeenIn("https://example.org/pull/7", "a running mean"),),
    diff=(
        "--- a/toy.py\n+++ b/toy.py\n@@ -10,2 +10,2 @@\n"
        "         total += value\n"
        "-    return total / len(values)\n"
        "+    return total / (len(values) + (len(values) > 1))\n"
    ),
    broken=BROKEN,
)

MUTANT = toy.mutant("total / len(values)", "total / (len(values) + (len(values) > 1))")


def answer(*, bugs: tuple[PlantedBug, ...] = (BUG,)) -> Answer:
    subject = toy.subject()
    return Answer(
        puzzle="0badcafe",
        original=subject.source,
        hidden_tests=subject.hidden_tests,
        promises=subject.promises,
        public_names=subject.public_names,
        bugs=bugs,
        certificate=Certificate(
            mutant="m" * 64,
            subject="toy",
            mutator="+".join(bug.mutator for bug in bugs),
            site=0,
            line=11,
            status=Status.CERTIFIED,
            sentence="silently wrong",
            broken=BROKEN,
            level=2,
            seeds=(1, 2),
            torch="2.13.0",
        ),
    )


def puzzle(*, bugs: tuple[PlantedBug, ...] = (BUG,), version: str = VERSION) -> Puzzle:
    subject = toy.subject()
    bare = Puzzle(
        id="0badcafe",
        version=version,
        subject="toy",
        title=subject.title,
        topics=subject.topics,
        level=2,
        minutes=30,
        bugs=len(bugs),
        seed=7,
        file_name=subject.file_name,
        source=MUTANT.source,
        visible_tests=subject.visible_tests,
        brief="",
    )
    return render.with_brief(bare, subject, answer(bugs=bugs))


def two_bugs() -> tuple[PlantedBug, PlantedBug]:
    other = replace(
        BUG,
        mutator="spread_squares_the_distance",
        title="A spread adds squares.",
        hints=("Try 1 and 3.", "Look at abs.", "A distance is no square."),
        broken=("test_spread_ignores_a_shift",),
        line=17,
    )
    return BUG, other
