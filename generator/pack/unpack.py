"""Unpack a zip of a week: whole or not at all, and never over anyone's work."""

from __future__ import annotations

from pathlib import Path

from .. import files
from ..errors import UsageError
from .opened import open_zip


def unpack(path: Path, to: Path) -> tuple[Path, bool]:
    """Write the folder that lies in a zip below `to`; return it, and False if it was there already.

    Raises as `open_zip` and `files.write_folder` do, and UsageError for a folder that is not empty
    and holds anything else.
    """
    opened = open_zip(path)
    folder = to / opened.folder
    with files.explained(folder):
        empty = not (folder.exists() or folder.is_symlink()) or _is_empty(folder)
    if empty:
        files.write_folder(folder, opened.files)
        return folder, True
    if all(files.holds(folder / name, data) for name, data in opened.files.items()):
        return folder, False
    raise UsageError(f"{folder} is there and holds something else; choose another place with --to")


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
