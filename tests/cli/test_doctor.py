"""`halfhour doctor`: what is here, what is missing, what to do."""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from standins import FakeJudge, Run, the_object

from halfhour.generator.commands import _machine
from halfhour.generator.errors import JudgeError
from halfhour.generator.judge.rungs import Protection, Rung
from halfhour.generator.records import Trial, Verdict, VerdictKind

CHECKS = ["python", "torch", "cuda", "ruff", "state", "judge", "sandbox"]
STRONG = Protection(
    Rung.L2, layers=("landlock", "seccomp"), refused=("read a file",), allowed=("see a file",)
)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, judge: FakeJudge) -> None:
    """A machine on which all is well, without loading torch."""
    judge.broken = ()
    cuda = SimpleNamespace(is_available=lambda: True, get_device_name=lambda _: "a GPU")
    torch = SimpleNamespace(__version__="2.13.0", cuda=cuda)
    monkeypatch.setattr(importlib, "import_module", lambda _: torch)
    monkeypatch.setattr(_machine, "protection", lambda: STRONG)


def found_by(run: Run) -> dict[str, dict[str, object]]:
    return {check["name"]: check for check in the_object(run("doctor", "--json"))["checks"]}


def test_all_is_well(run: Run) -> None:
    ended = run("doctor")

    assert ended.exit_code == 0
    marked = [line.split()[:2] for line in ended.stdout.splitlines() if line[0] != " "]
    assert marked == [["ok", name] for name in CHECKS]
    assert "all is well" in ended.stderr


def test_the_json_object(run: Run, tmp_path: Path) -> None:
    ended = run("doctor", "--json")

    found = the_object(ended)
    assert found["ok"] is True
    assert [check["name"] for check in found["checks"]] == CHECKS
    assert found["checks"][1]["found"] == "2.13.0"
    assert str(tmp_path / "home") in found["checks"][4]["found"]


def test_it_says_what_the_rung_protects_and_what_it_does_not(run: Run) -> None:
    judge = found_by(run)["judge"]

    assert judge["found"] == "on cpu, rung process"
    assert "tricks in Python cannot make one" in str(judge["meaning"])
    assert "whatever you can do with your files" in str(judge["meaning"])
    assert "tricks in Python" in run("doctor").stdout


def test_it_says_what_a_child_was_really_refused(run: Run) -> None:
    sandbox = found_by(run)["sandbox"]

    assert sandbox["found"] == "L2 (confined)"
    assert sandbox["meaning"] == (
        "layers: landlock, seccomp. Refused: read a file. Not refused: see a file."
    )


def test_a_machine_that_confines_nothing_is_no_fault_and_says_what_to_do(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    weak = Protection(Rung.P, layers=(), refused=(), allowed=("fork",), notes=("L3: no bwrap.",))
    monkeypatch.setattr(_machine, "protection", lambda: weak)

    ended = run("doctor")

    assert ended.exit_code == 0
    assert "none sandbox   process (process separation only)" in ended.stdout
    assert "apt-get install bubblewrap" in ended.stdout
    assert "L3: no bwrap." in ended.stdout


def test_no_torch_exits_with_four_and_says_what_to_do(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_torch(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", no_torch)

    ended = run("doctor")

    assert ended.exit_code == 4
    assert "MISS torch     cannot be imported: No module named 'torch'" in ended.stdout
    assert "--index-url https://download.pytorch.org/whl/cpu" in ended.stdout


def test_no_gpu_is_no_fault(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = SimpleNamespace(
        __version__="2.13.0+cpu", cuda=SimpleNamespace(is_available=lambda: False)
    )
    monkeypatch.setattr(importlib, "import_module", lambda _: torch)

    ended = run("doctor")

    assert ended.exit_code == 0
    assert "none cuda" in ended.stdout


def test_no_ruff_exits_with_four(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "No module named ruff")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)

    ended = run("doctor")

    assert ended.exit_code == 4
    assert "pip install ruff" in ended.stdout


def test_a_state_that_cannot_be_kept_is_said_and_is_no_fault(run: Run, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file is in the way", encoding="utf-8")

    ended = run("doctor")

    assert ended.exit_code == 0
    assert "HALFHOUR_HOME" in ended.stdout


@pytest.mark.parametrize(
    "says",
    [JudgeError("no worker starts"), Verdict(VerdictKind.ENVIRONMENT, "no worker starts")],
    ids=["raised", "returned"],
)
def test_a_judge_that_does_not_work_exits_with_four(
    run: Run, judge: FakeJudge, says: JudgeError | Verdict
) -> None:
    judge.says = says

    ended = run("doctor")

    assert ended.exit_code == 4
    assert "no worker starts" in ended.stdout


def test_the_round_trip_is_a_trial_that_a_judge_can_lose(run: Run, judge: FakeJudge) -> None:
    run("doctor")

    (trial,) = judge.trials
    assert isinstance(trial, Trial)
    names: dict[str, object] = {}
    exec(trial.source, names)
    exec(trial.tests, names)
    subject = SimpleNamespace(double=names["double"])
    test = names[trial.promises[0].name]
    assert callable(test)
    test(subject)
    with pytest.raises(AssertionError):
        test(SimpleNamespace(double=lambda x: x))
