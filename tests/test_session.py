"""The half hour: a clock that runs on, and a log that no kill can spoil."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import handmade
import pytest

from halfhour.generator import session, store
from halfhour.generator.records import Outcome, PromiseResult, Verdict, VerdictKind
from halfhour.generator.session import Session

PUZZLE = handmade.puzzle()
ANSWER = handmade.answer()
MINUTE = 60.0


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_minutes(self, minutes: float) -> None:
        self.now += minutes * MINUTE


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return puzzle_in(tmp_path / "puzzles" / "hunt")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def puzzle_in(folder: Path) -> Path:
    store.write_puzzle(folder, PUZZLE, ANSWER)
    return folder


def opened(folder: Path, clock: Clock, state: Path) -> Session:
    """Open the log anew, as another process would."""
    return Session(folder, PUZZLE, clock=clock, state_dir=state)


def verdict(kind: VerdictKind, kept: int = 3) -> Verdict:
    results = tuple(
        PromiseResult(promise, Outcome.KEPT if number < kept else Outcome.WRONG)
        for number, promise in enumerate(ANSWER.promises)
    )
    return Verdict(kind, "a sentence", results)


def log_file(state: Path) -> Path:
    (path,) = (state / "hunts").glob("*.jsonl")
    return path


def test_nothing_is_known_of_a_puzzle_that_was_never_touched(
    folder: Path, clock: Clock, state: Path
) -> None:
    hunt = opened(folder, clock, state).hunt

    assert hunt.started is None
    assert not hunt.is_open
    assert hunt.elapsed == 0
    assert not state.exists()


def test_the_clock_runs_on_while_halfhour_does_not(folder: Path, clock: Clock, state: Path) -> None:
    opened(folder, clock, state).start()

    clock.pass_minutes(12)
    hunt = opened(folder, clock, state).hunt

    assert hunt.is_open
    assert hunt.remaining == 18 * MINUTE
    assert not hunt.late


def test_after_the_bell_a_hunt_is_late_and_still_open(
    folder: Path, clock: Clock, state: Path
) -> None:
    opened(folder, clock, state).start()

    clock.pass_minutes(30)
    assert not opened(folder, clock, state).hunt.late
    clock.pass_minutes(0.1)
    hunt = opened(folder, clock, state).hunt

    assert hunt.late
    assert hunt.is_open
    assert hunt.remaining == 0


def test_a_clock_that_was_set_back_takes_no_time_away(
    folder: Path, clock: Clock, state: Path
) -> None:
    opened(folder, clock, state).start()

    clock.pass_minutes(-60)

    assert opened(folder, clock, state).hunt.remaining == 30 * MINUTE


def test_the_clock_stops_when_the_file_is_fixed(folder: Path, clock: Clock, state: Path) -> None:
    log = opened(folder, clock, state)
    log.start()
    clock.pass_minutes(5)
    log.checked(verdict(VerdictKind.NOT_FIXED, kept=1))
    clock.pass_minutes(5)
    log.checked(verdict(VerdictKind.FIXED, kept=4))
    clock.pass_minutes(100)
    log.checked(verdict(VerdictKind.FIXED, kept=4))

    hunt = opened(folder, clock, state).hunt

    assert not hunt.is_open
    assert hunt.elapsed == 10 * MINUTE
    assert not hunt.late
    assert [(c.verdict, c.kept, c.promises) for c in hunt.checks[:2]] == [
        (VerdictKind.NOT_FIXED, 1, 4),
        (VerdictKind.FIXED, 4, 4),
    ]


def test_a_fix_after_the_reveal_solves_nothing(folder: Path, clock: Clock, state: Path) -> None:
    log = opened(folder, clock, state)
    log.start()
    log.revealed()
    clock.pass_minutes(1)
    log.checked(verdict(VerdictKind.FIXED, kept=4))

    assert log.hunt.solved is None
    assert log.hunt.revealed == log.hunt.started


def test_a_reveal_after_the_fix_takes_nothing_away(folder: Path, clock: Clock, state: Path) -> None:
    log = opened(folder, clock, state)
    log.start()
    clock.pass_minutes(3)
    log.checked(verdict(VerdictKind.FIXED, kept=4))
    clock.pass_minutes(3)
    log.revealed()

    assert log.hunt.solved is not None
    assert log.hunt.elapsed == 3 * MINUTE


def test_hints_and_resets_are_counted(folder: Path, clock: Clock, state: Path) -> None:
    log = opened(folder, clock, state)
    log.start()
    log.hinted(1)
    log.hinted(2)
    log.reset()

    hunt = opened(folder, clock, state).hunt

    assert (hunt.hints, hunt.resets) == (2, 1)


def test_a_new_start_begins_a_new_hunt(folder: Path, clock: Clock, state: Path) -> None:
    """The same puzzle, deleted and made again in the same place."""
    log = opened(folder, clock, state)
    log.start()
    log.hinted(2)
    log.revealed()
    clock.pass_minutes(60)
    log.start()

    hunt = opened(folder, clock, state).hunt

    assert hunt.is_open
    assert hunt.hints == 0
    assert hunt.remaining == 30 * MINUTE


def test_ensure_started_starts_once(folder: Path, clock: Clock, state: Path) -> None:
    log = opened(folder, clock, state)
    log.ensure_started()
    clock.pass_minutes(7)
    log.ensure_started()

    assert log.hunt.elapsed == 7 * MINUTE


def test_the_same_puzzle_in_two_folders_is_two_hunts(
    folder: Path, tmp_path: Path, clock: Clock, state: Path
) -> None:
    opened(folder, clock, state).start()

    assert opened(puzzle_in(tmp_path / "copy"), clock, state).hunt.started is None


@pytest.mark.parametrize(
    "torn",
    [b'{"event": "hin', b"\x00\x00\x00", b"\xff\xfe", b"[1, 2]", b'{"event": 3}', b"[" * 99_999],
    ids=["half a line", "zeros", "no text", "no object", "no event", "too deep"],
)
def test_a_torn_last_line_costs_that_event_alone(
    folder: Path, clock: Clock, state: Path, torn: bytes
) -> None:
    log = opened(folder, clock, state)
    log.start()
    log.hinted(1)
    with log_file(state).open("ab") as file:
        file.write(torn)

    again = opened(folder, clock, state)
    assert again.hunt.hints == 1
    again.hinted(2)

    assert opened(folder, clock, state).hunt.hints == 2
    assert again.note is None


def test_an_event_of_a_later_version_is_passed_over(
    folder: Path, clock: Clock, state: Path
) -> None:
    opened(folder, clock, state).start()
    with log_file(state).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"event": "whistled", "at": clock()}) + "\n")
        superb = {"event": "checked", "at": clock(), "verdict": "superb", "kept": 1, "promises": 1}
        file.write(json.dumps(superb) + "\n")

    assert opened(folder, clock, state).hunt.is_open


def test_every_event_reaches_the_disk(
    folder: Path, clock: Clock, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    log = opened(folder, clock, state)
    log.start()
    log.hinted(1)

    assert len(synced) == 2


def test_logs_are_for_their_owner_alone(folder: Path, clock: Clock, state: Path) -> None:
    opened(folder, clock, state).start()

    assert log_file(state).stat().st_mode & 0o077 == 0


def test_a_state_folder_that_cannot_be_written_to_stops_nothing(
    folder: Path, clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("a file is in the way", encoding="utf-8")
    log = opened(folder, clock, tmp_path / "state")

    log.start()
    log.hinted(1)

    assert log.hunt.hints == 1
    assert log.note is not None
    assert "HALFHOUR_HOME" in log.note


def test_a_full_disk_stops_nothing(
    folder: Path, clock: Clock, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    log = opened(folder, clock, state)
    log.start()

    assert log.hunt.is_open
    assert log.note is not None
    assert "No space left" in log.note


def test_the_current_hunt_is_the_open_one_that_was_touched_last(
    tmp_path: Path, clock: Clock, state: Path
) -> None:
    first, second, third = (puzzle_in(tmp_path / name) for name in ("a", "b", "c"))
    for folder in (first, second, third):
        opened(folder, clock, state).start()
        clock.pass_minutes(1)
    opened(third, clock, state).checked(verdict(VerdictKind.FIXED, kept=4))
    clock.pass_minutes(1)
    opened(first, clock, state).hinted(1)

    assert session.current(clock=clock, state_dir=state) == first
    assert session.latest(clock=clock, state_dir=state) == first
    clock.pass_minutes(1)
    opened(first, clock, state).revealed()
    assert session.current(clock=clock, state_dir=state) == second
    assert session.latest(clock=clock, state_dir=state) == first


def test_a_hunt_elsewhere_or_deleted_is_not_the_current_one(
    tmp_path: Path, folder: Path, clock: Clock, state: Path
) -> None:
    opened(folder, clock, state).start()

    assert session.current(under=tmp_path / "puzzles", clock=clock, state_dir=state) == folder
    assert session.current(under=tmp_path / "other", clock=clock, state_dir=state) is None
    (folder / store.CARD).unlink()
    assert session.current(clock=clock, state_dir=state) is None


def test_there_is_no_current_hunt_without_logs(state: Path, clock: Clock) -> None:
    assert session.current(clock=clock, state_dir=state) is None
    assert session.latest(clock=clock, state_dir=state) is None


def test_a_damaged_log_of_another_hunt_is_in_nobodys_way(
    folder: Path, clock: Clock, state: Path
) -> None:
    opened(folder, clock, state).start()
    (state / "hunts" / "aaaa-0.jsonl").write_bytes(b"\xff\n{}\n[1]\n")
    (state / "hunts" / "zzzz-0.jsonl").mkdir()

    assert session.current(clock=clock, state_dir=state) == folder


def test_the_ladder_of_one_bug_is_its_hints() -> None:
    assert session.ladder(ANSWER) == handmade.BUG.hints


def test_the_ladder_of_two_bugs_climbs_in_turns() -> None:
    """Nobody is told all of one bug before anything of the other."""
    first, second = handmade.two_bugs()
    ladder = session.ladder(handmade.answer(bugs=(first, replace(second, hints=second.hints[:2]))))

    assert ladder == (
        f"Bug 1: {first.hints[0]}",
        f"Bug 2: {second.hints[0]}",
        f"Bug 1: {first.hints[1]}",
        f"Bug 2: {second.hints[1]}",
        f"Bug 1: {first.hints[2]}",
    )


def test_the_clock_is_as_long_as_the_start_says(folder: Path, clock: Clock, state: Path) -> None:
    opened(folder, clock, state).start(minutes=45)
    assert opened(folder, clock, state).hunt.remaining == 45 * MINUTE

    opened(folder, clock, state).start(extra=25)
    assert opened(folder, clock, state).hunt.minutes == 38

    opened(folder, clock, state).start()
    assert opened(folder, clock, state).hunt.minutes == 30


@pytest.mark.parametrize(
    ("minutes", "extra", "given"), [(30, 0, 30), (30, 25, 38), (30, 50, 45), (30, 100, 60)]
)
def test_extra_time_is_a_percentage_and_a_part_of_a_minute_counts_whole(
    minutes: int, extra: int, given: int
) -> None:
    assert session.allowance(minutes, extra) == given


@pytest.mark.parametrize("minutes", [0, -5, 10**9, "45", None, 1.5])
def test_minutes_that_make_no_sense_are_the_puzzles(
    folder: Path, clock: Clock, state: Path, minutes: object
) -> None:
    opened(folder, clock, state).record("started", minutes=minutes, folder=str(folder))

    assert opened(folder, clock, state).hunt.minutes == 30


def test_a_pause_takes_no_time(folder: Path, clock: Clock, state: Path) -> None:
    log = opened(folder, clock, state)
    log.start()
    clock.pass_minutes(5)
    log.pause()
    clock.pass_minutes(60)

    resting = opened(folder, clock, state).hunt
    assert resting.remaining == 25 * MINUTE
    assert resting.paused is not None
    assert resting.is_open
    assert not resting.late

    log.resume()
    clock.pass_minutes(5)
    assert opened(folder, clock, state).hunt.remaining == 20 * MINUTE
    assert opened(folder, clock, state).hunt.paused is None


def test_pauses_add_up_and_a_second_pause_changes_nothing(
    folder: Path, clock: Clock, state: Path
) -> None:
    log = opened(folder, clock, state)
    log.start()
    for _ in range(2):
        log.pause()
        clock.pass_minutes(10)
        log.pause()
        clock.pass_minutes(10)
        log.resume()
        log.resume()
        clock.pass_minutes(1)

    assert opened(folder, clock, state).hunt.elapsed == 2 * MINUTE


def test_whoever_works_on_ends_the_pause(folder: Path, clock: Clock, state: Path) -> None:
    log = opened(folder, clock, state)
    log.start()
    log.pause()
    clock.pass_minutes(10)
    log.checked(verdict(VerdictKind.NOT_FIXED))
    clock.pass_minutes(1)

    assert opened(folder, clock, state).hunt.paused is None
    assert opened(folder, clock, state).hunt.elapsed == 1 * MINUTE


def test_a_clock_that_was_set_back_during_a_pause_takes_no_time(
    folder: Path, clock: Clock, state: Path
) -> None:
    log = opened(folder, clock, state)
    log.start()
    clock.pass_minutes(5)
    log.pause()
    clock.pass_minutes(-2)
    log.resume()

    assert opened(folder, clock, state).hunt.elapsed == 3 * MINUTE


def test_there_is_no_pause_before_the_start_or_after_the_end(
    folder: Path, clock: Clock, state: Path
) -> None:
    log = opened(folder, clock, state)
    log.pause()
    assert log.hunt.paused is None
    log.start()
    log.revealed()
    log.pause()
    assert log.hunt.paused is None


def test_a_save_is_known_by_its_text(folder: Path, clock: Clock, state: Path) -> None:
    log = opened(folder, clock, state)
    log.start()
    assert log.knows(PUZZLE.source)
    log.saved("x = 1\n")

    again = opened(folder, clock, state)
    assert again.knows("x = 1\n")
    assert not again.knows(PUZZLE.source)
    (event,) = (event for event in again.events if event["event"] == "saved")
    assert event["text"] == "x = 1\n"


def test_a_large_text_is_known_but_not_kept(folder: Path, clock: Clock, state: Path) -> None:
    log = opened(folder, clock, state)
    log.saved("#" * 200_000)

    assert log.knows("#" * 200_000)
    assert log_file(state).stat().st_size < 1000


def test_no_number_of_saves_keeps_the_clock_from_its_log(
    folder: Path, clock: Clock, state: Path
) -> None:
    log = opened(folder, clock, state)
    log.start()
    for number in range(60):
        log.saved(f"{number}" + "#" * 100_000)
    log.hinted(1)

    assert opened(folder, clock, state).hunt.hints == 1


def test_what_another_process_notes_is_taken_in(folder: Path, clock: Clock, state: Path) -> None:
    log = opened(folder, clock, state)
    log.start()
    opened(folder, clock, state).hinted(1)
    assert log.hunt.hints == 0

    log.refresh()

    assert log.hunt.hints == 1


def test_nothing_is_forgotten_where_the_log_cannot_be_kept(
    folder: Path, clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("a file is in the way", encoding="utf-8")
    log = opened(folder, clock, tmp_path / "state")
    log.start()
    log.refresh()

    assert log.hunt.is_open


def test_runs_and_the_consent_to_note_them(folder: Path, clock: Clock, state: Path) -> None:
    log = opened(folder, clock, state)
    log.start()
    assert log.hunt.recording is None
    log.record_saves(False)
    log.ran(3, 1, 0.12345)

    assert opened(folder, clock, state).hunt.recording is False
    assert log.events[-1] == {
        "event": "ran",
        "at": clock(),
        "passed": 3,
        "failed": 1,
        "seconds": 0.123,
    }
