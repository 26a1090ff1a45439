"""Who handed in what, from a table: the publisher's list of files and names."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from .. import files
from ..errors import UsageError

_MOST_BYTES = 8 * 1024 * 1024
_COLUMNS = ("file", "name")
_SEPARATORS = ",;\t"


class Names:
    """The list; knows which of its rows were of use."""

    def __init__(self, rows: Mapping[str, str] | None = None) -> None:
        self._rows = dict(rows or {})
        self._used: set[str] = set()

    def of(self, *paths: Sequence[str]) -> str | None:
        """Return who handed it in: the row that says most of the first of these paths counts.

        A row may give a path's last name or names: `ada.zip`, `inbox/ada.zip`.
        """
        for path in paths:
            for start in range(len(path)):
                key = _key("/".join(path[start:]))
                if key in self._rows:
                    self._used.add(key)
                    return self._rows[key]
        return None

    @property
    def unused(self) -> tuple[str, ...]:
        """The files that were not handed in."""
        return tuple(file for file in self._rows if file not in self._used)


def read_names(path: Path) -> Names:
    """Return the list in a CSV file whose first row names the columns `file` and `name`.

    Raises UsageError for anything else, and for a file with two names.
    """
    try:
        text = files.read_at_most(path, _MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is no table of names: {error}") from error
    rows: dict[str, str] = {}
    for line, file, name in _rows(path, text.splitlines()):
        if rows.setdefault(_key(file), name) != name:
            raise UsageError(f"{path}:{line}: {file} has another name already")
    return Names(rows)


def _rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    head, *_ = [*lines, ""]
    separator = max(_SEPARATORS, key=head.count)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    try:
        titles = [title.strip().casefold() for title in next(reader, [])]
        if any(titles.count(column) != 1 for column in _COLUMNS):
            raise UsageError(f"{path} must begin with a row that names its columns: file,name")
        of_file, of_name = (titles.index(column) for column in _COLUMNS)
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) <= max(of_file, of_name) or not row[of_file].strip():
                raise UsageError(f"{path}:{reader.line_num}: a row needs a file and a name")
            if row[of_name].strip():
                yield reader.line_num, row[of_file].strip(), row[of_name].strip()
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num}: {error}") from error


def _key(file: str) -> str:
    parts = unicodedata.normalize("NFC", file).replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))
