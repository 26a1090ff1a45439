"""The keeper: a judge that stays some minutes, for its user alone, and leaves nothing behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from keepers import ended, keepers, keeping, started_by

from halfhour.generator.judge import keeper, warm
from halfhour.generator.judge.worker.connection import Connection
from halfhour.generator.judge.worker.frames import Json
from halfhour.generator.records import Outcome, Trial, Verdict, VerdictKind

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the keeper is for Linux alone")

SOURCE = "import os\ndef pid():\n    return os.getpid()\ndef parent():\n    return os.getppid()\n"
HONEST = "def test_pid(subject):\n    assert subject.pid() > 1\n"
BROKEN = "def test_pid(subject):\n    assert subject.pid() < 1\n"
LATE = "import time\ndef pid():\n    time.sleep(60)\n"
COURT_AND_WORKERS = 3
"""The processes of a keeper whose judge is at work: the court, what forks workers, a worker."""
LONG = 5.0
SHORT = 0.05
"""Minutes."""


class Refusing:
    """A judge that looks at nothing."""

    def verdict(self, trial: Trial) -> Verdict:
        return Verdict(VerdictKind.INVALID, f"{trial.name} is not looked at")

    def close(self) -> None:
        """Has nothing to close."""


@pytest.fixture
def stays() -> Iterator[None]:
    """Let keepers stay long enough for a machine that is busy."""
    with keeping(LONG):
        yield


@pytest.mark.usefixtures("stays")
def test_one_keeper_gives_every_verdict(trial: Callable[..., Trial]) -> None:
    first = warm.verdict(trial(SOURCE, HONEST), device="cpu")
    kept = keepers()
    second = warm.verdict(trial(SOURCE, BROKEN), device="cpu")
    third = warm.verdict(trial("def pid(:\n", HONEST), device="cpu")

    assert len(kept) == 1
    assert keepers() == kept
    assert [v.kind for v in (first, second, third) if v] == [
        VerdictKind.FIXED,
        VerdictKind.NOT_FIXED,
        VerdictKind.INVALID,
    ]
    assert second is not None
    assert second.results[0].outcome is Outcome.WRONG
    assert second.results[0].promise.name == "test_pid"


def test_a_keeper_goes_when_nobody_comes(trial: Callable[..., Trial]) -> None:
    with keeping(SHORT):
        assert warm.verdict(trial("def pid(:\n", HONEST), device="cpu") is not None

        assert ended(keepers())
        with socket.socket(socket.AF_UNIX) as connection, pytest.raises(ConnectionRefusedError):
            connection.connect(warm.address("cpu"))


@pytest.mark.usefixtures("stays")
def test_a_keeper_ends_at_once_when_its_caller_goes_away() -> None:
    """Ctrl-C during a check: what it started must not run on."""
    monkey = f"""
from halfhour.generator.judge import warm
from halfhour.generator.records import Promise, Trial
warm._START_S = 60.0
warm.verdict(Trial("kit", {LATE!r}, {HONEST!r}, (Promise("test_pid", ""),), (), 1), device="cpu")
"""
    caller = subprocess.Popen([sys.executable, "-c", monkey])
    patience = time.monotonic() + 120
    while len(started_by(keepers())) < COURT_AND_WORKERS and time.monotonic() < patience:
        time.sleep(0.2)
    kept = keepers()
    caller.kill()
    caller.wait()

    assert kept
    assert ended(kept, within_s=LONG * 60 / 4)


@pytest.mark.usefixtures("stays")
def test_a_caller_that_leaves_with_its_verdict_ends_no_keeper(
    monkeypatch: pytest.MonkeyPatch, trial: Callable[..., Trial]
) -> None:
    """It hangs up as soon as it has its answer, maybe before the keeper has drawn breath."""
    ends: list[int] = []
    send = Connection.send

    def send_and_linger(self: Connection, body: Json) -> None:
        send(self, body)
        time.sleep(0.5)

    monkeypatch.setattr(Connection, "send", send_and_linger)
    monkeypatch.setattr(os, "_exit", ends.append)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(warm.address("cpu"))
        listener.listen()
        listener.settimeout(5.0)
        serving = threading.Thread(target=keeper.keep, args=(listener, Refusing()))
        serving.start()
        ruled = warm.verdict(trial(SOURCE, HONEST), device="cpu")
        serving.join()

    assert ruled is not None
    assert ruled.kind is VerdictKind.INVALID
    assert not ends


def test_who_listens_for_another_user_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, trial: Callable[..., Trial]
) -> None:
    monkeypatch.setenv(warm.MINUTES, str(LONG))
    monkeypatch.setattr(warm, "_START_S", 0.2)
    with socket.socket(socket.AF_UNIX) as squatter:
        squatter.bind(warm.address("cpu"))
        squatter.listen()
        monkeypatch.setattr(warm, "same_user", lambda _: False)

        assert warm.verdict(trial(SOURCE, HONEST), device="cpu") is None


def test_a_process_is_known_by_the_user_that_runs_it() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert warm.same_user(ours)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "geteuid", lambda: 12345)
            assert not warm.same_user(ours)


@pytest.mark.parametrize("minutes", ["0", "-1"])
def test_nobody_has_to_keep_one(
    monkeypatch: pytest.MonkeyPatch, trial: Callable[..., Trial], minutes: str
) -> None:
    monkeypatch.setenv(warm.MINUTES, minutes)

    assert warm.verdict(trial(SOURCE, HONEST), device="cpu") is None
    assert not keepers()


def test_another_judge_has_another_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A keeper of yesterday's text must not judge today."""
    monkeypatch.setattr(warm, "_HERE", tmp_path)
    (tmp_path / "court.py").write_text("one", encoding="utf-8")
    before = warm.address("cpu")
    os.utime(tmp_path / "court.py", ns=(1, 1))

    assert before not in (warm.address("cpu"), warm.address("cuda"))
