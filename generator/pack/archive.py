"""Zips: ours the same bytes everywhere, anyone's read in memory without trusting a word of them."""

from __future__ import annotations

import io
import re
import stat
import unicodedata
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from .. import files

_MIB = 1024 * 1024
_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
_IN_THE_DIRECTORY = b"PK\x01\x02"
_LOCAL_HEADER = 30
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_READABLE = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_LONGEST_PART = 255
_LONGEST_NAME = 1024
_DEEPEST = 20
_JOINERS = "\u200c\u200d"
"""Invisible, and needed to write some languages: allowed, and no difference between two names."""
_DRIVE = re.compile(r"[A-Za-z]:")


class BadArchive(ValueError):
    """A zip that is not unpacked, and why: one sentence without the zip's own name."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a stranger's zip is read; sizes in bytes, unpacked but for `archive`."""

    entries: int = 500
    each: int = 16 * _MIB
    total: int = 64 * _MIB
    archive: int = 64 * _MIB


PACK = Limits()
"""Far above what a pack of ten puzzles needs."""


def zip_bytes(contents: Mapping[str, bytes]) -> bytes:
    """Return a zip of the files, by name: a pure function of them, whatever Python and zlib.

    Raises BadArchive for names that `read_zip` would refuse.
    """
    _refuse_names(contents)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = _UNIX
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, contents[name])
    return buffer.getvalue()


def read_zip(data: bytes | Path, limits: Limits = PACK) -> dict[str, bytes]:
    """Return the files of a zip by their names, which are safe to write below any folder.

    Nothing is written, and no more is held than the limits say, whatever the headers claim.
    Raises BadArchive for everything else.
    """
    content = _loaded(data, limits)
    with _opened(content) as archive:
        entries = archive.infolist()
        for entry in entries:
            _refuse_kind(entry)
        _refuse_names(entry.filename for entry in entries)
        _refuse_overlap(entries, archive.start_dir)
        return _contents(archive, [entry for entry in entries if not entry.is_dir()], limits)


def _loaded(data: bytes | Path, limits: Limits) -> bytes:
    if isinstance(data, Path):
        try:
            data = files.read_at_most(data, limits.archive)
        except OSError as error:
            raise BadArchive(f"it cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise BadArchive(f"it is {error}") from error
    if len(data) > limits.archive:
        raise BadArchive(f"it is larger than {limits.archive} bytes")
    if not data.startswith(_STARTS):
        raise BadArchive("it is no zip file")
    # Each entry that zipfile would build has this mark: counted before anything is built.
    if data.count(_IN_THE_DIRECTORY) > limits.entries:
        raise BadArchive(f"the zip holds more than {limits.entries} entries")
    return data


def _opened(data: bytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except Exception as error:  # hostile bytes make zipfile raise nearly anything
        _damaged(error)


def _contents(
    archive: zipfile.ZipFile, entries: Iterable[zipfile.ZipInfo], limits: Limits
) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    left = limits.total
    for entry in entries:
        most = min(limits.each, left)
        try:
            with archive.open(entry) as file:
                data = file.read(most + 1)
        except Exception as error:  # as above
            _damaged(error)
        if len(data) > limits.each:
            raise BadArchive(f"{_shown(entry.filename)} in the zip is too large when unpacked")
        if len(data) > left:
            raise BadArchive(f"the zip unpacks to more than {limits.total} bytes")
        contents[entry.filename] = data
        left -= len(data)
    return contents


def _damaged(error: Exception) -> NoReturn:
    why = " ".join(str(error).split())[:200] or type(error).__name__
    raise BadArchive(f"the zip is damaged or cut short ({why})") from error


def _refuse_kind(entry: zipfile.ZipInfo) -> None:
    name = _shown(entry.filename)
    # zipfile cuts a name at a NUL, and newer ones take another name from an extra field.
    if why := _problem(entry.orig_filename) or _problem(entry.filename):
        raise BadArchive(f"a name in the zip {why}: {_shown(entry.orig_filename)}")
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadArchive(f"{name} in the zip is a link or a device")
    if entry.flag_bits & _ENCRYPTED:
        raise BadArchive(f"{name} in the zip is encrypted")
    if entry.compress_type not in _READABLE:
        raise BadArchive(f"{name} in the zip is compressed in a way that is not read here")


def _refuse_names(names: Iterable[str]) -> None:
    """Refuse names that a file system cannot keep apart, or that are no safe names."""
    spelt: dict[str, str] = {}
    seen: dict[str, str] = {}
    for name in names:
        if why := _problem(name):
            raise BadArchive(f"a name in the zip {why}: {_shown(name)}")
        parts = name.removesuffix("/").split("/")
        for upto in range(1, len(parts) + 1):
            path = "/".join(parts[:upto])
            if spelt.setdefault(_fold(path), path) != path:
                _clash(spelt[_fold(path)], path)
        whole = _fold("/".join(parts))
        if whole in seen:
            _clash(seen[whole], name)
        seen[whole] = name
    for name in seen.values():
        for upto in (at for at, letter in enumerate(name.removesuffix("/")) if letter == "/"):
            above = seen.get(_fold(name[:upto]), "/")
            if not above.endswith("/"):
                raise BadArchive(f"{_shown(above)} in the zip is both a file and a folder")


def _clash(one: str, other: str) -> NoReturn:
    raise BadArchive(
        f"two names in the zip are one name on some machines: {_shown(one)} and {_shown(other)}"
    )


def _fold(name: str) -> str:
    bare = name.translate(dict.fromkeys(map(ord, _JOINERS)))
    folded = unicodedata.normalize("NFKC", bare).casefold()
    return unicodedata.normalize("NFKC", folded).casefold()


def _problem(name: str) -> str:
    """Say why a name is not safe to write below a folder; empty where it is."""
    if any(_unprintable(letter) for letter in name):
        return "holds a control character"
    if "\\" in name:
        return "holds a backslash"
    if name.startswith("/") or _DRIVE.match(name):
        return "is absolute"
    if ":" in name:
        return "holds a colon"
    parts = name.removesuffix("/").split("/")
    if ".." in parts:
        return "leads out of the folder"
    if "" in parts or "." in parts:
        return "has an empty part"
    if any(part.endswith((".", " ")) for part in parts):
        return "ends in a dot or a space"
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return "is no Unicode text"
    if max(sizes) > _LONGEST_PART or sum(sizes) + len(sizes) > _LONGEST_NAME:
        return "is too long"
    if len(parts) > _DEEPEST:
        return "is nested too deeply"
    return ""


def _unprintable(letter: str) -> bool:
    return letter not in _JOINERS and unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _refuse_overlap(entries: Iterable[zipfile.ZipInfo], end: int) -> None:
    """Refuse entries that share bytes: a small zip that unpacks to a huge one."""
    free = 0
    for entry in sorted(entries, key=lambda each: each.header_offset):
        if entry.header_offset < free:
            raise BadArchive(f"{_shown(entry.filename)} in the zip overlaps another entry")
        free = entry.header_offset + _LOCAL_HEADER + entry.compress_size
    if free > end:
        raise BadArchive("the zip is damaged or cut short (an entry runs into the directory)")


def _shown(name: str) -> str:
    shown = ascii(name) if any(_unprintable(letter) for letter in name) else repr(name)
    return shown if len(shown) <= 100 else f"{shown[:96]}...{shown[0]}"
