"""Subjects are found and read without importing them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from halfhour.generator.errors import UnsoundSubject, UsageError
from halfhour.generator.library import find_subject, load_subject, promises, public_names, subjects

CARD = """
title = "Toy"
topics = ["numerics"]
description = "Adds. Used by nobody."
reference = "none"
"""
FILES = {
    "subject.toml": CARD,
    "toy.py": "def add(a, b):\n    return a + b\n",
    "test_visible.py": 'def test_shape():\n    """It adds."""\n',
    "test_hidden.py": 'def test_sum(subject):\n    """It adds right."""\n',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "toy"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_the_built_in_subjects_are_found() -> None:
    names = {subject.name for subject in subjects()}

    assert {"sliding_window_decoder", "token_sampler"} <= names


@pytest.mark.parametrize("subject", subjects(), ids=lambda s: s.name)
def test_a_built_in_subject_promises_enough_in_words_for_a_candidate(subject) -> None:  # type: ignore[no-untyped-def]
    lines = len(subject.source.splitlines())

    assert 250 <= lines <= 360
    assert len(subject.promises) >= 10
    assert all(p.text.endswith(".") for p in subject.promises)
    assert all(p.symptom for p in subject.promises)


def test_listing_subjects_imports_neither_torch_nor_libcst() -> None:
    code = (
        "import sys; from halfhour.generator.library import subjects; subjects();"
        "print(sorted({'torch', 'libcst', 'numpy', 'pytest'} & set(sys.modules)))"
    )

    out = subprocess.check_output([sys.executable, "-c", code], text=True)

    assert out.strip() == "[]"


def test_an_unknown_subject_is_answered_with_the_nearest_names() -> None:
    with pytest.raises(UsageError, match="did you mean token_sampler"):
        find_subject("tokensampler")


def test_a_name_like_no_other_is_answered_with_all_names() -> None:
    with pytest.raises(UsageError, match=r"known: .*token_sampler"):
        find_subject("qqqq")


def test_a_folder_is_read_whole(folder: Path) -> None:
    subject = load_subject(folder)

    assert subject.name == "toy"
    assert subject.topics == ("numerics",)
    assert [p.name for p in subject.promises] == ["test_sum"]
    assert [p.name for p in subject.visible_promises] == ["test_shape"]
    assert subject.public_names == ("add",)


@pytest.mark.parametrize("missing", sorted(FILES))
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()

    with pytest.raises(UnsoundSubject, match=missing):
        load_subject(folder)


@pytest.mark.parametrize(
    ("card", "says"),
    [
        ("title = ", "subject.toml"),
        (CARD.replace('title = "Toy"', ""), "`title`"),
        (CARD.replace('["numerics"]', "[]"), "`topics`"),
        (CARD.replace('["numerics"]', "[1]"), "`topics`"),
    ],
)
def test_a_damaged_card_is_refused_saying_where(folder: Path, card: str, says: str) -> None:
    (folder / "subject.toml").write_text(card, encoding="utf-8")

    with pytest.raises(UnsoundSubject, match=says):
        load_subject(folder)


def test_promises_come_in_the_order_of_the_file_with_their_symptoms() -> None:
    text = (
        "import pytest\n"
        "def helper():\n    pass\n"
        "@pytest.mark.symptom('it is slow')\n"
        "def test_b(subject):\n    'It is fast.\\n\\n    More.'\n"
        "def test_a(subject):\n    'It is right.'\n"
    )

    found = promises(text, Path("test_hidden.py"))

    assert [(p.name, p.text, p.symptom) for p in found] == [
        ("test_b", "It is fast.", "it is slow"),
        ("test_a", "It is right.", ""),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def test_a(subject):\n    pass\n", r"test_hidden.py:1: test_a has no docstring"),
        ("x = 1\n", "holds no test function"),
        ("def test_a(:\n", r"test_hidden.py:1:"),
    ],
)
def test_promises_without_words_are_refused_with_the_line(text: str, says: str) -> None:
    with pytest.raises(UnsoundSubject, match=says):
        promises(text, Path("test_hidden.py"))


def test_public_names_are_functions_classes_and_methods_without_underscore() -> None:
    text = (
        "LIMIT = 3\n"
        "def f(): pass\n"
        "def _g(): pass\n"
        "class A:\n    def __init__(self): pass\n    def m(self): pass\n    def _n(self): pass\n"
        "class _B:\n    def m(self): pass\n"
    )

    assert public_names(text, Path("a.py")) == ("f", "A", "A.m")
