"""The rules of a correct file's folder: one record in, what is wrong with it out."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

from .. import catalogue
from ..records import Subject
from ..scaffold import still_open

Rule = Callable[[Subject, Path], list[str]]

_LONGEST_PROMISE = 120
"""It is one line of the brief."""


def problems(subject: Subject, folder: Path) -> list[str]:
    """Return all that is wrong with a subject; nothing if it keeps every rule."""
    return [problem for rule in RULES for problem in rule(subject, folder)]


def nothing_is_left_to_fill_in(subject: Subject, folder: Path) -> list[str]:
    """A scaffold is filled in before it is shipped."""
    names = ("subject.toml", subject.file_name, "test_visible.py", "test_hidden.py")
    return [
        f"{folder / name}:{line}: still to fill in: {what}"
        for name in names
        for line, what in still_open((folder / name).read_text(encoding="utf-8"))
    ]


def topics_are_chapters_of_the_catalogue(subject: Subject, folder: Path) -> list[str]:
    """So that a puzzle can be asked for by its topic."""
    return [
        f"{folder}/subject.toml:1: {topic!r} is no topic: name some of {', '.join(chapters)}"
        for chapters in [catalogue.topics()]
        for topic in subject.topics
        if topic not in chapters
    ]


def the_description_is_made_of_sentences(subject: Subject, folder: Path) -> list[str]:
    """What the file does, and who uses it."""
    if subject.description[0].isupper() and subject.description.endswith("."):
        return []
    return [f"{folder}/subject.toml:1: the description is no sentence"]


def promises_are_sentences(subject: Subject, folder: Path) -> list[str]:
    """A candidate reads them in the brief, one line each."""
    return [
        f"{folder / file}:{_line(text, promise.name)}: {promise.name} says {promise.text!r}:"
        f" make it a sentence of at most {_LONGEST_PROMISE} characters"
        for file, text, promises in (
            ("test_hidden.py", subject.hidden_tests, subject.promises),
            ("test_visible.py", subject.visible_tests, subject.visible_promises),
        )
        for promise in promises
        if not _is_sentence(promise.text)
    ]


def symptoms_are_sentences(subject: Subject, folder: Path) -> list[str]:
    """They are what a user reports in the brief."""
    return [
        f"{folder}/test_hidden.py:{_line(subject.hidden_tests, promise.name)}: the symptom of"
        f" {promise.name} is no sentence: {promise.symptom!r}"
        for promise in subject.promises
        if promise.symptom and not _is_sentence(promise.symptom)
    ]


def something_is_reported(subject: Subject, folder: Path) -> list[str]:
    """A brief needs a user's words."""
    if any(promise.symptom for promise in subject.promises):
        return []
    return [
        f"{folder}/test_hidden.py:1: no promise says what a user would report: mark some with"
        " @pytest.mark.symptom"
    ]


def a_promise_is_given_once(subject: Subject, folder: Path) -> list[str]:
    """No two have the same name or the same words."""
    return [
        f"{folder}/test_hidden.py:{_line(subject.hidden_tests, second.name)}: {second.name} says"
        f" what {first.name} says"
        for number, second in enumerate(subject.promises)
        for first in subject.promises[:number]
        if second.name == first.name or second.text == first.text
    ]


def hidden_tests_know_the_file_by_the_fixture_alone(subject: Subject, folder: Path) -> list[str]:
    """The file under judgement is in another process; only `subject` reaches it."""
    functions = [
        node
        for node in ast.parse(subject.hidden_tests).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    blind = [
        f"{folder}/test_hidden.py:{node.lineno}: {node.name} takes no fixture `subject`"
        for node in functions
        if "subject" not in {argument.arg for argument in node.args.args}
    ]
    imported = {
        f"{folder}/test_hidden.py:{line}: imports {name}, which is not there when it is judged"
        for line, name in _imports(subject.hidden_tests)
        if name.partition(".")[0] in {subject.name, "halfhour"}
    }
    return [*blind, *sorted(imported)]


def the_visible_test_imports_the_file(subject: Subject, folder: Path) -> list[str]:
    """It lies beside the file and is run with plain pytest."""
    if subject.name in {name for _, name in _imports(subject.visible_tests)}:
        return []
    return [f"{folder}/test_visible.py:1: does not import {subject.name}"]


RULES: tuple[Rule, ...] = (
    nothing_is_left_to_fill_in,
    topics_are_chapters_of_the_catalogue,
    the_description_is_made_of_sentences,
    promises_are_sentences,
    symptoms_are_sentences,
    something_is_reported,
    a_promise_is_given_once,
    hidden_tests_know_the_file_by_the_fixture_alone,
    the_visible_test_imports_the_file,
)


def _is_sentence(text: str) -> bool:
    return text.endswith(".") and len(text) <= _LONGEST_PROMISE


def _line(text: str, function: str) -> int:
    """Return where a test function stands."""
    return next(
        node.lineno
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name == function
    )


def _imports(text: str) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.append((node.lineno, node.module))
    return found
