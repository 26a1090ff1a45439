"""The ladder: a rung is what a child was refused, and every rung says what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confinement import Launch, OrdinaryUser

from halfhour.generator.errors import JudgeError
from halfhour.generator.judge import INTERVIEW, PRACTICE, bubblewrap, rungs, tryout
from halfhour.generator.judge.rungs import Rung
from halfhour.generator.judge.tryout import Tryout
from halfhour.generator.judge.worker.confine import Layer, Limits, Policy
from halfhour.generator.judge.worker.confine.attempts import Deed, deeds

LADDER = (Rung.L3, Rung.L2, Rung.L1, Rung.L0, Rung.P)
READS = {Deed.SEE_FILE, Deed.READ_FILE, Deed.READ_ENVIRONMENT, Deed.READ_MEMORY}

Answer = Callable[[tuple[Layer, ...], bool], Tryout]


def refusing(*done: Deed, layers: tuple[Layer, ...] = ()) -> Tryout:
    refused = {deed.value: "EPERM" for deed in Deed if deed not in done}
    return Tryout(layers=layers, refused=refused, done=done)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], list[str]]:
    """Replace the children of a try by an answer; return the list of those that were asked."""

    def set_up(answer: Answer) -> list[str]:
        asked: list[str] = []

        def run(policy: Policy, *, launch: Launch, torch: str, **_: object) -> Tryout:
            command = launch([sys.executable])
            sandboxed = command[0].endswith("bwrap")
            asked.append(f"{'bwrap ' * sandboxed}{len(policy.layers)}{' torch' * bool(torch)}")
            return answer(policy.layers, sandboxed)

        monkeypatch.setattr(tryout, "run", run)
        monkeypatch.setattr(tryout, "torch_folder", lambda: "/packages")
        monkeypatch.setattr(bubblewrap, "find", lambda: bubblewrap.Bubblewrap("/bin/bwrap", True))
        return asked

    return set_up


def test_the_strongest_rung_that_holds_is_taken(machine: Any) -> None:
    asked = machine(lambda layers, _: refusing(layers=layers))

    protection = rungs.probe(ladder=LADDER)

    assert protection.rung is Rung.L3
    assert protection.layers == ("bubblewrap", "limits", "privileges", "landlock", "seccomp")
    assert set(protection.refused) == set(deeds())
    assert protection.allowed == protection.notes == ()
    assert asked == ["bwrap 4", "bwrap 4 torch"]


def test_a_rung_without_bubblewrap_is_named_as_the_reason(
    machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(lambda layers, _: refusing(Deed.SEE_FILE, layers=layers))
    monkeypatch.setattr(bubblewrap, "find", lambda: None)

    protection = rungs.probe(ladder=LADDER)

    assert protection.rung is Rung.L2
    assert protection.allowed == (Deed.SEE_FILE,)
    assert protection.notes == ("L3: bubblewrap is not installed.",)


def test_a_layer_that_fails_ends_the_try_of_its_rung(machine: Any) -> None:
    def no_namespaces(layers: tuple[Layer, ...], sandboxed: bool) -> Tryout:
        if sandboxed:
            return Tryout(fault="the child ended with 1: bwrap: setting up uid map")
        if Layer.NAMESPACES in layers:
            return Tryout(fault="the layer namespaces failed: Operation not permitted")
        return refusing(Deed.SEE_FILE, layers=layers)

    machine(no_namespaces)
    protection = rungs.probe(ladder=LADDER)

    assert protection.rung is Rung.L1
    assert protection.notes == (
        "L3: the child ended with 1: bwrap: setting up uid map.",
        "L2: the layer namespaces failed: Operation not permitted.",
    )


@pytest.mark.parametrize("deed", [deed for deed in Deed if deed is not Deed.SEE_FILE])
def test_one_deed_too_many_costs_the_rung(deed: Deed, machine: Any) -> None:
    """Whatever the layers claim: what counts is what was refused."""
    machine(lambda layers, _: refusing(Deed.SEE_FILE, deed, layers=layers))

    protection = rungs.probe(ladder=LADDER)

    assert protection.rung is (Rung.L0 if deed in READS else Rung.P)
    assert deed in protection.allowed
    assert any(deed in note for note in protection.notes)


def test_a_deed_that_was_not_tried_is_not_taken_for_refused(machine: Any) -> None:
    machine(lambda layers, _: Tryout(layers=layers, refused={Deed.TCP.value: "EPERM"}))

    with pytest.raises(JudgeError, match="no worker runs on this machine: L3: not tried"):
        rungs.probe(ladder=LADDER)


def test_a_rung_on_which_honest_work_fails_is_not_taken(machine: Any) -> None:
    def slow_filter(layers: tuple[Layer, ...], _: bool) -> Tryout:
        if Layer.SECCOMP in layers:
            return Tryout(fault="the child ended with 1: PermissionError in torch")
        return refusing(*Deed, layers=layers)

    machine(slow_filter)

    assert rungs.probe(ladder=LADDER).rung is Rung.P


def holds(protection: Any) -> None:
    """Check that a protection is one of this machine, whichever it offers."""
    assert protection["rung"] in {*Rung}
    assert set(protection["refused"]) | set(protection["allowed"]) == set(deeds())
    if protection["rung"] in {"L3", "L2", "L1"}:
        assert set(protection["allowed"]) <= {Deed.SEE_FILE}
    if protection["rung"] not in {"L3", "M1"}:
        assert protection["notes"]


PROBE = """
import json, sys
from dataclasses import asdict
from halfhour.generator.judge import rungs
protection = rungs.probe()
assert "torch" not in sys.modules
print(json.dumps(asdict(protection)))
"""


def test_this_machine_has_a_rung() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=False, cwd="/"
    )
    assert run.returncode == 0, run.stderr

    holds(json.loads(run.stdout))


def test_an_ordinary_user_has_a_rung(ordinary_user: OrdinaryUser) -> None:
    holds(ordinary_user.call(PROBE))


def test_bubblewrap_that_works_gives_the_strict_rung(
    bwrap: bubblewrap.Bubblewrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tryout, "torch_folder", str)  # without honest work, which takes long
    assert bwrap.path

    assert rungs.probe(ladder=[Rung.L3]).rung is Rung.L3


@pytest.mark.parametrize("rung", Rung)
def test_a_sentence_promises_no_more_than_is_kept(rung: Rung) -> None:
    sentence = rung.sentence

    assert sentence.endswith(".")
    assert "returning correct values" in sentence or rung in (Rung.L0, Rung.M0, Rung.P)
    for word in ("secure", "cheat-proof", "safe", "secret", "impossible"):
        assert word not in sentence.lower()
    if rung in (Rung.L3, Rung.L2, Rung.L1):
        assert "as far as the Linux kernel enforces it" in sentence
        assert "flaw of the kernel" in sentence
    if rung is Rung.M1:
        assert "without a Mac at hand" in sentence
        assert "untested" in rung.label


def test_the_label_that_verdicts_already_carry_is_kept() -> None:
    assert str(Rung.P) == "process"


@pytest.mark.parametrize(
    ("rung", "layers"),
    [
        (Rung.L3, {Layer.LIMITS, Layer.PRIVILEGES, Layer.LANDLOCK, Layer.SECCOMP}),
        (Rung.L2, set(Layer)),
        (Rung.L1, {Layer.LIMITS, Layer.PRIVILEGES, Layer.LANDLOCK, Layer.SECCOMP}),
        (Rung.L0, {Layer.LIMITS, Layer.PRIVILEGES, Layer.SECCOMP}),
        (Rung.M1, {Layer.LIMITS}),
        (Rung.M0, {Layer.LIMITS}),
        (Rung.P, set()),
    ],
)
def test_a_rung_has_its_layers(rung: Rung, layers: set[Layer]) -> None:
    assert set(rungs.policy_for(rung).layers) == layers


@pytest.mark.parametrize("rung", Rung)
def test_threads_are_limited_only_where_they_are_counted_apart(rung: Rung) -> None:
    """Elsewhere all that the user runs would count, and honest threads fail."""
    policy = rungs.policy_for(rung, limits=Limits(data_bytes=1 << 30))

    assert policy.limits.threads == (64 if rung in (Rung.L3, Rung.L2) else None)
    assert policy.limits.data_bytes == 1 << 30


def test_an_interview_allows_less_than_practice() -> None:
    practice, interview = PRACTICE, INTERVIEW

    assert interview.memory_bytes < practice.memory_bytes
    assert interview.verdict_s < practice.verdict_s
    assert interview.cpu_s < practice.cpu_s


def test_a_rung_without_a_launcher_starts_the_worker_as_it_is() -> None:
    worker = ["/bin/python3", "-I", "boot.py"]

    for rung in (Rung.L2, Rung.L1, Rung.L0, Rung.M0, Rung.P):
        assert rungs.worker_command(rung, worker, worker_package=Path("/worker")) == worker


def test_a_missing_launcher_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "find", lambda: None)

    with pytest.raises(JudgeError, match="bubblewrap is not installed"):
        rungs.worker_command(Rung.L3, ["python3"], worker_package=Path("/worker"))


def test_a_child_that_says_nothing_is_a_fault_and_not_a_refusal() -> None:
    run = tryout.run(
        rungs.policy_for(Rung.P), environment={}, launch=lambda _: [sys.executable, "-c", "1/0"]
    )

    assert run.fault == "the child ended with 1: ZeroDivisionError: division by zero"
    assert run.refused == {}


def test_a_program_that_is_not_there_is_a_fault() -> None:
    run = tryout.run(rungs.policy_for(Rung.P), environment={}, launch=lambda _: ["/no/such"])

    assert run.fault.startswith("the child could not be run: ")


def test_the_ladder_is_imported_without_torch() -> None:
    code = "import sys, halfhour.generator.judge.rungs; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False, cwd="/").returncode == 0
