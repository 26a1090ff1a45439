"""Write files whole or not at all, read them with a limit; knows nothing of puzzles."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import EnvironmentFault, UsageError


def read_at_most(path: Path, limit: int) -> bytes:
    """Return the bytes of a regular file. Raises ValueError where it holds more than `limit`."""
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"larger than {limit} bytes")
    return data


def holds(path: Path, data: bytes) -> bool:
    """Tell whether the file is there, can be read and holds exactly these bytes."""
    try:
        return read_at_most(path, len(data)) == data
    except (OSError, ValueError):
        return False


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a new or empty folder whole: beside it first, then moved; the last file moves last.

    A name may lead through folders, with `/` between them. On any exception, KeyboardInterrupt
    included, the disk is as it was. Raises UsageError where the place cannot be used,
    EnvironmentFault where the machine has no space.
    """
    folder = folder.resolve()
    with explained(folder), _parents(folder):
        beside = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.part"
        try:
            beside.mkdir()
            for name, data in files.items():
                (beside / name).parent.mkdir(parents=True, exist_ok=True)
                _write(beside / name, data)
            _move_in(beside, folder, list(dict.fromkeys(name.split("/")[0] for name in files)))
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        _settle(folder)


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write new files into a folder that may hold others, all of them or none; raises as
    `write_folder` does."""
    folder = folder.resolve()
    for name in files:
        if os.path.lexists(folder / name):
            raise UsageError(f"{folder / name} is there already; nothing was written")
    with explained(folder), _parents(folder / "below"):
        beside = folder / f".{secrets.token_hex(4)}.part"
        try:
            beside.mkdir()
            for name, data in files.items():
                _write(beside / name, data)
            _move_in(beside, folder, list(files))
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        _settle(folder)


def write_file(file: Path, data: bytes) -> None:
    """Write a new file whole, and the folders above it. Raises as `write_folder` does."""
    file = file.resolve()
    if os.path.lexists(file):
        raise UsageError(f"{file} is there already; nothing was written")
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    with explained(file), _parents(file):
        try:
            _write(beside, data)
            beside.rename(file)
        finally:
            with suppress(OSError):
                beside.unlink()


def replace_file(file: Path, data: bytes, *, keep_old_as: Path | None = None) -> None:
    """Write a file whole over what is there, which is first moved to `keep_old_as`.

    Raises as `write_folder` does.
    """
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    with explained(file):
        try:
            _write(beside, data)
            if keep_old_as is not None:
                file.rename(keep_old_as)
            beside.replace(file)
        except BaseException:
            if keep_old_as is not None and not os.path.lexists(file):
                keep_old_as.rename(file)
            raise
        finally:
            with suppress(OSError):
                beside.unlink()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError of a write into one sentence about the place that was asked for."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise EnvironmentFault(
                f"no space left to write {path}; free some and try again"
            ) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise UsageError(f"{path} may not be written to; choose another folder") from error
        if isinstance(error, NotADirectoryError | FileExistsError):
            raise UsageError(f"{path} cannot be a folder: a file is in the way") from error
        why = error.strerror or type(error).__name__
        raise EnvironmentFault(f"{path} cannot be written: {why}") from error


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _move_in(beside: Path, folder: Path, names: list[str]) -> None:
    """Rename the finished folder into place, or what is in it into the empty one that is there."""
    if not folder.exists():
        beside.rename(folder)
        return
    moved: list[Path] = []
    try:
        for name in names:
            moved.append(folder / name)
            (beside / name).rename(folder / name)
    except BaseException:
        for path in moved:
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
        raise


@contextmanager
def _parents(folder: Path) -> Iterator[None]:
    """Make the folders above; take away again those that were made if the body fails."""
    missing = [parent for parent in folder.parents if not parent.exists()]
    made: list[Path] = []
    try:
        for parent in reversed(missing):
            parent.mkdir(exist_ok=True)
            made.append(parent)
        yield
    except BaseException:
        with suppress(OSError):
            for parent in reversed(made):
                parent.rmdir()
        raise


def _settle(folder: Path) -> None:
    """Ask the disk to keep the new names; some file systems cannot be asked."""
    for place in (folder, folder.parent):
        with suppress(OSError):
            handle = os.open(place, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
