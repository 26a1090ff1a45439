"""`halfhour pack verify`, `open` and `site`: what is done with the files of a week."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import packs
import pytest
from standins import Run, the_object

from halfhour.generator.commands import _machine
from halfhour.generator.commands.pack import pack
from halfhour.generator.errors import JudgeError
from halfhour.generator.pack.verify import Pack, Proof

TOY = packs.toy_pair()
WEEK = "halfhour-2026-W48"


class FakeProof:
    """Finds every puzzle sound, or says why none is."""

    def __init__(self) -> None:
        self.wanting = ""
        self.asked = 0

    def __call__(self, pack: Pack, *, progress: Callable[[str], None]) -> Iterator[Proof]:
        self.asked += 1
        progress("at work")
        assert pack.puzzles.folder == WEEK
        yield Proof(TOY[0], not self.wanting, self.wanting or "breaks 3 of 4 promises")


@pytest.fixture
def prover(monkeypatch: pytest.MonkeyPatch) -> FakeProof:
    fake = FakeProof()
    monkeypatch.setattr(_machine, "prove_pack", fake)
    return fake


@pytest.fixture
def week(desk: Path) -> packs.Lying:
    return packs.make(desk, [TOY])


# verify


@pytest.mark.usefixtures("week")
@pytest.mark.parametrize("file", [f"{WEEK}.zip", f"{WEEK}.answers.zip"])
def test_a_sound_week(run: Run, prover: FakeProof, file: str) -> None:
    ended = run("pack", "verify", file)

    assert ended.exit_code == 0
    row = ["0badcafe", "toy.py", "2", "yes", "breaks", "3", "of", "4", "promises"]
    assert ended.stdout.splitlines()[1].split() == row
    assert "the answers are those committed to" in ended.stderr
    assert prover.asked == 1


@pytest.mark.usefixtures("prover")
def test_the_json_object_of_a_sound_week(run: Run, week: packs.Lying) -> None:
    found = the_object(run("pack", "verify", week.puzzles.name, "--json"))

    assert (found["week"], found["sound"], found["problems"]) == ("2026-W48", True, [])
    assert found["committed"] == found["answers"]
    assert found["puzzles"] == [
        {
            "puzzle": "0badcafe",
            "subject": "toy",
            "level": 2,
            "sound": True,
            "why": "breaks 3 of 4 promises",
        }
    ]


@pytest.mark.usefixtures("week")
def test_a_certificate_that_does_not_hold_is_found_wanting(run: Run, prover: FakeProof) -> None:
    prover.wanting = "it breaks nothing"

    ended = run("pack", "verify", f"{WEEK}.zip")

    assert ended.exit_code == 1
    assert "no     it breaks nothing" in ended.stdout


@pytest.mark.usefixtures("prover")
def test_other_answers_are_found_wanting(run: Run, desk: Path) -> None:
    packs.make(desk, [TOY], committed="0" * 64)

    ended = run("pack", "verify", f"{WEEK}.zip")

    assert ended.exit_code == 1
    assert "found wanting: the answers are not those" in ended.stderr
    assert "committed to" not in ended.stderr


@pytest.mark.usefixtures("week")
def test_no_proof_runs_nothing(run: Run, prover: FakeProof) -> None:
    ended = run("pack", "verify", f"{WEEK}.zip", "--no-proof")

    assert (ended.exit_code, ended.stdout, prover.asked) == (0, "", 0)
    assert "nothing was proven" in ended.stderr


@pytest.mark.usefixtures("prover")
def test_answers_that_lie_elsewhere(run: Run, week: packs.Lying) -> None:
    week.answers.rename("revealed.zip")

    assert run("pack", "verify", f"{WEEK}.zip", "--answers", "revealed.zip").exit_code == 0
    missing = run("pack", "verify", f"{WEEK}.zip")
    assert (missing.exit_code, missing.stderr.count("\n")) == (2, 1)
    assert "--answers FILE" in missing.stderr


@pytest.mark.usefixtures("prover")
def test_a_pack_of_an_older_halfhour_is_verified_and_said_to_be_one(run: Run, desk: Path) -> None:
    packs.make(desk, [TOY], version="0.0.1")

    ended = run("pack", "verify", f"{WEEK}.zip")

    assert ended.exit_code == 0
    assert "made by halfhour 0.0.1" in ended.stderr


@pytest.mark.usefixtures("prover")
def test_a_damaged_zip_ends_in_four(run: Run, week: packs.Lying) -> None:
    week.answers.write_bytes(week.answers.read_bytes()[:-20])

    ended = run("pack", "verify", f"{WEEK}.zip", "--json")

    assert ended.exit_code == 4
    assert "damaged or cut short" in the_object(ended)["error"]


@pytest.mark.usefixtures("week")
def test_a_judge_that_fails_is_no_finding(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> Iterator[Proof]:
        raise JudgeError("the judge could not try toy: no memory")

    monkeypatch.setattr(_machine, "prove_pack", fails)

    ended = run("pack", "verify", f"{WEEK}.zip")

    assert (ended.exit_code, ended.stdout) == (4, "")
    assert "no memory" in ended.stderr


# open


@pytest.mark.usefixtures("week")
def test_open_prints_the_folder(run: Run, desk: Path) -> None:
    ended = run("pack", "open", f"{WEEK}.zip", "--to", "in/here")

    assert (ended.exit_code, ended.stdout) == (0, f"in/here/{WEEK}\n")
    assert (desk / "in" / "here" / WEEK / "1-0badcafe" / "toy.py").is_file()
    again = run("pack", "open", f"{WEEK}.zip", "--to", "in/here")
    assert (again.exit_code, again.stdout) == (0, ended.stdout)
    assert "it is there already" in again.stderr


@pytest.mark.usefixtures("week")
def test_what_was_opened_can_be_hunted_in_without_its_judge(run: Run) -> None:
    run("pack", "open", f"{WEEK}.zip")

    status = run("status", f"{WEEK}/1-0badcafe")
    check = run("check", f"{WEEK}/1-0badcafe")

    assert status.exit_code == 0
    assert check.exit_code == 2
    assert "came without its answer" in check.stderr


@pytest.mark.usefixtures("week")
def test_open_tells_scripts_what_it_did(run: Run) -> None:
    assert the_object(run("pack", "open", f"{WEEK}.zip", "--json"))["written"] is True
    assert the_object(run("pack", "open", f"{WEEK}.zip", "--json"))["written"] is False


def test_open_refuses_what_is_no_pack(run: Run, desk: Path) -> None:
    (desk / "inbox.zip").write_bytes(packs.zipped("inbox", {"ada.py": b"x = 1\n"}))
    (desk / "text.zip").write_text("<html>not found</html>", encoding="utf-8")

    ends = [run("pack", "open", name) for name in ("inbox.zip", "text.zip", "missing.zip")]

    assert [ended.exit_code for ended in ends] == [2, 4, 2]
    assert [ended.stderr.count("\n") for ended in ends] == [1, 1, 1]


# site


def test_site_writes_the_index_and_the_feed(run: Run, desk: Path) -> None:
    packs.make(desk / "public", [TOY]).answers.unlink()

    ended = run("pack", "site", "public", "--base-url", "https://example.org/")
    again = run("pack", "site", "public", "--base-url", "https://example.org/")

    assert (ended.exit_code, ended.stdout) == (0, "public/index.html\n")
    assert "1 week; written: index.html, atom.xml" in ended.stderr
    assert "note" not in ended.stderr
    assert "nothing has changed" in again.stderr


def test_site_says_whose_answers_it_publishes(run: Run, desk: Path) -> None:
    packs.make(desk / "public", [TOY])

    ended = run("pack", "site", "public")
    found = the_object(run("pack", "site", "public", "--json"))

    assert "the answers of 2026-W48 lie there too: they are published" in ended.stderr
    assert found["weeks"] == [{"week": "2026-W48", "puzzles": 1, "answers_published": True}]


def test_site_publishes_a_week_and_reveals_the_one_before(run: Run, desk: Path) -> None:
    packs.make(desk / "packs", [TOY], week="2026-W47")
    packs.make(desk / "packs", [TOY])

    ended = run("pack", "site", "public", "--from", "packs", "--reveal")
    again = run("pack", "site", "public", "--from", "packs", "--reveal", "--json")

    assert ended.exit_code == 0
    assert sorted(path.name for path in (desk / "public").iterdir()) == [
        "atom.xml",
        "halfhour-2026-W47.answers.zip",
        "halfhour-2026-W47.html",
        "halfhour-2026-W47.zip",
        "halfhour-2026-W48.html",
        "halfhour-2026-W48.zip",
        "index.html",
    ]
    assert the_object(again)["written"] == []


def test_reveal_wants_a_folder_to_reveal_from(run: Run) -> None:
    assert run("pack", "site", "public", "--reveal").exit_code == 2


def test_site_of_a_folder_without_weeks(run: Run, desk: Path) -> None:
    (desk / "public").mkdir()

    ended = run("pack", "site", "public")

    assert (ended.exit_code, ended.stdout) == (2, "")
    assert not list((desk / "public").iterdir())


# documents


def test_every_pack_command_and_option_of_the_readme_exists() -> None:
    readme = Path(__file__).resolve().parents[2] / "README.md"
    told = re.findall(r"halfhour pack ([a-z]+)([^|`&#\n]*)", readme.read_text(encoding="utf-8"))
    context = click.Context(pack)

    assert {verb for verb, _ in told} >= {"this", "plan", "verify", "open", "site"}
    for verb, rest in told:
        command = pack.get_command(context, "WEEK" if verb == "this" else verb)
        assert command is not None, verb
        known = {name for option in command.params for name in option.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known, verb
