"""`mutators`, `subjects`, `certify`: what authors see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import handmade
import pytest
import toy
from standins import ENTRIES, FakeMutator, Run, the_object

from halfhour.generator import library
from halfhour.generator.commands import _machine
from halfhour.generator.degenerate import Degenerate
from halfhour.generator.errors import UnsoundSubject
from halfhour.generator.pack.table import read_table
from halfhour.generator.records import Certificate, Mutant, Status, Subject, Term
from halfhour.generator.soundness import Report

pytestmark = pytest.mark.usefixtures("known_names")

NAME = "divisor_counts_one_too_many"


def certificate(mutant: Mutant, status: Status) -> Certificate:
    certified = status is Status.CERTIFIED
    return Certificate(
        mutant=mutant.id,
        subject=mutant.subject,
        mutator=mutant.mutator,
        site=mutant.site,
        line=mutant.line,
        status=status,
        sentence=f"it is {status}",
        broken=handmade.BROKEN if certified else (),
        level=2 if certified else 0,
        terms=(Term("few", 0.5, "2 of 4 promises see it"),) if certified else (),
    )


@dataclass
class FakeField:
    """Plants the mutant made by hand wherever the toy's text is, and certifies as it is told."""

    statuses: list[Status] = field(default_factory=lambda: [Status.CERTIFIED, Status.EQUIVALENT])
    jobs: list[int] = field(default_factory=list)

    def plant(
        self,
        name: str,
        text: str,
        mutators: Sequence[FakeMutator],
        *,
        kinds: Iterable[tuple[str, str]] = (),
    ) -> tuple[Mutant, ...]:
        assert kinds == ()
        if text == "def":
            raise UnsoundSubject(f"{name} is not Python: line 1 does not parse")
        if text != toy.SOURCE or all(mutator.name != NAME for mutator in mutators):
            return ()
        planted = (handmade.MUTANT, toy.mutant("total = 0.0", "total = 0.5"))
        return tuple(replace(mutant, mutator=NAME) for mutant in planted)

    def certify(
        self,
        work: _machine.Work,
        *,
        jobs: int,
        device: str,
        upheld: Counter[bool] | None = None,
    ) -> Iterator[Certificate]:
        assert device == "cpu"
        self.jobs.append(jobs)
        if upheld is not None:
            upheld.update({True: 4, False: 1})
        for (_, mutant, _), status in zip(work, self.statuses, strict=True):
            yield certificate(mutant, status)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> FakeField:
    fake = FakeField()
    monkeypatch.setattr(_machine, "plant", fake.plant)
    monkeypatch.setattr(_machine, "certify", fake.certify)
    return fake


@pytest.mark.parametrize("arguments", [["mutators"], ["mutators", "list"]], ids=" ".join)
def test_the_list_has_a_line_per_bug_in_the_catalogues_order(
    run: Run, arguments: list[str]
) -> None:
    ended = run(*arguments)

    assert ended.exit_code == 0
    head, *rows = ended.stdout.splitlines()
    assert head.split() == ["topic", "mutator", "bug"]
    assert [row.split()[:2] for row in rows] == [[e.topic, e.name] for e in ENTRIES]


def test_the_list_as_json(run: Run) -> None:
    found = the_object(run("mutators", "list", "--json"))

    assert [m["name"] for m in found["mutators"]] == [e.name for e in ENTRIES]


def test_show_tells_the_lesson_the_hints_and_the_sightings(run: Run) -> None:
    ended = run("mutators", "show", NAME)

    assert ended.exit_code == 0
    for part in (
        f"The title of {NAME}.",
        "Why nobody noticed.",
        "  3. near",
        "family a-family",
        "example.org/1",
    ):
        assert part in ended.stdout
    found = the_object(run("mutators", "show", NAME, "--json"))["mutator"]
    assert found["hints"] == ["far", "nearer", "near"]
    assert found["where"] == ENTRIES[1].where


@pytest.mark.parametrize("verb", ["show", "try"])
def test_an_unknown_bug_is_answered_with_the_nearest(run: Run, verb: str) -> None:
    ended = run("mutators", verb, "divisor_counts_two")

    assert ended.exit_code == 2
    assert f"did you mean {NAME}" in ended.stderr


def test_try_shows_each_site_as_a_diff(run: Run, site: FakeField) -> None:
    ended = run("mutators", "try", NAME, "--subject", "toy")

    assert ended.exit_code == 0
    assert site.jobs == []
    assert "site 0: toy.py:11" in ended.stdout
    assert "-    return total / len(values)\n" in ended.stdout
    assert "+    total = 0.5\n" in ended.stdout
    assert "fits in 2 places" in ended.stderr


def test_try_with_certify_says_what_each_site_is(run: Run, site: FakeField) -> None:
    ended = run("mutators", "try", NAME, "--certify")
    sites = the_object(run("mutators", "try", NAME, "--certify", "--json"))["sites"]

    assert site.jobs == [1, 1]
    assert "certified (level 2): it is certified" in ended.stdout
    assert "equivalent: it is equivalent" in ended.stdout
    assert [(s["status"], s["level"]) for s in sites] == [("certified", 2), ("equivalent", 0)]
    assert sites[0]["broken"] == list(handmade.BROKEN)


@pytest.mark.usefixtures("site")
def test_try_works_on_any_file(run: Run, desk: Path) -> None:
    (desk / "mine.py").write_text(toy.SOURCE, encoding="utf-8")

    ended = run("mutators", "try", NAME, "--file", "mine.py")

    assert ended.exit_code == 0
    assert "site 0: mine.py:11" in ended.stdout
    assert "--- a/mine.py" in ended.stdout


@pytest.mark.usefixtures("site")
def test_a_bug_that_fits_nowhere_is_found_wanting(run: Run, desk: Path) -> None:
    (desk / "mine.py").write_text("x = 1\n", encoding="utf-8")

    ended = run("mutators", "try", NAME, "--file", "mine.py")

    assert ended.exit_code == 1
    assert "fits in 0 places" in ended.stderr


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("content", "says"), [(b"def", "is not Python"), (b"\xff\xfe", "cannot be read as text")]
)
def test_a_file_that_is_no_python_is_a_usage_error(
    run: Run, desk: Path, content: bytes, says: str
) -> None:
    (desk / "mine.py").write_bytes(content)

    ended = run("mutators", "try", NAME, "--file", "mine.py")

    assert ended.exit_code == 2
    assert says in ended.stderr


@pytest.mark.parametrize("extra", [["--certify"], ["--subject", "toy"]], ids=" ".join)
def test_a_file_has_no_promises(run: Run, desk: Path, extra: list[str]) -> None:
    (desk / "mine.py").write_text("x = 1\n", encoding="utf-8")

    assert run("mutators", "try", NAME, "--file", "mine.py", *extra).exit_code == 2


@pytest.mark.parametrize("arguments", [["subjects"], ["subjects", "list"]], ids=" ".join)
def test_subjects_are_listed_with_their_size(run: Run, arguments: list[str]) -> None:
    ended = run(*arguments)

    assert ended.exit_code == 0
    lines = len(toy.SOURCE.splitlines())
    assert ended.stdout.splitlines()[1].split()[:3] == ["toy", str(lines), "4"]


def test_subjects_as_json(run: Run) -> None:
    (found,) = the_object(run("subjects", "list", "--json"))["subjects"]

    assert found["name"] == "toy"
    assert found["topics"] == ["numerics"]
    assert found["promises"] == 4


def test_certify_groups_the_mutants_by_what_they_are(run: Run, site: FakeField) -> None:
    ended = run("certify", "--jobs", "3")

    assert ended.exit_code == 0
    assert site.jobs == [3]
    assert ended.stdout.splitlines() == [
        "certified: 1",
        "  toy:11  divisor_counts_one_too_many [0]  level 2: it is certified",
        "equivalent: 1",
        "  toy:8  divisor_counts_one_too_many [0]  it is equivalent",
    ]
    assert "1 of 2 mutants are puzzles" in ended.stderr
    assert "the judge upheld 4 of 5 that the screen let through" in ended.stderr


@pytest.mark.usefixtures("site")
def test_certify_writes_the_table_over_the_old_one(run: Run, desk: Path) -> None:
    table = desk / "certified.json"
    table.write_text("old", encoding="utf-8")

    assert run("certify", "--table", "certified.json").exit_code == 0

    (row,) = read_table(table).puzzles
    assert (row.subject, row.mutator, row.site, row.line, row.level) == ("toy", NAME, 0, 11, 2)
    assert [each.subject for each in read_table(table).subjects] == ["toy"]


@pytest.mark.usefixtures("site")
def test_a_table_is_of_everything(run: Run, desk: Path) -> None:
    ended = run("certify", "--table", "certified.json", "--subject", "toy")

    assert ended.exit_code == 2
    assert "a table is of everything" in ended.stderr
    assert list(desk.iterdir()) == []


@pytest.mark.usefixtures("site")
def test_certify_as_json(run: Run) -> None:
    found = the_object(run("certify", "--subject", "toy", "--mutator", NAME, "--json"))

    assert found["mutants"][0] == {
        "subject": "toy",
        "mutator": NAME,
        "site": 0,
        "line": 11,
        "status": "certified",
        "sentence": "it is certified",
        "broken": list(handmade.BROKEN),
        "unsteady": [],
        "level": 2,
        "terms": {"few": [0.5, "2 of 4 promises see it"]},
        "repeats": "",
        "reason": "",
    }
    assert found["counts"]["certified"] == 1
    assert found["counts"]["flaky"] == 0
    assert found["screen"] == {"upheld": 4, "overturned": 1}
    assert found["seconds"] >= 0


def test_certify_explains_levels_and_survivors_when_asked(
    run: Run, site: FakeField, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explain(work: Sequence[tuple[Subject, Mutant]]) -> Iterator[tuple[str, str]]:
        for _, mutant in work:
            yield mutant.id, "proved same: it compiles to the same code"

    monkeypatch.setattr(_machine, "explain_survivors", explain)

    ended = run("certify", "--explain")

    assert site.jobs == [1]
    assert "      few      0.50  2 of 4 promises see it" in ended.stdout
    assert "      proved same: it compiles to the same code" in ended.stdout
    assert "by level: 2: 1; 0 repeat another on the same line" in ended.stderr


def test_certify_without_a_single_puzzle_is_found_wanting(run: Run, site: FakeField) -> None:
    site.statuses = [Status.NOISY, Status.EQUIVALENT]

    assert run("certify").exit_code == 1


@pytest.mark.parametrize(("option", "name"), [("--subject", "toi"), ("--mutator", "divisor")])
def test_certify_of_an_unknown_name_is_a_usage_error(
    run: Run, site: FakeField, option: str, name: str
) -> None:
    ended = run("certify", option, name)

    assert ended.exit_code == 2
    assert "did you mean" in ended.stderr
    assert site.jobs == []


@dataclass
class FakeProof:
    """Finds in every subject what it is told."""

    survivors: tuple[Degenerate, ...] = ()
    unsteady: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    proven: list[str] = field(default_factory=list)

    def __call__(self, subject: Subject, *, mutants: bool, progress: object) -> Report:
        assert callable(progress)
        self.proven.append(subject.name)
        planted = 5 if mutants else 0
        return Report(
            subject=subject.name,
            lines=30,
            promises=4,
            seconds=0.25,
            unsteady=self.unsteady,
            lost=12,
            untouched=4,
            survivors=self.survivors,
            mutants=planted,
            puzzles=planted and 4,
            bugs=planted and 3,
            missed=self.missed,
        )


@pytest.fixture
def proof(monkeypatch: pytest.MonkeyPatch) -> FakeProof:
    proof = FakeProof()
    monkeypatch.setattr(_machine, "prove", proof)
    return proof


@pytest.mark.parametrize("arguments", [[], ["toy"]], ids=["all", "by name"])
def test_a_sound_subject_is_said_to_be(run: Run, proof: FakeProof, arguments: list[str]) -> None:
    ended = run("subjects", "check", *arguments)

    assert ended.exit_code == 0
    assert proof.proven == ["toy"]
    head, row = (line.split() for line in ended.stdout.splitlines())
    assert dict(zip(head, row, strict=True)) == {
        "subject": "toy",
        "lines": "30",
        "promises": "4",
        "seconds": "0.25",
        "unsteady": "0",
        "degenerate": "12",
        "kept": "0",
        "mutants": "5",
        "puzzles": "4",
        "bugs": "3",
        "found": "sound",
    }


def test_a_mutant_that_no_promise_sees_is_named_with_what_explains_it(
    run: Run, proof: FakeProof
) -> None:
    proof.missed = ("mean_divides_by_one_less:12",)

    ended = run("subjects", "check")

    assert ended.exit_code == 0
    assert "toy: no promise sees mean_divides_by_one_less:12; see: halfhour" in ended.stdout


def test_the_mutants_can_be_left_out(run: Run, proof: FakeProof) -> None:
    (found,) = the_object(run("subjects", "check", "--without-mutants", "--json"))["subjects"]

    assert proof.proven == ["toy"]
    assert (found["mutants"], found["puzzles"], found["bugs"]) == (0, 0, 0)


def test_a_subject_of_ones_own_is_given_by_its_folder(
    run: Run, proof: FakeProof, desk: Path
) -> None:
    toy.write(desk / "mine")

    assert run("subjects", "check", "mine/toy").exit_code == 0
    assert proof.proven == ["toy"]


def test_a_weak_subject_exits_with_one_and_says_what_kept_its_promises(
    run: Run, proof: FakeProof
) -> None:
    proof.survivors = (Degenerate("spread", "zeros", ""),)

    ended = run("subjects", "check")
    found = the_object(run("subjects", "check", "--json"))

    assert ended.exit_code == 1
    assert ended.stdout.splitlines()[1].endswith("wanting")
    assert "every promise is kept though in spread every number is 0" in ended.stdout
    assert found["subjects"][0]["survivors"] == [{"function": "spread", "answer": "zeros"}]


def test_a_promise_that_does_not_always_hold_is_found_wanting(run: Run, proof: FakeProof) -> None:
    proof.unsteady = ("test_mean",)

    ended = run("subjects", "check")

    assert ended.exit_code == 1
    assert "toy: test_mean is not kept in every run" in ended.stdout


def test_an_unknown_subject_cannot_be_proven(run: Run) -> None:
    assert run("subjects", "check", "toi").exit_code == 2


def test_a_trace_is_written_beside_the_file_and_read_back(
    run: Run, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.write(desk / "mine")
    monkeypatch.setattr(_machine, "trace", lambda _: {"mean.total": "float"})

    ended = run("subjects", "trace", "mine/toy")

    assert ended.exit_code == 0
    assert ended.stdout == "mine/toy/kinds.toml\n"
    assert library.load_subject(desk / "mine" / "toy").kinds == (("mean.total", "float"),)


def test_a_file_that_cannot_be_traced_leaves_nothing_behind(
    run: Run, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.write(desk / "mine")

    def trace(subject: Subject) -> dict[str, str]:
        raise UnsoundSubject(f"{subject.file_name} cannot be traced: a test wants tmp_path")

    monkeypatch.setattr(_machine, "trace", trace)

    ended = run("subjects", "trace", "mine/toy")

    assert ended.exit_code == 4
    assert "toy.py cannot be traced: a test wants tmp_path" in ended.stderr
    assert not (desk / "mine" / "toy" / "kinds.toml").exists()


def test_a_subject_that_breaks_a_rule_of_wording_is_found_wanting(
    run: Run, proof: FakeProof, desk: Path
) -> None:
    toy.write(desk / "mine")
    tests = desk / "mine" / "toy" / "test_hidden.py"
    tests.write_text(toy.HIDDEN.replace("Averages look too small.", "averages"), encoding="utf-8")

    ended = run("subjects", "check", "mine/toy")

    assert proof.proven == ["toy"]
    assert ended.exit_code == 1
    assert "the symptom of test_mean_is_sum_over_count is no sentence" in ended.stdout
