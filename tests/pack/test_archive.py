"""Zips: ours never change, and a stranger's does no harm."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halfhour.generator.pack.archive import BadArchive, Limits, read_zip, zip_bytes

FILES = {"week/b.py": b"x = 1\n", "week/a.md": "Größe\n".encode(), "week/empty": b""}
SMALL = Limits(entries=20, each=10_000, total=25_000, archive=100_000)


def made(*entries: tuple[str | zipfile.ZipInfo, bytes], deflate: bool = False) -> bytes:
    """A zip as any tool may write it."""
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def renamed(name: bytes) -> bytes:
    """A zip of one entry with a name that zipfile would not write."""
    stand_in = b"@" * len(name)
    return made((stand_in.decode(), b"x")).replace(stand_in, name)


def refusal(data: bytes | Path, limits: Limits = SMALL) -> str:
    with pytest.raises(BadArchive) as caught:
        read_zip(data, limits)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


# ours


def test_what_was_zipped_comes_out() -> None:
    assert read_zip(zip_bytes(FILES)) == FILES


def test_the_order_in_which_files_were_made_does_not_matter() -> None:
    assert zip_bytes(FILES) == zip_bytes(dict(reversed(FILES.items())))


def test_the_bytes_are_these_for_ever() -> None:
    """No clock, no owner, no zlib: a digest that an older and a newer Python must meet."""
    assert hashlib.sha256(zip_bytes(FILES)).hexdigest() == (
        "a51b20e3b8209fa121239c80eaf49f99197ade3f5a49c88f04065f4d75d11bae"
    )


def test_any_unzip_finds_plain_files_in_order() -> None:
    with zipfile.ZipFile(io.BytesIO(zip_bytes(FILES))) as archive:
        entries = archive.infolist()

    assert [entry.filename for entry in entries] == ["week/a.md", "week/b.py", "week/empty"]
    assert {entry.external_attr >> 16 for entry in entries} == {stat.S_IFREG | 0o644}
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}


def test_no_zip_of_ours_holds_a_name_that_would_be_refused() -> None:
    with pytest.raises(BadArchive, match="leads out of the folder"):
        zip_bytes({"../x": b""})


# a stranger's, harmless


def test_a_zip_of_another_tool_is_read() -> None:
    data = made(("inbox/", b""), ("inbox/ada.py", b"x" * 500), deflate=True)

    assert read_zip(data, SMALL) == {"inbox/ada.py": b"x" * 500}


def test_a_zip_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(made(("a.py", b"x")))

    assert read_zip(tmp_path / "a.zip", SMALL) == {"a.py": b"x"}


def test_names_in_every_language_are_names() -> None:
    names = ["علی‌رضا.py", "Zoë.py", "李.py", "a b.py", ".hidden", "x..y"]

    assert list(read_zip(made(*((name, b"") for name in names)), SMALL)) == names


# a stranger's, refused


@pytest.mark.parametrize(
    ("name", "why"),
    [
        pytest.param("/etc/passwd", "is absolute", id="absolute"),
        pytest.param("C:/x.py", "is absolute", id="drive"),
        pytest.param("C:x.py", "is absolute", id="drive-relative"),
        pytest.param("a.py:stream", "holds a colon", id="stream"),
        pytest.param("..\\x.py", "holds a backslash", id="backslash"),
        pytest.param("../x.py", "leads out", id="parent"),
        pytest.param("a/../../x.py", "leads out", id="parent-inside"),
        pytest.param("a/..", "leads out", id="parent-last"),
        pytest.param("a//x.py", "has an empty part", id="empty"),
        pytest.param("./x.py", "has an empty part", id="here"),
        pytest.param("/", "is absolute", id="root"),
        pytest.param("x.py.", "ends in a dot or a space", id="dot"),
        pytest.param("a /x.py", "ends in a dot or a space", id="space"),
        pytest.param("a\nb.py", "control character", id="newline"),
        pytest.param("a\x1b[2Jb.py", "control character", id="escape"),
        pytest.param("a\u202eyp.exe", "control character", id="bidi"),
        pytest.param("a" * 256, "is too long", id="long-part"),
        pytest.param("/".join(["a" * 200] * 6), "is too long", id="long"),
        pytest.param("/".join("a" * 30), "is nested too deeply", id="deep"),
    ],
)
def test_a_name_that_is_not_safe_is_refused(name: str, why: str) -> None:
    sentence = refusal(made((name, b"x")))

    assert why in sentence
    assert sentence.isprintable()


def test_a_name_with_a_nul_is_refused() -> None:
    assert "control character" in refusal(renamed(b"a.py\0.txt"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("a.py", "A.py", id="case"),
        pytest.param("straße.py", "STRASSE.py", id="case-folding"),
        pytest.param("Zo\u00eb.py", "Zoe\u0308.py", id="NFC"),
        pytest.param("ﬁle.py", "file.py", id="NFKC"),
        pytest.param("a\u200cb.py", "ab.py", id="joiner"),
        pytest.param("Ada/x.py", "ada/y.py", id="folders"),
        pytest.param("a", "a/", id="file-and-folder"),
    ],
)
def test_two_names_that_are_one_on_some_machines_are_refused(one: str, other: str) -> None:
    assert "one name on some machines" in refusal(made((one, b"1"), (other, b"")))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_twice_is_refused() -> None:
    assert "one name on some machines" in refusal(made(("a.py", b"1"), ("a.py", b"2")))


def test_a_file_that_is_also_a_folder_is_refused() -> None:
    assert "both a file and a folder" in refusal(made(("a", b"1"), ("a/b.py", b"2")))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK])
def test_links_and_devices_are_refused(kind: int) -> None:
    entry = zipfile.ZipInfo("x.py")
    entry.create_system = 3
    entry.external_attr = (kind | 0o777) << 16

    assert refusal(made((entry, b"/etc/passwd"))) == "'x.py' in the zip is a link or a device"


def test_too_many_entries_are_refused_before_any_is_built() -> None:
    many = made(*((f"{n}.py", b"") for n in range(SMALL.entries + 1)))

    assert refusal(many) == "the zip holds more than 20 entries"


def test_a_file_that_is_too_large_is_refused() -> None:
    assert "is too large when unpacked" in refusal(made(("a.py", b"x" * 10_001)))


def test_files_that_are_too_large_together_are_refused() -> None:
    data = made(*((f"{n}.py", b"x" * 9_000) for n in range(3)))

    assert refusal(data) == "the zip unpacks to more than 25000 bytes"


def test_a_zip_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04" + bytes(SMALL.archive))

    assert refusal(tmp_path / "a.zip") == "it is larger than 100000 bytes"


def test_a_bomb_takes_no_more_memory_than_the_limits() -> None:
    bomb = made(("a.py", bytes(50_000_000)), deflate=True)
    assert len(bomb) < SMALL.archive

    tracemalloc.start()
    refusal(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 2_000_000


def test_a_bomb_whose_header_lies_is_refused() -> None:
    """The header says 10 bytes; zipfile stops there, and the checksum is another's."""
    size = 50_000_000
    bomb = made(("a.py", bytes(size)), deflate=True)
    lying = bomb.replace(struct.pack("<L", size), struct.pack("<L", 10))

    assert "damaged" in refusal(lying)


def test_entries_that_share_bytes_are_refused() -> None:
    """The directory names one entry's bytes twice, as the bombs without nesting do."""
    data = made(("a.py", b"x" * 500), ("b.py", b"x" * 500))
    second = data.index(b"PK\x03\x04", 4)
    directory = data.index(b"PK\x01\x02")
    assert data.count(struct.pack("<L", second), directory) == 1
    shared = data[:directory] + data[directory:].replace(
        struct.pack("<L", second), struct.pack("<L", 0)
    )

    assert refusal(shared) == "'b.py' in the zip overlaps another entry"


def test_an_encrypted_entry_is_refused() -> None:
    data = bytearray(made(("a.py", b"x")))
    data[data.index(b"PK\x01\x02") + 8] |= 1

    assert refusal(bytes(data)) == "'a.py' in the zip is encrypted"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 93, 99])
def test_an_unknown_compression_is_refused(method: int) -> None:
    data = bytearray(made(("a.py", b"x")))
    data[data.index(b"PK\x01\x02") + 10] = method

    assert "compressed in a way that is not read here" in refusal(bytes(data))


@pytest.mark.parametrize("keep", [0, 1, 10, 60, 150, -1])
def test_a_zip_that_is_cut_short_is_refused(keep: int) -> None:
    assert re.search("no zip file|damaged", refusal(made(("a.py", b"x" * 99))[:keep]))


@pytest.mark.parametrize("data", [b"", b"x = 1\n", b"MZ" + zip_bytes(FILES)])
def test_what_is_no_zip_is_refused(data: bytes) -> None:
    assert refusal(data) == "it is no zip file"


def test_a_changed_byte_is_noticed() -> None:
    data = made(("a.py", b"the very bytes"))

    assert "damaged" in refusal(data.replace(b"the very", b"the fery"))


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "it cannot be read" in refusal(tmp_path / "missing.zip")
    assert "it cannot be read" in refusal(tmp_path)


# whatever comes


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_damage_anywhere_ends_in_the_files_or_in_one_sentence(data: st.DataObject) -> None:
    deflate = data.draw(st.booleans())
    raw = bytearray(made(("a/x.py", b"x" * 300), ("a/b.txt", b"yz" * 40), deflate=deflate))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw))) :]
    try:
        contents = read_zip(bytes(raw), SMALL)
    except BadArchive as error:
        refused = str(error)
    else:
        refused = ""
        assert sum(map(len, contents.values())) <= SMALL.total
        assert not any(".." in name.split("/") or name.startswith("/") for name in contents)
    assert "\n" not in refused


@given(st.dictionaries(st.text(max_size=30), st.binary(max_size=50), max_size=8))
@settings(max_examples=200, deadline=None)
def test_whatever_names_are_read_can_be_written_below_a_folder(contents: dict[str, bytes]) -> None:
    try:
        names = read_zip(zip_bytes(contents), SMALL)
    except BadArchive:
        return
    inside = os.path.abspath("/folder")
    for name in names:
        assert os.path.normpath(os.path.join(inside, name)) == f"{inside}/{name}"
