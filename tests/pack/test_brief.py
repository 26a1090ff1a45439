"""The brief of a packed puzzle tells what can be done with it, and not what it was made of."""

from __future__ import annotations

from dataclasses import replace

import handmade
import toy

from halfhour.generator import render
from halfhour.generator.records import Packed


def brief(packed: Packed | None) -> str:
    puzzle = replace(handmade.puzzle(), seed=0 if packed else 7)
    return render.with_brief(puzzle, toy.subject(), handmade.answer(), packed=packed).brief


def test_without_a_judge_it_says_where_the_file_goes() -> None:
    said = brief(Packed.WITHOUT_JUDGE)

    assert "Your `toy.py`, under that name, goes to whoever gave you this folder" in said
    assert "`halfhour hunt`" in said
    for command in ("check", "hint", "reveal", "accuse", "prove"):
        assert f"halfhour {command}" not in said
    assert "Your `toy.py` is tried by these 4 promises, and by no others:" in said


def test_with_a_judge_it_names_the_commands() -> None:
    said = brief(Packed.WITH_JUDGE)

    assert "`halfhour check` tries these 4 promises, and no others:" in said
    assert "`halfhour reveal`" in said
    assert "goes to whoever" not in said


def test_the_seed_is_not_told() -> None:
    assert "seed" not in brief(Packed.WITHOUT_JUDGE) + brief(Packed.WITH_JUDGE)
    assert "puzzle `0badcafe`, seed 7." in brief(None)


def test_a_packed_brief_with_a_judge_is_else_the_one_of_practice() -> None:
    assert brief(Packed.WITH_JUDGE) == brief(None).replace(", seed 7", "")


def test_it_gives_nothing_away() -> None:
    for packed in Packed:
        assert render.leaks(brief(packed), handmade.puzzle(), handmade.answer()) == []
