"""No process is left behind, however the judge ends; and without the heavy libraries it says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from halfhour.generator.errors import EnvironmentFault, JudgeError
from halfhour.generator.judge import Judge, Rung
from halfhour.generator.records import Trial, Verdict, VerdictKind

MakeTrial = Callable[..., Trial]

PATIENCE_S = 120.0
"""Of a busy machine."""

ONE = "def test_one(subject):\n    assert subject.one() == 1\n"
ENDLESS = """
import os, pathlib, time

def one():
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
    pathlib.Path({note!r}).write_text("reached")
    while True:
        pass
"""

CALLER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
from halfhour.generator.judge import Judge, Limits, Rung
from halfhour.generator.records import Promise, Trial

source, tests = sys.argv[1:]
promises = (Promise("test_one", ""),)
with Judge(limits=Limits(call_s=50.0), many=True, rung=Rung.P) as judge:
    judge.verdict(Trial("kit", source, tests, promises, (), 1))
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="processes are looked up on Linux only"
)


def descendants(ancestor: int) -> set[int]:
    """Return the processes below one, by the parents that the kernel lists."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found: set[int] = set()
    level = {ancestor}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found |= level
    return found


def alive(processes: set[int]) -> set[int]:
    def is_alive(process: int) -> bool:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state != "Z"

    return {process for process in processes if is_alive(process)}


def until(condition: Callable[[], object], *, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that judges a file which never answers, with the next worker warming up."""
    note = tmp_path / "reached"
    source = ENDLESS.format(note=str(note))
    process = subprocess.Popen(
        [sys.executable, "-c", CALLER, source, ONE],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert until(note.exists, seconds=PATIENCE_S)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=str)
def test_nothing_outlives_the_caller(caller: subprocess.Popen[str], how: signal.Signals) -> None:
    """However it ends; Ctrl-C reaches only the caller, as the others have sessions of their own."""
    below = descendants(caller.pid)
    assert len(below) == 4  # the court, what prepares workers, the worker, and its own child

    os.killpg(caller.pid, how)
    _, told = caller.communicate(timeout=PATIENCE_S)

    assert caller.returncode == -how
    assert until(lambda: not alive(below), seconds=PATIENCE_S)
    assert ("KeyboardInterrupt" in told) == (how is signal.SIGINT)


def test_closing_ends_a_verdict_in_progress(trial: MakeTrial, tmp_path: Path) -> None:
    """A caller with several judges may close them while they work."""
    note = tmp_path / "reached"
    judge = Judge(rung=Rung.P)
    verdicts: list[Verdict] = []
    trial_without_end = trial(ENDLESS.format(note=str(note)), ONE)
    others = descendants(os.getpid())
    working = threading.Thread(target=lambda: verdicts.append(judge.verdict(trial_without_end)))
    working.start()
    assert until(note.exists, seconds=PATIENCE_S)
    below = descendants(os.getpid()) - others

    judge.close()
    working.join(timeout=PATIENCE_S)

    assert [verdict.kind for verdict in verdicts] == [VerdictKind.ENVIRONMENT]
    assert "was closed" in verdicts[0].reason
    assert len(below) == 3  # the court, the worker, and its own child
    assert until(lambda: not alive(below), seconds=PATIENCE_S)
    with pytest.raises(JudgeError, match="closed"):
        judge.verdict(trial_without_end)
    judge.close()


def test_a_court_that_is_killed_is_our_failure_and_the_next_verdict_has_another(
    trial: MakeTrial,
) -> None:
    murder = (
        "import os, signal\ndef one():\n    os.kill(os.getppid(), signal.SIGKILL)\n    return 1\n"
    )

    with Judge(rung=Rung.P) as judge:
        before = descendants(os.getpid())
        verdict = judge.verdict(trial(murder, ONE))
        assert descendants(os.getpid()) == before
        again = judge.verdict(trial("def one():\n    return 1\n", ONE))
    assert verdict.kind is VerdictKind.ENVIRONMENT
    assert "court ended" in verdict.reason
    assert again.kind is VerdictKind.FIXED


def test_a_worker_ends_with_its_lifeline_where_the_kernel_does_not_see_to_it() -> None:
    code = (
        "import sys\n"
        "from halfhour.generator.judge.worker.attachment import end_with\n"
        "end_with(int(sys.argv[1]))\n"
        "print('attached', flush=True)\n"
        "while True: pass\n"
    )
    theirs, ours = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", code, str(theirs)], pass_fds=(theirs,), stdout=subprocess.PIPE
    ) as worker:
        os.close(theirs)
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"attached\n"
        assert worker.poll() is None

        os.close(ours)

        assert worker.wait(timeout=PATIENCE_S) == 1


def test_the_judge_itself_imports_neither_torch_nor_pytest() -> None:
    code = (
        "import sys, halfhour.generator.judge as judge\n"
        "judge.Judge().close()\n"
        "print(sorted({'torch', 'numpy', 'pytest'} & set(sys.modules)))\n"
    )

    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    assert shown == "[]\n"


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentFault, match="not on mps"):
        Judge(device="mps")
    monkeypatch.setattr("halfhour.generator.judge.client.find_spec", lambda _: None)
    with pytest.raises(EnvironmentFault, match="pip install torch"):
        Judge()
