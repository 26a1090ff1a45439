"""The caller's side of the screen: starts its process, asks it, and ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, Self

from ..errors import JudgeError
from ..judge.child import user_site
from ..records import Outcome, Subject
from .profile import Profile

_START = """
import importlib, json, site, sys
for folder in json.loads(sys.argv[2]):
    site.addsitedir(folder)
importlib.import_module(sys.argv[1]).main()
"""
Run = dict[str, tuple[Outcome, str]]


class Unscreenable(Exception):
    """This subject's tests cannot be run without the judge; the message says why."""


@dataclass(frozen=True, slots=True)
class Sifted:
    """What the screen saw of one mutant."""

    unloaded: str = ""
    """Why the text does not load."""
    ended: bool = False
    """The process ended or hung, in whatever test."""
    visible: Run | None = None
    runs: tuple[Run, ...] = ()
    """One per seed, unless the visible test was broken or an item was late."""


class Screen:
    """One process that forks mutants; started when it is first asked."""

    process_module = "halfhour.generator.screen.process"
    """Its `main` serves the requests."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._end: weakref.finalize[..., Screen] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def sift(self, subject: Subject, texts: Sequence[str], *, seeds: Sequence[int]) -> list[Sifted]:
        """Try mutants of a subject on its visible and, under each seed, its hidden tests.

        Raises Unscreenable, JudgeError where the process fails.
        """
        answer = self._ask("sift", subject, seeds=list(seeds), texts=list(texts))
        found = [_sifted(each) for each in answer["sifted"]]
        if len(found) != len(texts):
            raise JudgeError(f"the screen tried {len(found)} of {len(texts)} mutants")
        return found

    def profile(self, subject: Subject, *, seed: int) -> Profile:
        """Return which lines of the correct file each promise runs. Raises as `sift` does."""
        answer = self._ask("profile", subject, seeds=[seed])
        if answer.get("killed"):
            raise JudgeError(f"tracing the tests of {subject.name} was killed; try again")
        if "depths" not in answer:
            raise Unscreenable(f"the process ends where the tests of {subject.name} are traced")
        return Profile(Profile.from_json(answer["depths"]).depths, answer["kinds"])

    def difference(self, subject: Subject, text: str, *, seeds: Sequence[int]) -> str:
        """Say what a mutant that keeps every promise answers otherwise; empty where nothing.

        Looked at are the calls that the promises make, under each seed. Raises as `sift` does.
        """
        answer = self._ask("difference", subject, seeds=list(seeds), text=text)
        return str(answer.get("difference", ""))

    def close(self) -> None:
        """End the process, whatever it is doing; from whatever thread."""
        self._process = None
        if self._end is not None:
            self._end()

    def _ask(self, do: str, subject: Subject, **more: Any) -> dict[str, Any]:
        told = {
            "name": subject.name,
            "source": subject.source,
            "hidden_tests": subject.hidden_tests,
            "visible_tests": subject.visible_tests,
            "promises": [promise.name for promise in subject.promises],
            "visible": [promise.name for promise in subject.visible_promises],
        }
        process = self._started()
        requests, answers = _pipes(process)
        try:
            requests.write(json.dumps({"do": do, "subject": told, **more}) + "\n")
            requests.flush()
            line = answers.readline()
        except (OSError, ValueError):
            line = ""
        if not line:
            self.close()
            raise JudgeError(f"the process that mutants of {subject.name} are tried in ended")
        answer: dict[str, Any] = json.loads(line)
        if "problem" in answer:
            raise Unscreenable(str(answer["problem"]))
        return answer

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            environment = {
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "PYTHONHASHSEED": "0",
            }
            self._process = subprocess.Popen(
                [sys.executable, "-B", "-c", _START, self.process_module, json.dumps(user_site())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="surrogatepass",
                env=environment,
                start_new_session=True,  # Ctrl-C is ours; it closes the screen
            )
            self._end = weakref.finalize(self, _end, self._process)
        return self._process


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in _pipes(process):
        with suppress(OSError):
            pipe.close()


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _sifted(found: dict[str, Any]) -> Sifted:
    if found.get("ended"):
        return Sifted(ended=True)
    if "unloaded" in found:
        return Sifted(unloaded=found["unloaded"])
    return Sifted(visible=_run(found["visible"]), runs=tuple(map(_run, found["runs"])))


def _run(found: dict[str, list[str]]) -> Run:
    return {name: (Outcome(outcome), why) for name, (outcome, why) in found.items()}
