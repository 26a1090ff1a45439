"""The rung of this machine is tried once and remembered; on it a submission is kept to itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from halfhour.generator.errors import EnvironmentFault
from halfhour.generator.judge import Rung, protection, rungs
from halfhour.generator.judge.rungs import Protection


class Prober:
    """Finds a rung without trying anything, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.rung = Rung.L1

    def __call__(self, *, ladder: object) -> Protection:
        assert isinstance(ladder, tuple)
        self.asked += 1
        return Protection(self.rung, layers=(), refused=(), allowed=())


@pytest.fixture
def prober(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Prober:
    monkeypatch.setenv("HALFHOUR_HOME", str(tmp_path))
    prober = Prober()
    monkeypatch.setattr(rungs, "probe", prober)
    return prober


def memory(home: Path) -> Path:
    return home / "cache" / "protection-own.json"


def test_the_rung_is_tried_once(prober: Prober) -> None:
    assert [protection.rung_here(), protection.rung_here()] == [Rung.L1, Rung.L1]
    assert prober.asked == 1


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("{", id="no JSON"),
        pytest.param("[]", id="no object"),
        pytest.param('{"key": "of another machine", "rung": "L3"}', id="of another machine"),
    ],
)
def test_what_is_remembered_of_anything_else_is_not_believed(
    prober: Prober, tmp_path: Path, damage: str
) -> None:
    protection.rung_here()
    memory(tmp_path).write_text(damage, encoding="utf-8")

    assert protection.rung_here() is Rung.L1
    assert prober.asked == 2
    assert json.loads(memory(tmp_path).read_text(encoding="utf-8"))["rung"] == "L1"


def test_a_home_that_cannot_be_written_to_only_means_trying_again(
    prober: Prober, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    monkeypatch.setenv("HALFHOUR_HOME", str(tmp_path / "file"))

    assert [protection.rung_here(), protection.rung_here()] == [Rung.L1, Rung.L1]
    assert prober.asked == 2


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Make the judge root, or not."""
    return lambda root: monkeypatch.setattr(protection, "_is_root", lambda: root)


@pytest.mark.parametrize(
    ("rung", "root", "refusal"),
    [
        (Rung.L3, True, ""),
        (Rung.L2, False, ""),
        (Rung.L1, False, ""),
        (Rung.L2, True, "as root on rung L2"),
        (Rung.L0, False, "no more than process separation and no network"),
        (Rung.P, False, "no more than process separation only"),
        (Rung.M0, False, "no more than process separation only"),
    ],
)
def test_other_peoples_files_are_run_where_the_kernel_confines_them(
    prober: Prober, as_root: Callable[[bool], None], rung: Rung, root: bool, refusal: str
) -> None:
    prober.rung = rung
    as_root(root)

    if refusal:
        with pytest.raises(EnvironmentFault, match=refusal) as raised:
            protection.rung_for_others()
        assert "--accept-risk" in str(raised.value)
    else:
        assert protection.rung_for_others() is rung
    assert protection.rung_for_others(accept_risk=True) is rung


def test_a_gpus_worker_is_not_confined_and_so_not_for_other_peoples_files(
    prober: Prober, as_root: Callable[[bool], None]
) -> None:
    as_root(False)

    assert protection.rung_here("cuda") is Rung.P
    with pytest.raises(EnvironmentFault, match="on cuda this machine offers"):
        protection.rung_for_others("cuda")
    assert not prober.asked
