"""`halfhour pack WEEK` and `pack plan`: whole or not at all, and never over anything else."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import weekly
from standins import Run
from weekly import FakeCraft

from halfhour.generator.commands import pack as command
from halfhour.generator.pack.opened import open_zip
from halfhour.generator.pack.table import table_bytes

ZIP, ANSWERS, PAGE = (
    "halfhour-2026-W48.zip",
    "halfhour-2026-W48.answers.zip",
    "halfhour-2026-W48.html",
)


class Thursday(date):
    @classmethod
    def today(cls) -> date:  # type: ignore[override]
        return date(2026, 11, 26)


@pytest.fixture(autouse=True)
def craft(tmp_path: Path, desk: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCraft:
    assert desk.is_dir()
    monkeypatch.setattr(command, "date", Thursday)
    monkeypatch.delenv("HALFHOUR_PACK_SEED", raising=False)
    return weekly.install(monkeypatch, tmp_path)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def the_object(ended: Any) -> dict[str, Any]:
    found = json.loads(ended.stdout)
    assert isinstance(found, dict)
    return found


# one week


def test_a_week_is_three_files(run: Run, desk: Path) -> None:
    ended = run("pack", "2026-W48")

    assert ended.exit_code == 0, ended.stderr
    assert ended.stdout.split() == [f"packs/{name}" for name in (ZIP, ANSWERS, PAGE)]
    assert set(digests(desk)) == {f"packs/{name}" for name in (ZIP, ANSWERS, PAGE)}


def test_neither_stream_names_a_bug(run: Run, craft: FakeCraft) -> None:
    ended = run("pack", "2026-W48")

    assert len(craft.made) == 5
    assert "secret_" not in ended.stdout + ended.stderr


def test_the_puzzles_are_told_as_one_object(run: Run, desk: Path) -> None:
    found = the_object(run("pack", "2026-W48", "--json"))

    assert (found["week"], found["written"], found["judged"]) == ("2026-W48", True, False)
    assert found["files"]["answers"] == f"packs/{ANSWERS}"
    assert [puzzle["level"] for puzzle in found["puzzles"]] == [1, 2, 3, 4, 5]
    answers = (desk / "packs" / ANSWERS).read_bytes()
    assert found["answers_sha256"] == hashlib.sha256(answers).hexdigest()
    assert "secret_" not in json.dumps(found)


@pytest.mark.parametrize(("word", "week"), [("this", "2026-W48"), ("next", "2026-W49")])
def test_a_week_may_be_a_word(run: Run, desk: Path, word: str, week: str) -> None:
    assert run("pack", word).exit_code == 0
    assert (desk / "packs" / f"halfhour-{week}.zip").is_file()


def test_options_may_stand_before_the_week(run: Run, desk: Path) -> None:
    assert run("pack", "--count", "2", "--out", "there", "this").exit_code == 0
    assert len(open_zip(desk / "there" / ZIP).puzzles.puzzles) == 2


def test_the_same_week_is_not_made_twice(run: Run, desk: Path, craft: FakeCraft) -> None:
    run("pack", "this")
    before, made = digests(desk), len(craft.made)

    again = run("pack", "this", "--json")

    assert again.exit_code == 0
    assert the_object(again)["written"] is False
    assert "is there already, sound and as asked for" in again.stderr
    assert (digests(desk), len(craft.made)) == (before, made)


def test_the_same_week_elsewhere_has_the_same_bytes(
    run: Run, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("pack", "this")
    monkeypatch.setenv("LANGUAGE", "de")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    (desk / "other").mkdir()
    monkeypatch.chdir(desk / "other")

    run("pack", "2026-W48", "--history", "../packs")

    assert digests(desk / "other" / "packs") == digests(desk / "packs")


def test_a_seed_may_come_from_the_environment(
    run: Run, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run("pack", "this", "--out", "a")
    monkeypatch.setenv("HALFHOUR_PACK_SEED", "911")
    second = run("pack", "this", "--out", "b")

    assert "the seed is public" in first.stderr
    assert "the seed is public" not in second.stderr
    assert open_zip(desk / "b" / ANSWERS).answers.seed == 911
    assert (desk / "a" / ZIP).read_bytes() != (desk / "b" / ZIP).read_bytes()
    assert "911" not in second.stdout + second.stderr


def test_with_judge_the_answers_are_sealed_in_it(run: Run, desk: Path) -> None:
    ended = run("pack", "this", "--with-judge")

    assert open_zip(desk / "packs" / ZIP).puzzles.judged is True
    assert "holds the answers too" in ended.stderr


def test_more_bugs_from_level_four_on(run: Run, desk: Path) -> None:
    run("pack", "this", "--bugs", "2")

    puzzles = open_zip(desk / "packs" / ZIP).puzzles.puzzles
    assert [puzzle.bugs for puzzle in puzzles] == [1, 1, 1, 2, 2]


def test_what_was_in_the_packs_before_is_not_drawn_again(run: Run, craft: FakeCraft) -> None:
    for week in ("2026-W46", "2026-W47", "2026-W48"):
        assert run("pack", week).exit_code == 0

    pairs = [(subject, mutator) for subject, mutator, _ in craft.made]
    assert len(pairs) == len(set(pairs)) == 15


def test_a_candidate_that_makes_nothing_gives_its_place_to_the_next(
    run: Run, desk: Path, craft: FakeCraft
) -> None:
    run("pack", "this", "--out", "first")
    craft.refuses = {craft.made[2][1]}
    ended = run("pack", "this", "--out", "second")

    assert ended.exit_code == 0, ended.stderr
    puzzles = open_zip(desk / "second" / ZIP).puzzles.puzzles
    assert [puzzle.level for puzzle in puzzles] == [1, 2, 3, 4, 5]
    assert len({puzzle.subject for puzzle in puzzles}) == 5


# what is in the way


def left_alone(run: Run, desk: Path, *arguments: str) -> str:
    """Run a command that must fail as misuse and change nothing; return what it says."""
    before = digests(desk)
    ended = run("pack", *arguments)
    assert ended.exit_code == 2, ended.stderr
    assert ended.stdout == ""
    assert digests(desk) == before
    return ended.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--count", "3"], "it holds 5 puzzles, and 3 are asked for"),
        (["--seed", "8"], "it was made with another --seed"),
        (["--with-judge"], "it was made without --with-judge"),
        (["--bugs", "2"], "it was made with other --bugs"),
    ],
)
def test_a_week_made_otherwise_is_left_alone(
    run: Run, desk: Path, craft: FakeCraft, options: list[str], says: str
) -> None:
    run("pack", "this")
    made = len(craft.made)

    said = left_alone(run, desk, "this", *options)

    assert says in said
    assert "move its files away, or choose another --out" in said
    assert len(craft.made) == made, "nothing is crafted first"


@pytest.mark.parametrize("name", [ZIP, ANSWERS])
def test_a_damaged_week_is_left_alone(run: Run, desk: Path, name: str) -> None:
    run("pack", "this")
    path = desk / "packs" / name
    path.write_bytes(path.read_bytes().replace(b"Mean and spread", b"Mean and threat"))

    assert "is there already, and not as it would be made" in left_alone(run, desk, "this")


def test_answers_of_the_same_week_by_another_seed_are_left_alone(run: Run, desk: Path) -> None:
    run("pack", "this")
    run("pack", "this", "--seed", "8", "--out", "other")
    (desk / "other" / ANSWERS).replace(desk / "packs" / ANSWERS)

    assert "the answers are not those" in left_alone(run, desk, "this")


def test_another_page_is_left_alone(run: Run, desk: Path) -> None:
    run("pack", "this")
    (desk / "packs" / PAGE).write_text("mine", encoding="utf-8")

    assert "is not the page of these puzzles" in left_alone(run, desk, "this")


def test_one_file_that_is_missing_is_written_again(run: Run, desk: Path) -> None:
    run("pack", "this")
    before = digests(desk)
    (desk / "packs" / ZIP).unlink()

    assert run("pack", "this").exit_code == 0
    assert digests(desk) == before


def test_a_file_of_that_name_is_left_alone(run: Run, desk: Path) -> None:
    (desk / "packs").mkdir()
    (desk / "packs" / PAGE).write_text("mine", encoding="utf-8")

    assert "is there already and differs" in left_alone(run, desk, "this")


def test_a_file_where_the_folder_should_be(run: Run, desk: Path) -> None:
    (desk / "packs").write_text("mine", encoding="utf-8")

    assert "a file is in the way" in left_alone(run, desk, "this")


# bad input


@pytest.mark.parametrize(
    ("week", "says"),
    [
        ("2026-W54", "2026-W54 is no week: 2026 has 53 weeks"),
        ("2025-W53", "2025 has 52 weeks"),
        ("tomorrow", "write it as 2026-W48, or this, or next"),
        ("2026-w48", "write it as 2026-W48"),
    ],
)
def test_a_week_that_is_none(run: Run, desk: Path, week: str, says: str) -> None:
    assert says in left_alone(run, desk, week)
    assert says in left_alone(run, desk, "plan", "--from", week)


def test_no_week_at_all(run: Run, desk: Path) -> None:
    assert "Missing argument 'WEEK'" in left_alone(run, desk, "--count", "2")


@pytest.mark.parametrize(
    "options", [["--count", "0"], ["--count", "11"], ["--bugs", "5"], ["--seed", "-1"]]
)
def test_numbers_out_of_range(run: Run, desk: Path, options: list[str]) -> None:
    assert "is not in the range" in left_alone(run, desk, "this", *options)


def test_not_enough_puzzles_says_what_binds(run: Run, desk: Path) -> None:
    said = left_alone(run, desk, "this", "--count", "8")

    assert "8 puzzles for 2026-W48 cannot be drawn" in said
    assert "topic and subject bind together" in said
    assert "--count" in said


def test_a_level_that_nothing_reaches_says_so(run: Run, desk: Path, craft: FakeCraft) -> None:
    craft.refuses = {f"secret_{n}_3" for n in range(weekly.FILES)}

    assert "no puzzle of level 3 can be made: the level binds" in left_alone(run, desk, "this")


def test_a_history_that_is_none(run: Run, desk: Path) -> None:
    assert "there is no folder" in left_alone(run, desk, "this", "--history", "nowhere")


def test_a_history_that_is_damaged(run: Run, desk: Path) -> None:
    run("pack", "2026-W47")
    (desk / "packs" / "halfhour-2026-W47.answers.zip").write_bytes(b"PK\x03\x04")
    before = digests(desk)

    ended = run("pack", "this")

    assert ended.exit_code == 4
    assert "halfhour-2026-W47.answers.zip cannot be used" in ended.stderr
    assert digests(desk) == before


def test_a_history_under_a_wrong_name(run: Run, desk: Path) -> None:
    run("pack", "2026-W47")
    old = desk / "packs" / "halfhour-2026-W47.answers.zip"
    old.rename(old.with_name("halfhour-2026-W46.answers.zip"))

    ended = run("pack", "this")

    assert ended.exit_code == 4
    assert "holds the answers of 2026-W47" in ended.stderr


def test_a_table_that_names_what_is_gone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "certified.json").write_bytes(
        table_bytes(weekly.a_table()).replace(b"secret_", b"gone_")
    )

    ended = run("pack", "this")

    assert ended.exit_code == 4
    assert "is not installed" in ended.stderr
    assert "make certify" in ended.stderr


# cut short


@pytest.mark.parametrize(
    ("function", "nth"), [("fsync", 1), ("fsync", 3), ("rename", 1), ("rename", 3)]
)
@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        pytest.param(KeyboardInterrupt(), 130, "interrupted", id="Ctrl-C"),
        pytest.param(OSError(errno.ENOSPC, "-"), 4, "no space left", id="disk full"),
        pytest.param(PermissionError(errno.EACCES, "-"), 2, "may not be", id="not writable"),
    ],
)
@pytest.mark.parametrize("standing", [False, True], ids=["new folder", "other packs"])
def test_a_write_that_is_cut_short_leaves_nothing(
    *,
    run: Run,
    desk: Path,
    monkeypatch: pytest.MonkeyPatch,
    standing: bool,
    function: str,
    nth: int,
    raised: BaseException,
    code: int,
    says: str,
) -> None:
    if standing:
        run("pack", "2026-W47")
    before = digests(desk)
    calls = iter(range(1, 100))

    def cut_short(call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object) -> object:
            if next(calls) == nth:
                raise raised
            return call(*args)

        return wrapped

    owner = os if function == "fsync" else Path
    with monkeypatch.context() as patch:
        patch.setattr(owner, function, cut_short(getattr(owner, function)))
        ended = run("pack", "this")

    assert ended.exit_code == code
    assert says in ended.stderr
    assert digests(desk) == before
    assert (desk / "packs").exists() == standing
    assert list(desk.rglob("*.part")) == []
    assert run("pack", "this").exit_code == 0


def test_an_interrupted_craft_leaves_nothing(run: Run, desk: Path, craft: FakeCraft) -> None:
    def interrupt() -> None:
        if len(craft.made) == 3:
            raise KeyboardInterrupt

    craft.before = interrupt

    ended = run("pack", "this")

    assert ended.exit_code == 130
    assert list(desk.iterdir()) == []


# the year ahead


def test_a_plan_shows_topics_by_week_and_level(run: Run, desk: Path) -> None:
    ended = run("pack", "plan", "--weeks", "3")

    assert ended.exit_code == 0, ended.stderr
    head, *weeks = ended.stdout.splitlines()
    assert head.split() == ["week", *(word for n in range(1, 6) for word in ("level", str(n)))]
    assert [line.split()[0] for line in weeks] == ["2026-W48", "2026-W49", "2026-W50"]
    assert all(len(set(line.split()[1:])) == 5 for line in weeks)
    assert "15 puzzles in 3 weeks, 15 different" in ended.stderr
    assert "none comes back within 52 weeks" in ended.stderr
    assert "secret_" not in ended.stdout + ended.stderr
    assert list(desk.iterdir()) == []


def test_a_plan_that_does_not_hold_says_what_binds_and_exits_with_one(run: Run) -> None:
    ended = run("pack", "plan", "--weeks", "52", "--from", "2027-W01")
    found = the_object(run("pack", "plan", "--from", "2027-W01", "--json"))

    assert ended.exit_code == 1
    assert "the history binds" in ended.stderr
    assert "it suffices for" in ended.stderr
    assert found["holds"] is False
    assert "the history binds" in found["binding"]
    assert len(found["weeks"]) == len(ended.stdout.splitlines()) - 1 < 52


def test_a_plan_keeps_clear_of_the_packs_that_are_there(run: Run) -> None:
    alone = the_object(run("pack", "plan", "--weeks", "7", "--json"))
    run("pack", "2026-W47")
    after = the_object(run("pack", "plan", "--weeks", "7", "--json"))

    assert alone["holds"] is True
    assert after["holds"] is False
    assert alone["weeks"][0]["puzzles"][0].keys() == {"level", "topic", "bugs"}


def test_a_plan_of_no_history_at_all(run: Run) -> None:
    ended = run("pack", "plan", "--count", "8")

    assert ended.exit_code == 1
    assert ended.stdout == ""
    assert "topic and subject bind together" in ended.stderr
    assert "it suffices for 0 puzzles in 0 weeks" in ended.stderr


# help and completion


def test_help_says_what_is_public(run: Run) -> None:
    said = " ".join(run("pack", "WEEK", "--help").stdout.split())

    assert said.startswith("Usage: halfhour pack WEEK [OPTIONS]")
    assert "The default seed is public" in said
    assert "HALFHOUR_PACK_SEED" in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("halfhour pack ", {"this", "next", "plan", "verify", "open", "site"}),
        ("halfhour pack n", {"next"}),
        ("halfhour pack pl", {"plan"}),
        ("halfhour pack 2", {"2026-W48", "2026-W49"}),
        ("halfhour pack plan --from ", {"this", "next"}),
        ("halfhour pack this --cou", {"--count"}),
    ],
)
def test_weeks_and_commands_are_completed(run: Run, words: str, expected: set[str]) -> None:
    asked = {
        "_HALFHOUR_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    ended = run(env=asked, prog_name="halfhour")

    assert {line.partition(",")[2] for line in ended.stdout.splitlines()} == expected
