"""What may be known of a week is copied to where it is served, and its answers when they may be."""

from __future__ import annotations

from pathlib import Path

import packs
import pytest

from halfhour.generator.errors import UnsoundPuzzle, UsageError
from halfhour.generator.pack.publish import publish

TOY = packs.toy_pair()


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    for week in ("2026-W47", "2026-W48"):
        packs.make(tmp_path / "packs", [TOY], week=week)
    return tmp_path / "packs"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_no_answers_are_published_unasked(kept: Path, tmp_path: Path) -> None:
    copied = publish(kept, tmp_path / "public", reveal=False)

    assert sorted(copied) == names(tmp_path / "public")
    assert names(tmp_path / "public") == [
        "halfhour-2026-W47.html",
        "halfhour-2026-W47.zip",
        "halfhour-2026-W48.html",
        "halfhour-2026-W48.zip",
    ]


def test_the_answers_of_the_newest_week_are_never_revealed(kept: Path, tmp_path: Path) -> None:
    publish(kept, tmp_path / "public", reveal=True)

    assert [name for name in names(tmp_path / "public") if "answers" in name] == [
        "halfhour-2026-W47.answers.zip"
    ]


def test_again_copies_nothing(kept: Path, tmp_path: Path) -> None:
    publish(kept, tmp_path / "public", reveal=True)

    assert publish(kept, tmp_path / "public", reveal=True) == ()


def test_what_was_published_is_never_replaced(kept: Path, tmp_path: Path) -> None:
    publish(kept, tmp_path / "public", reveal=False)
    before = (tmp_path / "public" / "halfhour-2026-W48.zip").read_bytes()
    packs.make(kept, [packs.titled("Another week")])
    packs.make(kept, [TOY], week="2026-W49")

    with pytest.raises(UsageError, match=r"halfhour-2026-W48\.(zip|html) was published"):
        publish(kept, tmp_path / "public", reveal=False)

    assert (tmp_path / "public" / "halfhour-2026-W48.zip").read_bytes() == before
    assert "halfhour-2026-W49.zip" not in names(tmp_path / "public")


def test_other_answers_than_those_committed_to_are_not_revealed(kept: Path, tmp_path: Path) -> None:
    packs.make(kept, [TOY], week="2026-W47", committed="0" * 64)

    with pytest.raises(UnsoundPuzzle, match="other answers than 2026-W47 was published with"):
        publish(kept, tmp_path / "public", reveal=True)

    assert not (tmp_path / "public").exists()
