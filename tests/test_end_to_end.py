"""One puzzle played as a candidate would, with the installed command and nothing replaced."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import starter
from homes import make_home
from keepers import keeping
from tiers import leading

from halfhour.generator import library, store, textdiff

Halfhour = Callable[..., subprocess.CompletedProcess[str]]

SUBJECT = "weight_quant"
FILTERS = ("--subject", SUBJECT, "--topic", "quantization")
SHIPPED = sorted(path for path in starter.PACK.iterdir() if path.is_dir())[0]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that knows nothing but how well this machine confines a worker."""
    return make_home(tmp_path_factory.mktemp("machine") / "home")


@pytest.fixture(scope="module", autouse=True)
def one_keeper() -> Iterator[None]:
    """One judge stays for all checks, as it does for who uses the command."""
    with keeping(1.0):
        yield


@pytest.fixture
def halfhour(tmp_path: Path, machine: Path) -> Halfhour:
    """Run the command in a folder of its own; the home of its state too."""
    shutil.copytree(machine, tmp_path / "home")
    environment = {**os.environ, "HALFHOUR_HOME": str(tmp_path / "home"), "NO_COLOR": "1"}

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "halfhour.generator", *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run


@pytest.fixture
def puzzle(tmp_path: Path) -> Path:
    """A starter puzzle of one's own."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "puzzle"))


def file_of(folder: Path) -> Path:
    return folder / store.read_puzzle(folder).file_name


def test_a_hunt_from_the_first_check_to_the_lesson(halfhour: Halfhour, puzzle: Path) -> None:
    answer = store.read_answer(puzzle)
    bug = answer.bugs[0]

    before = halfhour("check", puzzle)
    assert before.returncode == 1, before.stderr
    assert "not fixed" in before.stdout
    assert any(name in before.stdout for name in bug.broken)

    hint = halfhour("hint", puzzle)
    assert hint.returncode == 0
    assert bug.hints[0] in hint.stdout

    file_of(puzzle).write_text(answer.original, encoding="utf-8")
    after = halfhour("check", puzzle, "--json")
    assert after.returncode == 0, after.stdout + after.stderr
    report = json.loads(after.stdout)
    assert report["verdict"] == "fixed"
    assert {p["kept"] for p in report["promises"]} == {True}

    lesson = halfhour("reveal", puzzle)
    assert lesson.returncode == 0
    assert bug.lesson.splitlines()[0] in lesson.stdout
    assert all(seen.url in lesson.stdout for seen in bug.sightings)
    assert "solved in" in halfhour("status", puzzle).stdout


def test_the_first_edit_is_kept_when_starting_over(halfhour: Halfhour, puzzle: Path) -> None:
    shipped = file_of(puzzle).read_text(encoding="utf-8")
    file_of(puzzle).write_text("mine\n", encoding="utf-8")

    assert halfhour("reset", puzzle).returncode == 0

    assert file_of(puzzle).read_text(encoding="utf-8") == shipped
    assert "mine\n" in {p.read_text(encoding="utf-8") for p in puzzle.iterdir() if p.is_file()}


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        pytest.param(lambda f: f.unlink(), "", id="missing"),
        pytest.param(lambda f: f.write_text(""), "", id="empty"),
        pytest.param(lambda f: f.write_bytes(b"x = '\xff'\n"), "UTF-8", id="not UTF-8"),
        pytest.param(lambda f: f.write_text("x = 1\ndef f(:\n"), "line 2", id="a syntax error"),
        pytest.param(
            lambda f: f.write_text("import nowhere_to_be_found\n"),
            "nowhere_to_be_found",
            id="an import of something absent",
        ),
        pytest.param(
            lambda f: f.write_text("import sys\nsys.exit(0)\n"), "exits", id="sys.exit at import"
        ),
        pytest.param(
            lambda f: f.write_text("import os\nos._exit(0)\n"), "ends", id="os._exit at import"
        ),
    ],
)
def test_a_file_that_cannot_be_judged_is_invalid_in_one_sentence(
    halfhour: Halfhour, puzzle: Path, break_it: Callable[[Path], object], says: str
) -> None:
    break_it(file_of(puzzle))

    run = halfhour("check", puzzle)

    assert run.returncode == 3, run.stdout + run.stderr
    assert run.stdout.startswith("invalid: ")
    assert says in run.stdout
    assert len(run.stdout.splitlines()) == 1
    assert "Traceback" not in run.stderr


def test_a_renamed_public_function_is_named(halfhour: Halfhour, puzzle: Path) -> None:
    name = next(n for n in store.read_answer(puzzle).public_names if "." not in n)
    text = file_of(puzzle).read_text(encoding="utf-8")
    file_of(puzzle).write_text(text.replace(name, name + "_2"), encoding="utf-8")

    run = halfhour("check", puzzle)

    assert run.returncode == 3
    assert name in run.stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def made_twice(folder: Path, machine: Path, *options: str) -> list[Path]:
    """Make the same puzzle in two processes whose hashes have another order."""
    made = []
    for hash_seed in ("1", "2"):
        home = folder / hash_seed
        shutil.copytree(machine, home / "state")
        run = subprocess.run(
            [sys.executable, "-m", "halfhour.generator", "new", *FILTERS, "--seed", "5", *options],
            cwd=home,
            env={
                **os.environ,
                "HALFHOUR_HOME": str(home / "state"),
                "PYTHONHASHSEED": hash_seed,
            },
            capture_output=True,
            text=True,
            check=True,
        )
        made.append(home / run.stdout.strip())
    return made


@pytest.fixture(scope="module")
def disguised(tmp_path_factory: pytest.TempPathFactory, machine: Path) -> list[Path]:
    return made_twice(tmp_path_factory.mktemp("disguised"), machine, "--disguise")


def test_new_makes_the_same_puzzle_from_the_same_seed_under_any_hash_seed(
    disguised: list[Path],
) -> None:
    first, second = map(contents, disguised)

    assert first == second
    assert set(first) == {
        "README.md",
        "answer.sealed",
        "puzzle.toml",
        "test_visible.py",
        f"{SUBJECT}.py",
    }


@pytest.mark.thorough
def test_so_it_does_without_a_disguise(tmp_path: Path, machine: Path) -> None:
    first, second = map(contents, made_twice(tmp_path, machine))

    assert first == second


def test_a_disguised_puzzle_is_fixed_by_its_own_original(
    halfhour: Halfhour, disguised: list[Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(disguised[0], tmp_path / "mine"))
    answer = store.read_answer(folder)
    published = library.find_subject(SUBJECT).source

    assert textdiff.changed_lines(published, answer.original) >= 40
    shipped = file_of(folder).read_text(encoding="utf-8")
    assert 1 <= textdiff.changed_lines(answer.original, shipped) <= 3
    assert halfhour("check", folder).returncode == 1
    file_of(folder).write_text(answer.original, encoding="utf-8")
    assert halfhour("check", folder).returncode == 0


@pytest.mark.parametrize("after_s", leading(2, [0.1, 5.0, 2.0]))
def test_an_interrupted_new_leaves_nothing_behind(tmp_path: Path, after_s: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "halfhour.generator", "new", "--seed", "1", "--out", "mine"],
        cwd=tmp_path,
        env={**os.environ, "HALFHOUR_HOME": str(tmp_path / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("seed 1")
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=300)

    # An interrupt inside `exec`, as when a library makes its dataclasses, has Python end itself by
    # the signal in the end; a shell shows 130 for both.
    assert process.returncode in (130, -signal.SIGINT), words
    assert "Traceback" not in words
    assert not (tmp_path / "mine").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name != "home"] == []
