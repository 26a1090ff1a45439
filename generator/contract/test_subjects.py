"""Every correct file that is installed keeps the rules; their promises are proven by `halfhour
subjects check`."""

from __future__ import annotations

from pathlib import Path

import pytest

from halfhour.generator import library
from halfhour.generator.contract import subject_rules as rules
from halfhour.generator.errors import UnsoundSubject
from halfhour.generator.records import Subject

try:
    FOLDERS = library.folders()
    BROKEN = ""
except UnsoundSubject as error:
    FOLDERS = {}
    BROKEN = str(error)


@pytest.fixture(params=list(FOLDERS.values()), ids=list(FOLDERS))
def folder(request: pytest.FixtureRequest) -> Path:
    found = request.param
    assert isinstance(found, Path)
    return found


@pytest.fixture
def subject(folder: Path) -> Subject:
    try:
        return library.load_subject(folder)
    except UnsoundSubject as error:
        pytest.fail(str(error), pytrace=False)


def test_every_subject_is_found() -> None:
    if BROKEN:
        pytest.fail(BROKEN, pytrace=False)


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_a_subject_keeps_the_rule(subject: Subject, folder: Path, rule: rules.Rule) -> None:
    if problems := rule(subject, folder):
        pytest.fail("\n".join(problems), pytrace=False)
