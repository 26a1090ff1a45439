"""Files that do not load, do not answer, or cheat: none is fixed, none hangs the judge."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from halfhour.generator.judge import Judge, Limits
from halfhour.generator.judge.ledger import Finding
from halfhour.generator.judge.trial import Ruling
from halfhour.generator.records import Outcome, Trial, Verdict, VerdictKind

Judged = Callable[..., Verdict]
MakeTrial = Callable[..., Trial]
InCourt = Callable[..., tuple[Ruling, list[Finding]]]

ONE = "def test_one(subject):\n    assert subject.one() == 1\n"
THREE = (
    "def test_before(subject):\n    assert subject.one() == 1\n"
    "def test_met(subject):\n    subject.two()\n"
    "def test_after(subject):\n    assert subject.one() == 1\n"
)
RIGHT = "def one():\n    return 1\n"

UNLOADABLE = {
    "no Python": (
        "def one()\n    return 1\n",
        "kit.py does not load: SyntaxError: expected ':' (line 1)",
    ),
    "an import that is not there": (
        "import torch\nimport no_such_thing.at_all\n",
        "kit.py imports no_such_thing, which is not there (line 2)",
    ),
    "an exception": (
        f"{RIGHT}raise ValueError('sixteen\\n\\x1b[2Jblocks')\n",
        "kit.py does not load: ValueError: sixteen\\n\\x1b[2Jblocks (line 3)",
    ),
    "sys.exit": ("import sys\nsys.exit(0)\n", "kit.py exits while it is imported (line 2)"),
    "a public name gone": (RIGHT, "kit.py no longer offers Cache.append, Cache"),
}
HARD_TO_LOAD = {
    "halfhour, and so the answers": (
        "\n\nfrom halfhour.solutions import toy\n",
        "kit.py imports halfhour.solutions, which is not there (line 3)",
    ),
    "os._exit": ("import os\nos._exit(0)\n", "the process ends while kit.py is imported"),
    "an endless loop": ("while True:\n    pass\n", "importing kit.py takes longer than 5 s"),
}


def outcomes(verdict: Verdict) -> list[Outcome]:
    return [result.outcome for result in verdict.results]


@pytest.mark.parametrize(("source", "sentence"), UNLOADABLE.values(), ids=UNLOADABLE)
def test_a_file_that_does_not_load_is_invalid(
    in_court: InCourt, source: str, sentence: str
) -> None:
    names = ("one", "Cache.append", "Cache") if source == RIGHT else ()

    ruling, found = in_court(source, ONE, public_names=names)

    assert ruling == Ruling(VerdictKind.INVALID, sentence)
    assert found == []


@pytest.mark.parametrize(("source", "sentence"), HARD_TO_LOAD.values(), ids=HARD_TO_LOAD)
def test_a_file_that_ends_or_holds_up_its_process_is_invalid(
    judged: Judged, source: str, sentence: str
) -> None:
    verdict = judged(source, ONE)

    assert verdict.kind is VerdictKind.INVALID
    assert verdict.reason == sentence
    assert verdict.results == ()


def test_a_call_without_end_times_out(judged: Judged) -> None:
    verdict = judged(f"{RIGHT}def two():\n    while True: pass\n", THREE)

    assert verdict.kind is VerdictKind.NOT_FIXED
    assert outcomes(verdict) == [Outcome.KEPT, Outcome.TIMED_OUT, Outcome.NOT_REACHED]
    assert verdict.reason == (
        "1 of 3 promises are kept: a call took longer than 5 s in test_met,"
        " and nothing after it was reached"
    )


def test_a_process_that_ends_breaks_the_promise_even_if_the_test_swallows_it(
    judged: Judged,
) -> None:
    """Neither `pytest.raises` nor `except` of a test turns an end into a promise kept."""
    source = f"{RIGHT}import os\ndef two():\n    print('3 passed')\n    os._exit(0)\n"
    swallowing = THREE.replace(
        "    subject.two()\n",
        "    try:\n        subject.two()\n    except BaseException:\n        pass\n",
    )

    verdict = judged(source, swallowing)

    assert verdict.kind is VerdictKind.NOT_FIXED
    assert outcomes(verdict) == [Outcome.KEPT, Outcome.DIED, Outcome.NOT_REACHED]
    assert "its process ended in test_met" in verdict.reason


def test_many_calls_that_are_each_in_time_are_late_together(in_court: InCourt) -> None:
    source = "import time\ndef one():\n    time.sleep(1.0)\n    return 1\n"
    tests = "".join(ONE.replace("test_one", f"test_{n}") for n in range(9))

    ruling, found = in_court(source, tests, limits=Limits(call_s=6.0, verdict_s=3.5))

    assert ruling.kind is VerdictKind.NOT_FIXED
    assert "all calls together took longer than 3.5 s" in ruling.reason
    kept = [finding for finding in found if finding.outcome is Outcome.KEPT]
    assert 1 <= len(kept) <= 3
    assert found[-1].outcome is Outcome.TIMED_OUT
    assert len(found) == len(kept) + 1  # nothing was tried after it


def test_a_test_that_never_ends_is_ended_by_the_caller(
    monkeypatch: pytest.MonkeyPatch, trial: MakeTrial
) -> None:
    """The court keeps the time of calls; the caller keeps the court's."""
    monkeypatch.setattr("halfhour.generator.judge.court_process._GRACE_S", 0.5)
    tests = f"{ONE}def test_two(subject):\n    while True: pass\n"

    with Judge(limits=Limits(verdict_s=4.0)) as judge:
        verdict = judge.verdict(trial(RIGHT, tests))
        again = judge.verdict(trial(RIGHT, ONE))

    assert verdict.kind is VerdictKind.NOT_FIXED
    assert outcomes(verdict) == [Outcome.KEPT, Outcome.TIMED_OUT]
    assert "longer than 4 s in test_two" in verdict.reason
    assert again.kind is VerdictKind.FIXED


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            "    import torch\n    return torch.zeros(8 << 20, dtype=torch.uint8)\n", id="a tensor"
        ),
        pytest.param("    return ['x' * 999] * 2000\n", id="a list"),
    ],
)
def test_a_message_too_large_is_invalid(in_court: InCourt, body: str) -> None:
    ruling, _ = in_court(f"def one():\n{body}", ONE)

    assert ruling == Ruling(
        VerdictKind.INVALID, "kit.py does not keep to the judge's protocol: it answered too much"
    )


def test_what_a_file_prints_goes_nowhere(judged: Judged, capfd: pytest.CaptureFixture[str]) -> None:
    """However much it is; and it does not block the file."""
    source = (
        "import os, sys\nprint('1 passed ' * 99999)\nsys.stderr.write('x' * 999999)\n"
        "def one():\n    os.write(1, b'y' * 999999)\n    return 1\n"
    )

    verdict = judged(source, ONE)

    assert verdict.kind is VerdictKind.FIXED, verdict.reason
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found on Linux only")
def test_a_process_that_detaches_itself_is_ended_too(
    unconfined: Judge, trial: Callable[..., Trial], tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    source = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open({str(note)!r}, "w").write(str(os.getpid()))
        time.sleep(60)
    os._exit(0)
while not os.path.exists({str(note)!r}) or not open({str(note)!r}).read():
    time.sleep(0.01)
{RIGHT}"""

    verdict = unconfined.verdict(trial(source, ONE))

    assert verdict.kind is VerdictKind.FIXED, verdict.reason
    assert not Path(f"/proc/{note.read_text()}").exists()


def test_the_worker_sees_little(unconfined: Judge, trial: Callable[..., Trial]) -> None:
    """A clean environment, no arguments, no input, the root as folder, and three pipes."""
    source = """
import os, sys
def seen():
    links = set()
    for name in os.listdir("/proc/self/fd"):
        try: links.add(os.readlink(f"/proc/self/fd/{name}").split(":")[0])
        except OSError: pass  # the listing itself
    return {
        "environment": sorted(os.environ),
        "arguments": sys.argv[1:],
        "folder": os.getcwd(),
        "input": sys.stdin.read(),
        "path": [entry for entry in sys.path if "halfhour" in entry or entry in ("", ".")],
        "leader": os.getsid(0) == os.getpid() == os.getpgrp(),
        "links": sorted(links),
    }
"""
    tests = """
def test_seen(subject):
    seen = subject.seen()
    assert set(seen["environment"]) <= {
        "PATH", "HOME", "LANG", "LC_CTYPE",
        "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
        "TORCHINDUCTOR_CACHE_DIR",
    }, seen["environment"]
    assert seen["arguments"] == []
    assert seen["folder"] == "/"
    assert seen["input"] == ""
    assert seen["path"] == []
    assert seen["leader"] is True
    assert seen["links"] == ["/dev/null", "pipe"]
"""
    if not os.path.exists("/proc/self/fd"):
        pytest.skip("descriptors are listed on Linux only")

    verdict = unconfined.verdict(trial(source, tests))

    assert verdict.kind is VerdictKind.FIXED, [r.detail for r in verdict.results]


def test_the_same_trial_ends_the_same_way(in_court: InCourt) -> None:
    """Global generators are seeded on both sides, so even careless draws repeat."""
    source = "import random, torch\ndrawn = random.random() + float(torch.rand(1))\n"
    tests = (
        "import random\nimport torch\nrandom.seed()\ntorch.seed()\n"
        "def test_drawn(subject, seed):\n"
        "    raise AssertionError((subject.drawn, random.random(), torch.rand(1), seed))\n"
    )

    details = [in_court(source, tests, seed=seed)[1][0].detail for seed in (5, 5, 6)]

    assert details[0] == details[1] != details[2]
