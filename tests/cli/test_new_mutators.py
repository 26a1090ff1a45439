"""`mutators new`, `check`, `page`, and bugs given by their file."""

from __future__ import annotations

from pathlib import Path

import pytest
import toy
from standins import ENTRIES, Run, the_object

from halfhour.generator import catalogue

NAME = "limit_counts_itself"
FITS = "def fits(n, limit):\n    return n < limit\n"


@pytest.fixture
def new(run: Run, desk: Path) -> Path:
    """A mutator as it is begun, outside of a checkout."""
    assert run("mutators", "new", NAME, "--topic", "sampling").exit_code == 0
    return desk / f"{NAME}.py"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, desk: Path) -> Path:
    """A checkout around the desk."""
    catalogue.topics()  # of the real one
    assert desk.is_relative_to(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    for topic in ("masking", "sampling"):
        (tmp_path / "mutators" / topic).mkdir(parents=True)
    monkeypatch.setattr(catalogue, "MUTATORS", tmp_path / "mutators")
    monkeypatch.setattr(catalogue, "entries", lambda: ENTRIES)
    monkeypatch.setattr(catalogue, "built_in", lambda: ENTRIES[1:])
    return tmp_path


def test_a_new_bug_is_written_where_one_stands_with_the_next_commands(run: Run, desk: Path) -> None:
    ended = run("mutators", "new", NAME, "--topic", "sampling")

    assert ended.exit_code == 0
    assert ended.stdout == f"{NAME}.py\n"
    assert 'topic="sampling"' in (desk / f"{NAME}.py").read_text(encoding="utf-8")
    assert ended.stderr.splitlines()[1:] == [
        f"  halfhour mutators check {NAME}.py",
        f"  halfhour mutators try {NAME}.py",
    ]


def test_a_new_bug_is_written_to_another_folder_that_is_made(run: Run, desk: Path) -> None:
    found = the_object(run("mutators", "new", NAME, "--to", "my plugin/bugs", "--json"))

    assert found["path"] == f"my plugin/bugs/{NAME}.py"
    assert found["next"][0] == f"halfhour mutators check 'my plugin/bugs/{NAME}.py'"
    assert (desk / found["path"]).is_file()


def test_in_a_checkout_a_new_bug_joins_the_catalogue(run: Run, checkout: Path) -> None:
    ended = run("mutators", "new", NAME, "--topic", "sampling")

    assert ended.exit_code == 0
    assert (checkout / "mutators/sampling" / f"{NAME}.py").is_file()
    assert f"  halfhour mutators try {NAME}\n" in ended.stderr


def test_a_checkout_is_one_only_to_who_stands_in_it(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert catalogue.checkout() == checkout / "mutators"
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert catalogue.checkout() is None


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("NotSnakeCase", [], "is no name for a bug"),
        ("too_short", [], "of 3 words or more"),
        ("a_name__with_gaps", [], "is no name for a bug"),
        ("../up_and_away", [], "is no name for a bug"),
        ("top_k_keeps_one_more", [], "is taken: "),
        (NAME, ["--topic", "maskings"], "did you mean masking"),
    ],
)
def test_a_poor_name_is_refused_and_nothing_is_written(
    run: Run, desk: Path, name: str, options: list[str], says: str
) -> None:
    ended = run("mutators", "new", name, *options)

    assert ended.exit_code == 2
    assert says in ended.stderr
    assert list(desk.iterdir()) == []


def test_a_file_that_is_there_is_never_overwritten(run: Run, new: Path) -> None:
    new.write_text("mine", encoding="utf-8")

    ended = run("mutators", "new", NAME)

    assert ended.exit_code == 2
    assert "is there already" in ended.stderr
    assert new.read_text(encoding="utf-8") == "mine"
    assert list(new.parent.iterdir()) == [new]


def test_a_new_bug_runs_as_it_is(run: Run, desk: Path, new: Path) -> None:
    (desk / "mine.py").write_text(FITS, encoding="utf-8")

    tried = run("mutators", "try", new.name, "--file", "mine.py")
    shown = run("mutators", "show", new.name)

    assert tried.exit_code == shown.exit_code == 0
    assert "+    return n <= limit" in tried.stdout
    assert f"{NAME}: sampling, family fill-in" in shown.stdout


def test_a_new_bug_is_tried_on_a_correct_file_of_ones_own(run: Run, desk: Path, new: Path) -> None:
    toy.write(desk)
    (desk / "toy/toy.py").write_text(FITS, encoding="utf-8")

    (site,) = the_object(run("mutators", "try", new.name, "--subject", "toy", "--json"))["sites"]

    assert (site["file"], site["subject"], site["line"]) == ("toy.py", "toy", 2)


def test_check_tells_what_is_left_to_fill_in(run: Run, new: Path) -> None:
    ended = run("mutators", "check", new.name)
    found = the_object(run("mutators", "check", new.name, "--json"))["mutators"]

    assert ended.exit_code == 1
    assert f"{new}:14: still to fill in: the kind of slip" in ended.stdout
    assert "0 of 1 keep every rule" in ended.stderr
    assert found == [{"name": NAME, "problems": ended.stdout.splitlines()}]


def test_a_bug_that_is_filled_in_keeps_every_rule(run: Run, new: Path) -> None:
    new.write_text(new.read_text(encoding="utf-8").replace("FILL IN", "Filled in"), "utf-8")

    ended = run("mutators", "check", new.name, "top_k_keeps_one_more")

    assert ended.exit_code == 0
    assert ended.stdout == ""
    assert "2 of 2 keep every rule" in ended.stderr


@pytest.mark.parametrize(
    ("mistake", "line", "says"),
    [
        (('"fill-in"', '"Fill In"'), 12, "has no family: give the id"),
        (('        "FILL IN: the rule, as a statement.",\n', ""), 12, "needs exactly three hints"),
        (("yield node", "return node"), 12, "is not a generator: yield each replacement"),
        (("match node:", "match node"), 45, "SyntaxError: expected ':'"),
        (("is_called, mutator", "is_caled, mutator"), 7, "cannot import name 'is_caled'"),
        (("@mutator(", "@list("), 12, "does not load: TypeError"),
    ],
)
def test_a_file_that_does_not_load_says_where_and_what_to_mend(
    run: Run, new: Path, mistake: tuple[str, str], line: int, says: str
) -> None:
    text = new.read_text(encoding="utf-8")
    assert mistake[0] in text
    new.write_text(text.replace(*mistake), encoding="utf-8")

    ended = run("mutators", "check", new.name)

    assert ended.exit_code == 4
    (sentence,) = ended.stderr.splitlines()
    assert sentence.startswith(f"halfhour: {new}:{line}: ")
    assert says in sentence


def test_a_bug_without_docstring_is_told_so(run: Run, new: Path) -> None:
    before, _, rest = new.read_text(encoding="utf-8").partition('    """FILL IN: the broken')
    new.write_text(before + rest.partition('"""\n')[2], encoding="utf-8")

    assert f"{new}:12: `{NAME}` has no docstring" in run("mutators", "check", new.name).stderr


def test_an_example_that_does_not_match_is_shown_beside_what_came(run: Run, new: Path) -> None:
    text = new.read_text(encoding="utf-8")
    new.write_text(text.replace('"fits = n_tokens <= limit"', '"fits = n_tokens"'), "utf-8")

    ended = run("mutators", "check", new.name)

    assert ended.exit_code == 1
    assert f"{new}:12: `{NAME}` makes of\nfits = n_tokens < limit\n" in ended.stdout
    assert "and not these:\nfits = n_tokens\n" in ended.stdout


def test_a_bug_that_raises_is_told_with_the_authors_own_line(run: Run, new: Path) -> None:
    text = new.read_text(encoding="utf-8")
    new.write_text(text.replace("cst.LessThanEqual()", "cst.LessThanEquals()"), "utf-8")
    line = next(n for n, t in enumerate(text.splitlines(), 1) if "cst.LessThanEqual()" in t)

    assert f"{new}:{line}: `{NAME}` raised AttributeError" in (
        run("mutators", "check", new.name).stdout
    )


@pytest.mark.parametrize("verb", ["show", "try", "check"])
def test_a_file_that_is_not_there_is_a_usage_error(run: Run, verb: str) -> None:
    ended = run("mutators", verb, "nowhere.py")

    assert ended.exit_code == 2
    assert ended.stderr == "halfhour: there is no file nowhere.py\n"


def test_a_file_without_a_bug_is_told_so(run: Run, desk: Path) -> None:
    (desk / "mine.py").write_text(FITS, encoding="utf-8")

    ended = run("mutators", "check", "mine.py")

    assert ended.exit_code == 4
    assert "mine.py:1: holds no mutator" in ended.stderr


def test_the_page_of_a_checkout_has_our_own_bugs(run: Run, checkout: Path) -> None:
    ended = run("mutators", "page")

    assert ended.exit_code == 0
    written = [checkout / "mutators" / name for name in ("CATALOGUE.md", "catalogue.html")]
    assert ended.stdout.splitlines() == [str(file) for file in written]
    for file in written:
        text = file.read_text(encoding="utf-8")
        assert ENTRIES[1].title in text
        assert ENTRIES[0].title not in text


def test_the_page_of_another_folder_has_all_bugs_and_is_written_anew(
    run: Run, checkout: Path, desk: Path
) -> None:
    assert checkout
    (desk / "out").mkdir()
    (desk / "out/CATALOGUE.md").write_text("old", encoding="utf-8")

    found = the_object(run("mutators", "page", "--to", "out", "--json"))

    assert found["files"] == ["out/CATALOGUE.md", "out/catalogue.html"]
    assert found["mutators"] == 2
    assert ENTRIES[0].title in (desk / "out/CATALOGUE.md").read_text(encoding="utf-8")
