"""Real processes: whatever ends a run or a part of it, nothing is lost and nobody is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import handmade
import pytest
import toy

from halfhour.generator import store
from halfhour.generator.grading.processes import processes

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="processes are looked up on Linux only"
)

SLOW = "\nimport time\ntime.sleep(0.4)\n"
HALFHOUR = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for a job behind
from halfhour.generator.entry import main
main()
"""
OF = len(handmade.answer().promises)

HANDED_IN: dict[str, str | bytes] = {
    "ada.py": toy.SOURCE,
    "bob.py": handmade.MUTANT.source,
    "cy.py": toy.SOURCE + SLOW,
    "dan.py": "import os\nos._exit(0)\n",
    "eve.py": b"\x7fELF\0",
    "gus.py": "def mean(values:\n",
    "hal.py": toy.SOURCE + SLOW + "# again\n",
    "ivo.py": "raise SystemExit('fixed')\n",
    "joy.py": toy.SOURCE,
    "kim.py": handmade.MUTANT.source + SLOW,
    "lea.py": toy.SOURCE + SLOW + "# a third time\n",
    "max.py": toy.SOURCE + SLOW + "# a fourth time\n",
    "nia.py": toy.SOURCE + SLOW + "# a fifth time\n",
}
EXPECTED = {
    **dict.fromkeys(("ada", "cy", "hal", "joy", "lea", "max", "nia"), ("fixed", OF)),
    **dict.fromkeys(("bob", "kim"), ("not_fixed", 1)),  # no values are still refused
    **dict.fromkeys(("dan", "eve", "gus", "ivo"), ("invalid", 0)),
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A puzzle, an inbox, and a home that remembers what this machine offers."""
    desk = tmp_path_factory.mktemp("desk")
    store.write_puzzle(desk / "puzzle", handmade.puzzle(), handmade.answer())
    (desk / "inbox").mkdir()
    for name, text in HANDED_IN.items():
        content = text if isinstance(text, bytes) else text.encode()
        (desk / "inbox" / name).write_bytes(content)
    return desk


class Run:
    """`halfhour grade` in a process group of its own, as a shell would start it."""

    def __init__(self, desk: Path, journal: Path, *, jobs: int = 1) -> None:
        command = [sys.executable, "-c", HALFHOUR, "grade", "puzzle", "inbox"]
        options = ["--jobs", str(jobs), "--accept-risk", "--json", "--journal", str(journal)]
        self.process = subprocess.Popen(
            [*command, *options],
            cwd=desk,
            env={**os.environ, "HALFHOUR_HOME": str(desk / "home")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.journal = journal

    def wait_for(self, verdicts: int) -> None:
        """Wait until the journal has so many."""
        assert until(lambda: self.verdicts() >= verdicts or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.communicate()

    def stop(
        self, number: signal.Signals, *, how: Callable[[int, int], None] = os.killpg
    ) -> tuple[set[int], str]:
        """Signal the whole group; return what was left running and what it said."""
        below = descendants(self.process.pid)
        assert below
        how(self.process.pid, number)
        _, words = self.process.communicate(timeout=20)
        until(lambda: not alive(below))
        return alive(below), words

    def verdicts(self) -> int:
        return self.journal.read_bytes().count(b"\n") - 1 if self.journal.exists() else 0

    def finish(self) -> dict[str, tuple[str, int]]:
        out, words = self.process.communicate(timeout=300)
        assert self.process.returncode == 0, words
        rows = json.loads(out)["submissions"]
        assert len(rows) == len(HANDED_IN)
        return {row["candidate"]: (row["verdict"], row["kept"]) for row in rows}


@pytest.fixture
def start(desk: Path, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start runs with one journal; none outlives the test."""
    runs: list[Run] = []

    def start(**asked: int) -> Run:
        runs.append(Run(desk, tmp_path / "journal.jsonl", **asked))
        return runs[-1]

    yield start
    for run in runs:
        with suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)
        run.process.communicate()


@pytest.mark.parametrize(
    "kill",
    [
        pytest.param(os.kill, id="alone"),
        pytest.param(os.killpg, id="with its group", marks=pytest.mark.thorough),
    ],
)
def test_a_run_that_is_stopped_again_and_again_ends_as_if_it_were_not(
    start: Callable[..., Run], kill: Callable[[int, int], None]
) -> None:
    """Killed, interrupted, and at last one of its processes is killed."""
    killed = start()
    killed.wait_for(1)
    left_by_killed, _ = killed.stop(signal.SIGKILL, how=kill)

    interrupted = start()
    interrupted.wait_for(3)
    left_by_interrupted, words = interrupted.stop(signal.SIGINT)
    journal_then = interrupted.journal.read_bytes()

    last = start(jobs=2)
    last.wait_for(last.verdicts() + 1)
    os.kill(min(filter(judges, descendants(last.process.pid))), signal.SIGKILL)
    found = last.finish()

    assert (left_by_killed, left_by_interrupted) == (set(), set())
    assert interrupted.process.returncode == 130
    assert "the same command goes on from there" in words
    assert "Traceback" not in words
    assert found == EXPECTED
    journal = last.journal.read_bytes()
    assert journal.startswith(journal_then)
    keys = [json.loads(line)["source"] for line in journal.splitlines()[1:]]
    assert len(keys) == len(set(keys)) == len(set(HANDED_IN.values())) - 1


def test_ctrl_c_is_for_the_process_that_was_typed_at() -> None:
    """Those that it started take no notice: they end with it, without a word."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with processes(1, []) as pool:
        blocked = pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result(timeout=60)

    assert signal.SIGINT in blocked
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def until(condition: Callable[[], object], *, seconds: float = 300.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def parents() -> dict[int, int]:
    """Return the parent of each process that has not ended."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, *_ = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if state != "Z":
            found[int(stat.parent.name)] = int(parent)
    return found


def descendants(ancestor: int) -> set[int]:
    found, level = set[int](), {ancestor}
    known = parents()
    while level := {child for child, parent in known.items() if parent in level}:
        found |= level
    return found


def alive(processes: set[int]) -> set[int]:
    return processes & set(parents())


def judges(pid: int) -> bool:
    """Tell whether a process is one of the pool's."""
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
