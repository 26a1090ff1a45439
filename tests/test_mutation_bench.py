"""The tool that mutates the correct files knows what lives, what dies and what was explained."""

from __future__ import annotations

from pathlib import Path

import mutation
import mutation_runs
import pytest
from mutation_survivors import Reason, Survivor, read, write
from mutation_texts import mutants

# On Python 3.12 and newer; its children use one thread only.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

CLIP = '''\
from __future__ import annotations


def clip(value: int, most: int | None = None) -> int | None:
    """Return 2 * 3 at most."""
    if value < 0:
        raise ValueError(f"{value} is {0 - value} too small")
    if most is not None and value > most:
        return most
    return value
'''
PROMISES = """
import pytest


def test_large_values_become_the_limit(subject):
    assert [subject.clip(value, 3) for value in (0, 3, 5)] == [0, 3, 3]
    assert subject.clip(5) == 5


def test_negative_values_are_refused(subject, seed):
    with pytest.raises(ValueError):
        subject.clip(-1 - seed)
    with pytest.raises(ValueError):
        subject.clip(-1)
"""
SAME_AT_THE_LIMIT = Survivor(
    "if most is not None and value > most:",
    "if most is not None and value >= most:",
    reason=Reason.EQUIVALENT,
    why="Where they are equal, either may be returned.",
)


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of correct files with the one file `clip`; the file of its survivors is returned."""
    folder = tmp_path / "solutions" / "clip"
    folder.mkdir(parents=True)
    for name, text in [("clip.py", CLIP), ("test_hidden.py", PROMISES), ("subject.toml", "")]:
        (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(mutation, "SOLUTIONS", tmp_path / "solutions")
    monkeypatch.setattr(mutation, "FOLDER", tmp_path / "survivors")
    return tmp_path / "survivors" / "clip.toml"


def test_mutants_change_what_is_executed_once_each() -> None:
    found = mutants(CLIP)

    assert {mutant.line for mutant in found} == {6, 7, 8}
    assert len({mutant.text for mutant in found}) == len(found)
    assert ("if value < 0:", "if value <= 0:", 1) in [mutant.key for mutant in found]
    assert {mutant.line for mutant in found if mutant.message_only} == {7}


def test_the_key_of_a_mutant_tells_equal_lines_apart() -> None:
    found = mutants("def f(x):\n    x = x + 1\n    x = x + 1\n    return x\n")

    assert {m.line: m.occurrence for m in found if m.now == "x = x - 1"} == {2: 1, 3: 2}
    assert {mutant.scope for mutant in found} == {"f"}


def test_what_runs_when_the_file_is_loaded_lies_in_no_function() -> None:
    source = "class A:\n    n = 1\n\n    @property\n    def f(self, x=1):\n        return 1\n"

    assert {m.line: m.scope for m in mutants(source)} == {2: None, 4: None, 5: None, 6: "A.f"}


def test_a_survivor_stays_unexplained_until_someone_writes_why(
    subject: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mutation.main(["clip", "--write"]) == 1
    assert "line 8\n    - if most is not None and value > most:\n    + " in capsys.readouterr().out
    (entry,) = read(subject).values()
    assert (entry.key, entry.reason) == (SAME_AT_THE_LIMIT.key, Reason.UNEXPLAINED)

    write(subject, [SAME_AT_THE_LIMIT])
    assert mutation.main(["clip"]) == 0
    assert "100.0%" in capsys.readouterr().out


def test_an_entry_that_nothing_survives_by_is_stale(subject: Path) -> None:
    gone = Survivor("if value < 0:", "if value == 0:", reason=Reason.EQUIVALENT, why="Once.")
    write(subject, [gone, SAME_AT_THE_LIMIT])

    report = mutation.examine_subject("clip", jobs=1, update=False)
    assert report.stale == (gone,)
    assert not report.good
    mutation.examine_subject("clip", jobs=1, update=True)
    assert list(read(subject).values()) == [SAME_AT_THE_LIMIT]


def test_what_is_promised_nowhere_counts_against_the_score(subject: Path) -> None:
    write(subject, [Survivor(*SAME_AT_THE_LIMIT.key, reason=Reason.FREEDOM, why="Not said.")])
    report = mutation.examine_subject("clip", jobs=1, update=False)

    assert report.count(Reason.MESSAGE) == report.n_messages > 0
    assert report.score == report.killed / (report.killed + 1)


def test_a_mutant_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutation_runs, "GRACE_S", 0.1)
    source = "def count(n):\n    while n > 0:\n        n = n - 1\n    return n\n"
    tests = "def test_it_ends(subject):\n    assert subject.count(3) == 0\n"
    endless = [m for m in mutants(source) if m.now == "n = n + 1"]
    runner = mutation_runs.Runner("count", source, tests)

    assert len(endless) == 1
    assert list(runner.survivors(endless, jobs=1, sure=frozenset())) == []


def test_a_correct_file_that_breaks_a_promise_here_is_an_error() -> None:
    with pytest.raises(mutation_runs.NotKeptError, match="test_large_values_become_the_limit"):
        mutation_runs.Runner("clip", CLIP.replace("> most", "< most"), PROMISES)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param('reason = "because"\nwhy = "x"', "because", id="unknown reason"),
        pytest.param('reason = "equivalent"\nwhy = ""', "no why", id="no why"),
    ],
)
def test_an_entry_needs_a_reason_that_counts(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "clip.toml"
    path.write_text(f'[[survivor]]\nwas = "a"\nnow = "b"\n{text}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=complaint):
        read(path)
