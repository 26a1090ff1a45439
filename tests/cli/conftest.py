"""The command line without its heavy rooms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import handmade
import pytest
import toy
from click.testing import CliRunner, Result
from standins import ENTRIES, FakeCraft, FakeJudge, FakeMutator, Run

from halfhour.generator import catalogue, library, store
from halfhour.generator.cli import main
from halfhour.generator.commands import _machine


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, with a state folder of its own."""
    monkeypatch.setenv("HALFHOUR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    return tmp_path / "desk"


@pytest.fixture
def run(desk: Path) -> Run:
    """Run one command as its user would."""
    assert desk.is_dir()

    def invoke(*arguments: str, **options: Any) -> Result:
        return CliRunner().invoke(main, list(arguments), **options)

    return invoke


@pytest.fixture
def hunt(desk: Path) -> Path:
    """A puzzle folder, not yet touched."""
    folder = desk / "puzzles" / "0badcafe"
    store.write_puzzle(folder, handmade.puzzle(), handmade.answer())
    return folder


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> FakeJudge:
    fake = FakeJudge()
    monkeypatch.setattr(_machine, "judge", fake)
    monkeypatch.setattr(_machine, "read_submission", lambda path: path.read_text(encoding="utf-8"))
    return fake


@pytest.fixture
def craft(monkeypatch: pytest.MonkeyPatch, known_names: None) -> FakeCraft:
    assert known_names is None
    fake = FakeCraft()
    monkeypatch.setattr(_machine, "craft", fake)
    return fake


@pytest.fixture
def known_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two bugs and one subject are all there is."""
    toy.write(tmp_path / "shelf")
    monkeypatch.setattr(library, "BUILT_IN", tmp_path / "shelf")
    monkeypatch.setattr(catalogue, "entries", lambda: ENTRIES)
    fakes = tuple(FakeMutator(entry.name, entry.topic) for entry in ENTRIES)
    monkeypatch.setattr(_machine, "mutators", lambda: fakes)
