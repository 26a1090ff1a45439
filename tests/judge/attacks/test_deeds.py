"""Files that answer rightly and meanwhile look, write, call and reach where they should not.

On every rung that confines, one worker tries it all: each deed is refused, or finds nothing; then
nothing is there that was not there before, and nobody has called. Unconfined, the same deeds are
done, so that the refusals are the rung's and no slip of a deed's.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from corpus import ALIVE, RIGHT, Item, Judges, items, shown, text_of, trial

from halfhour.generator import judge as judge_package
from halfhour.generator import library
from halfhour.generator.judge import Rung
from halfhour.generator.records import PromiseResult, Trial, Verdict, VerdictKind

DEEDS = [item for kind in ("secrets", "planting", "network", "system") for item in items(kind)]
NO_DEED_UNCONFINED = {
    "nothing is there to be found": {
        *("imports_the_solutions", "looks_for_tests_on_its_path"),
        *(deed.name for deed in DEEDS if deed.name.startswith("looks_")),
    },
    "it would reach out of the test, or stay": {
        *("asks_for_a_name", "makes_a_queue_for_others", "makes_memory_for_others"),
        *("keeps_a_key_in_the_kernel", "asks_whether_it_could_kill_all"),
    },
    "the worker would no longer be what it was": {
        *("becomes_another_user", "changes_the_root", "makes_a_user_namespace"),
        *("leaves_its_processor", "moves_to_another_priority", "mounts"),
    },
    "not every kernel and not every user may do it": {
        *("reads_the_wire", "talks_to_the_hypervisor", "borrows_the_kernels_ciphers"),
        *("listens_to_the_kernel", "connects_behind_the_back_of_the_filter"),
        *("connects_by_multipath_tcp", "watches_the_processor", "runs_a_program_in_the_kernel"),
        *("handles_its_own_page_faults", "traces_its_parent", "copies_its_parents_memory"),
        *("raises_its_limits", "plants_in_the_root", "leaves_a_line_in_its_own_file"),
        *("types_into_the_terminal", "makes_a_file_without_a_name", "opens_its_parent"),
        *("changes_a_files_attributes", "changes_the_machines_settings"),
    },
    "what the test listens with does not answer": {"fetches_a_page"},
}
UNTRIED = {name for names in NO_DEED_UNCONFINED.values() for name in names}

ATTEMPT = '''

def attempt(name: str) -> str:
    """Do it, and say what came of it."""
    try:
        loot = globals()[name]()
    except (OSError, ImportError) as error:
        return f"refused: {{type(error).__name__}}: {{error}}"
    return f"done: {{loot!r}}"[:500] if loot else "nothing"


TARGETS.update({targets})
'''
PROMISE = """
def test_{name}(subject):
    VICTIM.write_text("whole")
    told = subject.attempt({name!r})
    assert told.startswith(("refused: ", "nothing")), told
    assert VICTIM.read_text() == "whole"
    assert SECRET not in told
"""


@dataclass(frozen=True, slots=True)
class Ground:
    """What the deeds are aimed at: files that are here anyway, or copies of them in a folder."""

    targets: Mapping[str, Any]
    listeners: tuple[socket.socket, ...]

    @property
    def planted(self) -> list[Path]:
        """Where a deed would have left something."""
        token = self.targets["token"]
        folders = ("watched", "judge", "project", "packages", "home", "library", "torch")
        places = [Path(self.targets[folder]) for folder in folders]
        places += [
            Path(self.targets["torch"], "__pycache__"),
            Path("/tmp"),
            Path("/dev/shm"),
            Path("/"),
        ]
        found = [path for place in places for path in place.glob(f"*{token}*")]
        names = ("conftest.py", "usercustomize.py", "sitecustomize.py", "kit.py", "version.py")
        found += [Path(self.targets["watched"], name) for name in names]
        found += [Path(self.targets["judge"], "conftest.py"), Path("/kit.py")]
        found += [Path(self.targets["packages"], "sitecustomize.py")]
        found += [Path(self.targets["home"], "usercustomize.py")]
        return [path for path in found if os.path.lexists(path)]

    @property
    def callers(self) -> int:
        """How many have called."""
        count = 0
        for listener in self.listeners:
            with suppress(BlockingIOError):
                while True:
                    if listener.type == socket.SOCK_DGRAM:
                        listener.recv(99)
                    else:
                        listener.accept()[0].close()
                    count += 1
        return count


@pytest.fixture(scope="module")
def ground(canary: str) -> Iterator[Ground]:
    """The real places, with an empty folder and a secret of ours beside them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="halfhour-tests-")))
        yield _ground(stack, folder, canary, _real_places(folder))


@pytest.fixture(scope="module")
def playground(canary: str) -> Iterator[Ground]:
    """Copies of all that a deed would spoil."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="halfhour-tests-")))
        ground = _ground(stack, folder, canary, _copied_places(folder))
        yield ground
        for path in ground.planted:
            path.unlink() if not path.is_dir() else path.rmdir()


def _real_places(folder: Path) -> dict[str, str]:
    torch = find_spec("torch")
    assert torch is not None
    assert torch.origin is not None
    home = folder / "home"
    home.mkdir()
    return {
        "judge": str(Path(judge_package.__file__).parent),
        "project": str(library.BUILT_IN.parent),
        "packages": sysconfig.get_path("purelib"),
        "library": os.path.dirname(os.__file__),
        "torch": str(Path(torch.origin).parent),
        "home": str(home),
        "hidden_tests": str(library.BUILT_IN / "token_sampler" / "test_hidden.py"),
        "correct_file": str(library.BUILT_IN / "token_sampler" / "token_sampler.py"),
        "sealed_answer": str(_a_sealed_answer(folder)),
    }


def _a_sealed_answer(folder: Path) -> Path:
    answer = folder / "answer.sealed"
    answer.write_text("halfhour sealed answer")
    return answer


def _copied_places(folder: Path) -> dict[str, str]:
    real = _real_places(folder)
    copies = {name: folder / f"copied-{name}" for name in real}
    for name in ("judge", "project", "packages", "library", "torch", "home"):
        copies[name].mkdir()
    (copies["torch"] / "__pycache__").mkdir()
    for owner, name in (
        *(("torch", "__init__.py"), ("torch", "version.py"), ("torch", "py.typed")),
        *(("library", "random.py"), ("judge", "trial.py")),
    ):
        shutil.copy(Path(real[owner], name), copies[owner])
    for name in ("hidden_tests", "correct_file", "sealed_answer"):
        shutil.copy(real[name], copies[name])
    shutil.copytree(
        library.BUILT_IN / "token_sampler", copies["project"] / "solutions/token_sampler"
    )
    return {**{name: str(path) for name, path in copies.items()}, "home": real["home"]}


def _ground(stack: ExitStack, folder: Path, canary: str, places: dict[str, str]) -> Ground:
    token = f"planted-{secrets.token_hex(8)}"
    watched = folder / "watched"
    watched.mkdir()
    secret = folder / "secret.txt"
    secret.write_text(canary)
    database = sqlite3.connect(folder / "words.db")
    database.execute("create table words (word)")
    database.execute("insert into words values (?)", (canary,))
    database.commit()
    database.close()
    tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    udp.bind(("127.0.0.1", 0))
    named = stack.enter_context(socket.socket(socket.AF_UNIX))
    named.bind(str(folder / "socket"))
    abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
    abstract.bind(f"\0{token}")
    for listener in (named, abstract):
        listener.listen()
    listeners = (tcp, udp, named, abstract)
    for listener in listeners:
        listener.setblocking(False)
    targets = {
        **places,
        "token": token,
        "watched": str(watched),
        "victim": str(folder / "victim"),
        "secret_file": str(secret),
        "database": str(folder / "words.db"),
        "neighbour": stack.enter_context(_neighbour(canary)).pid,
        "tcp": tcp.getsockname()[1],
        "udp": udp.getsockname()[1],
        "unix": named.getsockname(),
        "abstract": token,
    }
    return Ground(targets, listeners)


@contextmanager
def _neighbour(canary: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process of this user, which holds a secret in its environment."""
    waits = [sys.executable, "-I", "-S", "-c", "input()"]
    with subprocess.Popen(
        waits, env={"CANARY": canary}, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        yield process
        process.kill()


def tried(
    judge: Callable[[Trial], Verdict], ground: Ground, canary: str, deeds: list[Item]
) -> Verdict:
    """Have one worker try the deeds, one promise for each."""
    texts = [text_of(kind) for kind in dict.fromkeys(deed.file for deed in deeds)]
    first = "from __future__ import annotations\n"
    source = first + "\n".join(text.replace(first, "") for text in texts)
    source += ATTEMPT.format(targets=json.dumps(dict(ground.targets)))
    tests = "\n".join(
        [
            "import pathlib",
            f"SECRET = {canary!r}",
            f"VICTIM = pathlib.Path({ground.targets['victim']!r})",
            *(PROMISE.format(name=deed.name) for deed in deeds),
        ]
    )
    return judge(trial(source, tests))


@pytest.fixture(scope="module", params=["forked", "on its own", "in bubblewrap"])
def confined(
    request: pytest.FixtureRequest, judges: Judges, strongest: Rung, ground: Ground, canary: str
) -> Mapping[str, PromiseResult]:
    """What came of every deed, by a worker of one kind."""
    judge = {
        "forked": lambda: judges(strongest),
        "on its own": lambda: judges(Rung.L1, many=False),
        "in bubblewrap": lambda: judges(Rung.L3, many=False),
    }[request.param]()

    verdict = tried(judge, ground, canary, DEEDS)

    assert verdict.kind in (VerdictKind.FIXED, VerdictKind.NOT_FIXED), shown(verdict)
    assert judge(trial(RIGHT, ALIVE)).kind is VerdictKind.FIXED
    return {result.promise.name.removeprefix("test_"): result for result in verdict.results}


@pytest.mark.parametrize("deed", DEEDS, ids=str)
def test_a_confined_file_is_refused_or_finds_nothing(
    confined: Mapping[str, PromiseResult], deed: Item
) -> None:
    assert confined[deed.name].kept, confined[deed.name].detail


def test_afterwards_nothing_is_there_and_nobody_has_called(
    confined: Mapping[str, PromiseResult], ground: Ground, canary: str
) -> None:
    assert len(confined) == len(DEEDS)
    assert [name for name, result in confined.items() if canary in result.detail] == []
    assert ground.planted == []
    assert ground.callers == 0


@pytest.fixture(scope="module")
def unconfined(judges: Judges, playground: Ground, canary: str) -> Mapping[str, PromiseResult]:
    """What comes of the deeds where nothing refuses them."""
    deeds = [deed for deed in DEEDS if deed.name not in UNTRIED]

    verdict = tried(judges(Rung.P), playground, canary, deeds)

    assert verdict.kind is VerdictKind.NOT_FIXED, shown(verdict)
    return {result.promise.name.removeprefix("test_"): result for result in verdict.results}


@pytest.mark.skipif(sys.platform != "linux", reason="the deeds are Linux's")
def test_unconfined_the_deeds_are_done(
    unconfined: Mapping[str, PromiseResult], playground: Ground
) -> None:
    refused = {name: result.detail for name, result in unconfined.items() if result.kept}

    assert refused == {}
    assert len(playground.planted) >= 20
    assert playground.callers >= 4
    assert {deed.name for deed in DEEDS} >= UNTRIED


def test_unconfined_the_canaries_can_be_found(
    unconfined: Mapping[str, PromiseResult], canary: str
) -> None:
    """Else that no confined file found one would say nothing."""
    found = {name for name, result in unconfined.items() if canary in result.detail}

    assert {"reads_a_file_of_the_user", "opens_it_as_a_database"} <= found
    assert "reads_a_neighbours_environment" in found
