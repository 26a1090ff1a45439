"""What comes back, in every shape: who handed in what for which puzzle, or why it is nothing."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import handmade
import pytest

from halfhour.generator import store
from halfhour.generator.errors import UsageError
from halfhour.generator.grading import tree
from halfhour.generator.grading.intake import submissions
from halfhour.generator.grading.names import read_names
from halfhour.generator.grading.records import Submission

TOY = handmade.puzzle()
OTHER = replace(TOY, id="00facade", subject="sampler", file_name="sampler.py")
ONE, TWO = (TOY,), (TOY, OTHER)

Texts = Mapping[str, str | bytes]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def put(texts: Texts) -> None:
    for name, text in texts.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


def pack(name: str, texts: Texts) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for inner, text in texts.items():
            archive.writestr(inner, text)


def card(puzzle: str) -> str:
    return f'format = 1\nid = "{puzzle}"\n'


def found(*paths: str, puzzles: Sequence[object] = ONE, **asked: object) -> list[tuple[str, ...]]:
    """Return candidate, puzzle and text, or "!" and the problem."""
    return [
        (each.candidate, each.puzzle, each.source or f"! {each.problem}")
        for each in handed_in(*paths, puzzles=puzzles, **asked)
    ]


def handed_in(
    *paths: str, puzzles: Sequence[object] = ONE, **asked: object
) -> tuple[Submission, ...]:
    return submissions([Path(p) for p in paths], puzzles, **asked)  # type: ignore[arg-type]


def problem(*paths: str, puzzles: Sequence[object] = ONE) -> str:
    """Return the one problem that there is."""
    (only,) = handed_in(*paths, puzzles=puzzles)
    assert only.source is None
    return only.problem


A, B = "a = 1\n", "b = 2\n"


def test_a_file_is_its_names(tmp_path: Path) -> None:
    put({"inbox/ada.py": A, "inbox/bob.py": B})

    assert found("inbox/bob.py", "inbox/ada.py") == [
        ("bob", "0badcafe", B),
        ("ada", "0badcafe", A),
    ]
    (ada,) = handed_in(str(tmp_path / "inbox" / "ada.py"))
    assert ada.where == str(tmp_path / "inbox" / "ada.py")


def test_a_file_that_is_named_for_its_puzzle_is_its_folders() -> None:
    put({"ada/toy.py": A, "bob/0badcafe/toy.py": B, "cy/halfhour-2026-W48/1-0badcafe/toy.py": A})

    files = ("ada/toy.py", "bob/0badcafe/toy.py", "cy/halfhour-2026-W48/1-0badcafe/toy.py")
    assert [who for who, *_ in found(*files)] == ["ada", "bob", "cy"]


def test_a_folder_of_many_is_read_in_the_order_of_its_names() -> None:
    put({"inbox/dora.py": A, "inbox/bob/toy.py": A, "inbox/cy/work/my_fix.py": B})
    pack("inbox/ada.zip", {"toy.py": B})

    assert found("inbox") == [
        ("ada", "0badcafe", B),
        ("bob", "0badcafe", A),
        ("cy", "0badcafe", B),
        ("dora", "0badcafe", A),
    ]


def test_one_candidates_folder_is_known_by_what_we_gave_out() -> None:
    """Scratch files beside the card are nobody's submission."""
    store.write_puzzle(Path("ada"), TOY, handmade.answer())
    put({"ada/scratch.py": B, "ada/test_mine.py": B, "ada/toy.py": A})

    assert found("ada") == [("ada", "0badcafe", A)]


def test_a_whole_week_of_one_candidate() -> None:
    week = {
        "halfhour-2026-W48/manifest.json": "{}",
        "halfhour-2026-W48/1-0badcafe/puzzle.toml": card("0badcafe"),
        "halfhour-2026-W48/1-0badcafe/toy.py": A,
        "halfhour-2026-W48/1-0badcafe/test_visible.py": "",
        "halfhour-2026-W48/2-00facade/puzzle.toml": card("00facade"),
        "halfhour-2026-W48/2-00facade/sampler.py": B,
    }
    put({f"ada/{name}": text for name, text in week.items()})
    put(week)
    pack("bob.zip", week)
    pack("inbox/cy.zip", week)
    pack("everybody.zip", {f"{who}/{name}": week[name] for who in ("eve", "dan") for name in week})

    def both(who: str) -> list[tuple[str, ...]]:
        return [(who, "0badcafe", A), (who, "00facade", B)]

    assert found("ada", puzzles=TWO) == both("ada")
    assert found("halfhour-2026-W48", puzzles=TWO) == both("halfhour-2026-W48")
    assert found("bob.zip", puzzles=TWO) == both("bob")
    assert found("inbox", puzzles=TWO) == both("cy")
    assert found("everybody.zip", puzzles=TWO) == [*both("dan"), *both("eve")]


def test_a_place_says_where_a_person_finds_it() -> None:
    pack("everybody.zip", {"ada/toy.py": A, "bob/toy.py": B})

    ada, _ = handed_in("everybody.zip")

    assert (ada.candidate, ada.where) == ("ada", "everybody.zip: ada/toy.py")


def test_a_folder_at_the_top_of_a_zip_says_nothing() -> None:
    pack("everybody.zip", {"inbox/ada/toy.py": A, "inbox/bob/toy.py": B})
    pack("cy.zip", {"my work/fix.py": A})

    assert [who for who, *_ in found("everybody.zip", "cy.zip")] == ["ada", "bob", "cy"]


def test_nobody_is_lost_beside_a_file_that_is_named_for_its_puzzle() -> None:
    put({"in/toy.py": A, "in/ada.py": B, "out/toy.py": A, "out/bob/toy.py": B})

    assert found("in", "out") == [
        *(("ada", "0badcafe", B), ("toy", "0badcafe", A)),
        *(("bob", "0badcafe", B), ("toy", "0badcafe", A)),
    ]


def test_a_zip_may_lie_in_its_candidates_folder() -> None:
    pack("in/ada/my.zip", {"toy.py": A})
    put({"in/ada/letter.txt": "", "in/bob/toy.py": B})
    names = read_names(listed("file,name\nada,Ada L.\n"))

    assert [each[0::2] for each in found("in", names=names)] == [("Ada L.", A), ("bob", B)]


def test_a_card_beats_a_name_and_a_name_a_guess() -> None:
    put({"x/puzzle.toml": card("00facade"), "x/renamed.py": A, "y/sampler.py": B})

    assert found("x/renamed.py", "x", "y", puzzles=TWO) == [
        ("renamed", "00facade", A),
        ("x", "00facade", A),
        ("y", "00facade", B),
    ]


def test_two_puzzles_with_one_file_name_are_told_apart_by_the_card_alone() -> None:
    twin = replace(TOY, id="00facade")
    put({"x/puzzle.toml": card("00facade"), "x/toy.py": A, "ada.py": B, "y/toy.py": B})

    assert found("x", puzzles=(TOY, twin)) == [("x", "00facade", A)]
    assert "y/toy.py is no file that was asked for: toy.py" in problem("y", puzzles=(TOY, twin))


def test_puzzle_folders_that_bear_their_candidates_names() -> None:
    for who, text in (("ada", A), ("bob", B)):
        store.write_puzzle(Path("in") / who, TOY, handmade.answer())
        put({f"in/{who}/toy.py": text})
    pack("in.zip", {f"{who}/{name}": "x=1\n" for who in "cd" for name in ("toy.py", "puzzle.toml")})

    assert found("in") == [("ada", "0badcafe", A), ("bob", "0badcafe", B)]
    assert [who for who, *_ in found("in.zip")] == ["c", "d"]


def test_a_puzzle_folder_without_its_file_is_told() -> None:
    put({"in/ada/puzzle.toml": card("0badcafe"), "in/bob.py": B})

    assert found("in")[0] == ("ada", "0badcafe", "! in/ada does not hold toy.py")


def test_the_puzzle_of_another_pack_is_refused() -> None:
    put({"x/puzzle.toml": card("feedface"), "x/toy.py": A})

    assert problem("x") == "x is of another puzzle: feedface"
    assert problem("x/toy.py") == "x/toy.py is of another puzzle: feedface"


def test_a_damaged_card_is_as_good_as_none() -> None:
    put({"x/puzzle.toml": b"\xff\x00", "x/toy.py": A, "y/puzzle.toml": "id = 7", "y/toy.py": A})

    assert [who for who, *_ in found("x", "y")] == ["x", "y"]


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ({"in/ada/one.py": A, "in/ada/two.py": B}, "in/ada holds several files for one puzzle"),
        ({"in/ada/x/toy.py": A, "in/ada/y/toy.py": B}, "one puzzle: x/toy.py, y/toy.py"),
        ({"in/ada/notes.md": "#"}, "in/ada holds no file that was asked for: toy.py"),
        ({"in/ada.docx": "x"}, "in/ada.docx is no Python file (.py), folder or zip"),
        ({"in/ada.py": b"\x7fELF\0\0"}, "in/ada.py holds a NUL byte: it is not Python source"),
        ({"in/ada.py": b"x = '\xff'"}, "in/ada.py is not UTF-8 text"),
        ({"in/ada.py": "\n"}, "in/ada.py is empty"),
        ({"in/ada.py": "#" * (256 << 10) + "\n"}, "in/ada.py is larger than 256 KiB"),
        ({"in/ada.zip": b"PK\x03\x04 cut"}, "in/ada.zip is not opened: the zip is damaged"),
        ({"in/ada.zip": "no zip"}, "in/ada.zip is not opened: it is no zip file"),
    ],
    ids=[
        "several",
        "twice",
        "none",
        "kind",
        "binary",
        "latin-1",
        "empty",
        "large",
        "cut",
        "no zip",
    ],
)
def test_what_cannot_be_judged_is_one_sentence_and_the_rest_goes_on(
    texts: Texts, sentence: str
) -> None:
    put({**texts, "in/bob.py": B})

    ada, bob = handed_in("in")

    assert (ada.candidate, ada.puzzle, ada.source) == ("ada", "0badcafe", None)
    assert sentence in ada.problem
    assert bob.source == B


def test_the_same_text_twice_is_no_riddle() -> None:
    put({"in/ada/one/toy.py": A, "in/ada/two/toy.py": A})

    assert found("in") == [("ada", "0badcafe", A)]


def test_a_zip_bomb_is_bounded() -> None:
    pack("in/ada.zip", {"toy.py": b"#" * (17 << 20)})
    pack("in/bob.zip", {f"{n}.py": b"#" * (15 << 20) for n in range(5)})

    ada, bob = handed_in("in")

    assert "too large when unpacked" in ada.problem
    assert "unpacks to more than" in bob.problem


@pytest.mark.parametrize("name", ["../toy.py", "/toy.py", "a\\toy.py", "C:toy.py"])
def test_a_zip_with_a_name_that_leads_elsewhere_is_not_opened(name: str) -> None:
    pack("ada.zip", {name: A})

    assert "ada.zip is not opened: a name in the zip" in problem("ada.zip")


def test_a_zip_within_a_zip_is_not_opened() -> None:
    pack("cy.zip", {"toy.py": A})
    pack("in.zip", {"ada.py": A, "bob.py": B, "cy.zip": Path("cy.zip").read_bytes()})

    assert [text for *_, text in found("in.zip")] == [
        *(A, B),
        "! in.zip: cy.zip is no Python file (.py), folder or zip",
    ]


def test_links_are_not_followed(tmp_path: Path) -> None:
    put({"secret/toy.py": "SECRET = 1\n", "in/bob.py": B, "in/cy/notes.md": ""})
    pack("secret/s.zip", {"toy.py": "SECRET = 1\n"})
    Path("in/ada.py").symlink_to(tmp_path / "secret" / "toy.py")
    Path("in/ada.zip").symlink_to(tmp_path / "secret" / "s.zip")
    Path("in/cy/away").symlink_to(tmp_path / "secret", target_is_directory=True)
    Path("in/cy/toy.py").symlink_to(tmp_path / "secret" / "toy.py")
    Path("in/dora").symlink_to(tmp_path / "secret", target_is_directory=True)
    put({"in/eve/notes.md": ""})
    Path("in/eve/s.zip").symlink_to(tmp_path / "secret" / "s.zip")

    every = handed_in("in")

    assert [(each.candidate, each.source) for each in every] == [
        *(("ada", None), ("ada", None), ("bob", B), ("cy", None), ("dora", None)),
        ("eve", None),
    ]
    assert all("link" in each.problem for each in every[:-1] if each.source is None)


def test_a_loop_of_links_and_a_name_beyond_all_length_are_submissions_too() -> None:
    put({"in/bob.py": B})
    Path("in/ada.py").symlink_to("ada.py")
    endless = "x" * 300 + ".py"

    ada, bob, link, long = handed_in("in", "in/ada.py", endless)

    assert ("link" in ada.problem, "link" in link.problem, bob.source) == (True, True, B)
    assert "cannot be read: File name too long" in long.problem


def test_what_is_no_file_does_not_block() -> None:
    put({"in/bob.py": B})
    os.mkfifo("in/ada.py")

    ada, bob = handed_in("in")

    assert "is not a regular file" in ada.problem
    assert bob.source == B


def test_a_folder_without_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_ENTRIES", 10)
    put({f"in/ada/venv/{n}.py": A for n in range(20)})
    put({"in/bob/" + "x/" * 25 + "toy.py": A, "in/cy.py": B})

    ada, bob, cy = handed_in("in")

    assert "in/ada holds more than 10 files" in ada.problem
    assert "in/bob holds more than 10 files, or folders more than 20 deep" in bob.problem
    assert cy.source == B


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_one_sentence() -> None:
    put({"in/ada/toy.py": A, "in/bob.py": B})
    Path("in/ada").chmod(0)

    ada, bob = handed_in("in")

    assert ada.problem == "in/ada cannot be read: Permission denied"
    assert bob.source == B


def test_what_nobody_wrote_is_passed_over() -> None:
    put({f"in/{name}": "x" for name in (".DS_Store", "__pycache__/a.pyc", "test_visible.py")})
    put({"in/ada/toy.py": A, "in/ada/.git/toy.py": B, "in/ada/__pycache__/toy.py": B})
    pack("bob.zip", {"toy.py": A, "__MACOSX/._toy.py": "x", ".hidden/toy.py": B})

    assert found("in", "bob.zip") == [("ada", "0badcafe", A), ("bob", "0badcafe", A)]


def test_a_path_that_is_not_there_is_a_submission_too() -> None:
    put({"bob.py": B})

    none, bob = handed_in("none.py", "bob.py")

    assert (none.candidate, none.problem) == ("none", "none.py does not exist")
    assert bob.source == B


def test_an_empty_folder_is_told() -> None:
    Path("in").mkdir()

    assert problem("in") == "in holds nothing to judge"


def test_the_same_path_twice_is_one_submission() -> None:
    put({"ada.py": A})

    assert len(handed_in("ada.py", "ada.py")) == 1


def test_names_from_elsewhere_cannot_steer_a_terminal() -> None:
    put({"in/a\x1b[31m\nb.py": A, "in/\udcff.py": A})

    every = handed_in("in")

    assert all((e.candidate + e.where + e.problem).isprintable() for e in every)
    assert [each.source for each in every] == [A, A]


# Names


def listed(text: str | bytes) -> Path:
    put({"names.csv": text})
    return Path("names.csv")


def test_a_list_says_who_handed_in_what() -> None:
    put({"in/s1.py": A, "in/s2/toy.py": A, "in/s4/toy.py": A, "in/names.csv": "x"})
    pack("in/s3.zip", {"toy.py": B})
    path = listed("name,group,file\nAda L.,1,s1.py\nBob,1,in/s2\nCy,2,in\\s3.zip\nNo,2,s9.py\n")

    names = read_names(path)
    who = [each[0] for each in found("in", names=names, leave_out=[Path("in/names.csv")])]

    assert who == ["Ada L.", "Bob", "Cy", "s4"]
    assert names.unused == ("s9.py",)


def test_the_file_itself_says_more_than_its_folder() -> None:
    put({"in/s1/toy.py": A})
    names = read_names(listed("file,name\ns1,The folder\ns1/toy.py,The file\n"))

    assert found("in", names=names)[0][0] == "The file"


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbffile,name\r\nada.py,\xc3\x84da\r\n",
        "File ; Name\nada.py;Äda\n",
        "file\tname\n\nada.py\tÄda\n",
        'file,name\n"ada.py","Äda"\n,\n',
    ],
    ids=["as Excel writes it", "semicolons", "tabs", "quotes"],
)
def test_tables_as_people_write_them(text: str | bytes) -> None:
    put({"ada.py": A})

    assert found("ada.py", names=read_names(listed(text)))[0][0] == "Äda"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must begin with a row that names its columns: file,name"),
        ("ada.py,Ada\n", "must begin with a row that names its columns"),
        ("file,name,name\n", "must begin with a row that names its columns"),
        ("file,name\nada.py\n", "names.csv:2: a row needs a file and a name"),
        ("file,name\na.py,Ada\n./a.py,Bob\n", "names.csv:3: ./a.py has another name already"),
        ('file,name\n"a.py,Ada\n', "names.csv:2: unexpected end of data"),
        (b"\xff\xfe", "names.csv is no table of names"),
    ],
    ids=["empty", "no head", "two names", "short", "twice", "torn", "binary"],
)
def test_a_list_that_is_none_is_one_sentence(text: str | bytes, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_names(listed(text))

    assert sentence in str(refused.value)


def test_no_list_is_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"none\.csv cannot be read: no such file"):
        read_names(Path("none.csv"))
