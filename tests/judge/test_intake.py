"""What is accepted as a submitted file, and the sentence for what is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from halfhour.generator.errors import InvalidSubmission
from halfhour.generator.judge import read_submission
from halfhour.generator.judge.plain import plain


def test_a_text_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "kit.py"
    path.write_bytes("\ufeffname = 'größe'\r\n".encode())

    assert read_submission(path) == "name = 'größe'\r\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b" \n\n", "is empty", id="blank"),
        pytest.param(b"x = '\xff'\n", "is not UTF-8 text (byte 5)", id="latin-1"),
        pytest.param(b"x = 1\0\n", "holds a NUL byte", id="NUL"),
        pytest.param(b"#" * (256 << 10) + b"\n", "is larger than 256 KiB", id="large"),
        pytest.param(b"#\n" * 5001, "has more than 5000 lines", id="long"),
    ],
)
def test_what_is_no_source_is_invalid(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "kit.py"
    path.write_bytes(content)

    with pytest.raises(InvalidSubmission) as refused:
        read_submission(path)

    assert sentence in str(refused.value)
    assert str(path) in str(refused.value)


def test_the_largest_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "kit.py"
    path.write_bytes(b"#" * (256 << 10))

    assert len(read_submission(path)) == 256 << 10


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    real = tmp_path / "real.py"
    real.write_text("x = 1\n")
    (tmp_path / "link.py").symlink_to(real)
    os.mkfifo(tmp_path / "pipe.py")
    for name, sentence in {
        "absent.py": "does not exist",
        "link.py": "it is a link",
        "pipe.py": "is not a regular file",
        ".": "is not a regular file",
        "real.py/kit.py": "cannot be read",
    }.items():
        with pytest.raises(InvalidSubmission, match=sentence):
            read_submission(tmp_path / name)


def test_text_from_elsewhere_cannot_steer_a_terminal_or_a_reader() -> None:
    assert plain("a\x1b[31m\u202eb\x00\n\u2028", limit=99) == r"a\x1b[31m\u202eb\x00\n\u2028"
    assert plain("one\n\ttwo\r", limit=99, lines=True) == "one\n\ttwo\\r"
    assert plain("größe ✓", limit=99) == "größe ✓"
    assert plain("\ud800", limit=99) == "\\ud800"
    assert plain("abcdef", limit=4) == "abc…"
