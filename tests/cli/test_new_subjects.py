"""`subjects new`: a folder that the judge takes at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from shop import one_shop
from standins import Run, the_object

from halfhour.generator import library
from halfhour.generator.commands import _machine
from halfhour.generator.contract import subject_rules as rules
from halfhour.generator.demonstrate import Demonstrator
from halfhour.generator.judge import Judge
from halfhour.generator.soundness import prove


@pytest.fixture
def new(run: Run, desk: Path) -> Path:
    """A subject as it is begun."""
    assert run("subjects", "new", "shelf/my_softmax").exit_code == 0
    return desk / "shelf" / "my_softmax"


def test_a_new_subject_is_a_whole_folder_with_the_next_commands(run: Run, desk: Path) -> None:
    ended = run("subjects", "new", "my_softmax")

    assert ended.exit_code == 0
    assert ended.stdout == "my_softmax\n"
    assert ended.stderr.splitlines()[1:] == [
        "  halfhour subjects check my_softmax",
        "  cd my_softmax && python -m pytest -q test_visible.py",
    ]
    assert sorted(file.name for file in (desk / "my_softmax").iterdir()) == [
        "my_softmax.py",
        "subject.toml",
        "test_hidden.py",
        "test_visible.py",
    ]


def test_a_new_subject_as_json(run: Run) -> None:
    found = the_object(run("subjects", "new", "my_softmax", "--json"))

    assert found["path"] == "my_softmax"
    assert len(found["next"]) == 2


def test_a_new_subject_lacks_only_what_its_author_has_to_say(new: Path) -> None:
    subject = library.load_subject(new)

    assert subject.title == "My softmax"
    assert len(subject.promises) == 2
    told = rules.problems(subject, new)
    assert told == rules.nothing_is_left_to_fill_in(subject, new)
    assert f"{new}/subject.toml:2: still to fill in: the chapters" in "\n".join(told)
    assert {Path(problem.partition(":")[0]).name for problem in told} == {
        "subject.toml",
        "my_softmax.py",
        "test_hidden.py",
    }


def test_a_new_subject_keeps_its_visible_test(new: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_visible.py"],
        cwd=new,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout


def test_a_new_subject_is_sound(new: Path, court: Judge, screen: Demonstrator) -> None:
    """Its promises always hold, and no nonsense keeps them."""
    with one_shop(court, screen):
        report = prove(library.load_subject(new))

    assert report.sound
    assert report.lost == 8


def test_the_folder_one_stands_in_can_be_proven(
    run: Run, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven = []

    def prove_nothing(subject: object, **_: object) -> None:
        proven.append(subject)
        raise KeyboardInterrupt

    monkeypatch.setattr(_machine, "prove", prove_nothing)
    monkeypatch.chdir(new)

    run("subjects", "check", ".")

    assert proven == [library.load_subject(new)]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my-softmax", "'my-softmax' cannot be imported"),
        ("2fast", "cannot be imported"),
        ("class", "cannot be imported"),
        ("MySoftmax", "in snake_case"),
        ("torch", "a package that is there already"),
        ("random", "a package that is there already"),
        ("token_sampler", "token_sampler is taken: "),
    ],
)
def test_a_poor_name_is_refused_and_nothing_is_written(
    run: Run, desk: Path, name: str, says: str
) -> None:
    ended = run("subjects", "new", f"shelf/{name}")

    assert ended.exit_code == 2
    assert says in ended.stderr
    assert list(desk.iterdir()) == []


def test_a_folder_that_holds_something_is_refused(run: Run, desk: Path) -> None:
    (desk / "my_softmax").mkdir()
    (desk / "my_softmax/notes.txt").touch()

    ended = run("subjects", "new", "my_softmax")

    assert ended.exit_code == 2
    assert "is not empty" in ended.stderr
    assert [file.name for file in (desk / "my_softmax").iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_filled(run: Run, desk: Path) -> None:
    (desk / "my_softmax").mkdir()

    assert run("subjects", "new", "my_softmax").exit_code == 0


def test_a_file_in_the_way_is_refused(run: Run, desk: Path) -> None:
    (desk / "my_softmax").write_text("mine", encoding="utf-8")

    ended = run("subjects", "new", "my_softmax")

    assert ended.exit_code == 2
    assert (desk / "my_softmax").read_text(encoding="utf-8") == "mine"
