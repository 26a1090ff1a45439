"""Read a submission: once, as bytes that are checked before anyone else sees them."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from ..errors import InvalidSubmission

MAX_BYTES = 256 << 10
MAX_LINES = 5000


def read_submission(path: Path) -> str:
    """Return the text of a submitted file.

    Raises InvalidSubmission if it is missing, not a regular file (a link is none), or holds what
    `submission_text` refuses.
    """
    return submission_text(submission_bytes(path), str(path))


def submission_text(content: bytes, name: str) -> str:
    """Return the text that these bytes are.

    Raises InvalidSubmission if they are empty, more than 256 KiB, more than 5000 lines, not UTF-8,
    or hold a NUL byte.
    """
    if len(content) > MAX_BYTES:
        raise InvalidSubmission(f"{name} is larger than {MAX_BYTES >> 10} KiB")
    if b"\0" in content:
        raise InvalidSubmission(f"{name} holds a NUL byte: it is not Python source")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidSubmission(f"{name} is not UTF-8 text (byte {error.start})") from None
    if not text.strip():
        raise InvalidSubmission(f"{name} is empty")
    if len(text.splitlines()) > MAX_LINES:
        raise InvalidSubmission(f"{name} has more than {MAX_LINES} lines")
    return text


def submission_bytes(path: Path) -> bytes:
    """Return the bytes of a submitted file, at most one more than it may have.

    Raises InvalidSubmission if it is missing or not a regular file: a link is not followed, a FIFO
    does not block.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InvalidSubmission(f"{path} does not exist") from None
    except OSError as error:
        why = "it is a link" if error.errno == errno.ELOOP else (error.strerror or "")
        raise InvalidSubmission(f"{path} cannot be read: {why}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidSubmission(f"{path} is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
