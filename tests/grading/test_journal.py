"""The journal: what is judged is kept, whatever ends the run; and never taken for another's."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import handmade
import pytest

from halfhour.generator.errors import EnvironmentFault, UsageError
from halfhour.generator.grading.journal import Journal, open_journal
from halfhour.generator.grading.work import Judged
from halfhour.generator.records import Outcome, PromiseResult, Verdict, VerdictKind

PROMISES = handmade.answer().promises
KEY = ("0badcafe", "a" * 64)
OTHER = ("0badcafe", "b" * 64)

Open = Callable[..., AbstractContextManager[Journal]]


def judged(kind: VerdictKind = VerdictKind.NOT_FIXED) -> Judged:
    results = tuple(
        PromiseResult(promise, Outcome.WRONG if n == 1 else Outcome.KEPT)
        for n, promise in enumerate(PROMISES)
    )
    told = results if kind in (VerdictKind.FIXED, VerdictKind.NOT_FIXED) else ()
    return Judged(Verdict(kind, "a reason", told, "cpu", "L2", seed=7, seconds=0.5), runs=2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "journal.jsonl"


@pytest.fixture
def opened(path: Path) -> Open:
    def opened(**changed: object) -> AbstractContextManager[Journal]:
        of = {"answers": "f" * 64, "device": "cpu", "promises": {"0badcafe": PROMISES}, **changed}
        return open_journal(path, **of)  # type: ignore[arg-type]

    return opened


def test_a_verdict_comes_back_as_it_was(opened: Open) -> None:
    with opened() as first:
        first.put(KEY, judged())
        first.put(OTHER, judged(VerdictKind.INVALID))

    with opened() as later:
        assert later.get(KEY) == judged()
        assert later.get(OTHER) == judged(VerdictKind.INVALID)
        assert later.salt == first.salt


def test_each_verdict_is_on_the_disk_at_once(opened: Open, path: Path) -> None:
    with opened() as journal:
        before = path.read_bytes()
        journal.put(KEY, judged())

        assert path.read_bytes().startswith(before)
        assert json.loads(path.read_bytes().splitlines()[-1])["source"] == "a" * 64


def test_a_failure_of_ours_is_tried_again(opened: Open) -> None:
    with opened() as journal:
        journal.put(KEY, judged(VerdictKind.ENVIRONMENT))
        assert journal.get(KEY) is None
    with opened() as journal:
        assert journal.get(KEY) is None


@pytest.mark.parametrize("kept", [1, 40, -1], ids=["a byte", "some", "all but the line's end"])
def test_a_torn_last_line_costs_that_verdict_alone(opened: Open, path: Path, kept: int) -> None:
    with opened() as journal:
        journal.put(KEY, judged())
        whole = len(path.read_bytes())
        journal.put(OTHER, judged())
    content = path.read_bytes()
    path.write_bytes(content[:-1] if kept < 0 else content[: whole + kept])

    with opened() as journal:
        assert (journal.get(KEY), journal.get(OTHER)) == (judged(), None)
        journal.put(OTHER, judged())
    with opened() as journal:
        assert len(journal) == 2


def test_a_damaged_line_costs_that_verdict_alone(opened: Open, path: Path) -> None:
    with opened() as journal:
        journal.put(KEY, judged())
        journal.put(OTHER, judged())
    head, first, second = path.read_text().splitlines()
    for damage in ("[]", "\x00", first.replace('"wrong"', '"odd"'), first.replace("0badcafe", "x")):
        path.write_text("\n".join([head, damage, second, ""]))
        with opened() as journal:
            assert (journal.get(KEY), journal.get(OTHER)) == (None, judged())


def test_fresh_begins_anew_under_another_salt(opened: Open) -> None:
    with opened() as first:
        first.put(KEY, judged())
    with opened(fresh=True) as second:
        assert (second.get(KEY), second.salt == first.salt) == (None, False)
    with opened() as third:
        assert (third.get(KEY), third.salt) == (None, second.salt)


@pytest.mark.parametrize(
    ("changed", "what"),
    [({"answers": "0" * 64}, "other answers"), ({"device": "cuda"}, "another device")],
    ids=["answers", "device"],
)
def test_the_journal_of_something_else_is_refused(
    opened: Open, path: Path, changed: dict[str, str], what: str
) -> None:
    with opened() as journal:
        journal.put(KEY, judged())
    before = path.read_bytes()

    with pytest.raises(UsageError, match=f"{what}.*--fresh"), opened(**changed):
        pass
    assert path.read_bytes() == before


@pytest.mark.parametrize("fresh", [False, True], ids=["", "fresh"])
@pytest.mark.parametrize("content", [b"candidate,verdict\n", b"\x00" * 9, b"{}\n"])
def test_a_file_that_is_no_journal_is_left_alone(
    opened: Open, path: Path, content: bytes, fresh: bool
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)

    with pytest.raises(UsageError, match="is no journal"), opened(fresh=fresh):
        pass
    assert path.read_bytes() == content


@pytest.mark.parametrize("kept", [0, 5, 60])
def test_a_journal_that_was_hardly_begun_is_begun_again(
    opened: Open, path: Path, kept: int
) -> None:
    with opened():
        pass
    path.write_bytes(path.read_bytes()[:kept])

    with opened() as journal:
        journal.put(KEY, judged())
    with opened() as journal:
        assert journal.get(KEY) == judged()


def test_two_runs_do_not_write_into_one_journal(opened: Open) -> None:
    with opened(), pytest.raises(UsageError, match="graded already"), opened():
        pass


def test_nobody_else_may_read_the_salt(opened: Open, path: Path) -> None:
    with opened():
        assert path.stat().st_mode & 0o077 == 0


def test_a_place_that_cannot_be_written_to_is_one_sentence(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "new").write_text("a file in the way")

    with pytest.raises(UsageError, match="a file is in the way"), opened():
        pass


def test_a_full_disk_is_one_sentence_and_costs_one_verdict(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < 50:
            raise OSError(errno.ENOSPC, "no space left on device")
        return write(descriptor, data[:-40])

    with opened() as journal:
        journal.put(KEY, judged())
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            with pytest.raises(EnvironmentFault, match="no space left to write"):
                journal.put(OTHER, judged())
    with opened() as journal:
        assert (journal.get(KEY), journal.get(OTHER)) == (judged(), None)


def test_a_folder_is_no_journal(path: Path, opened: Open) -> None:
    path.mkdir(parents=True)

    with pytest.raises(UsageError, match="is a folder"), opened():
        pass
