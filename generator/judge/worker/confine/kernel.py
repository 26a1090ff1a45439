"""The few libc functions that Python does not offer."""

from __future__ import annotations

import ctypes
import os


class Kernel:
    """Calls libc by name; a failure is an OSError. Tests hand in one that refuses."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.syscall.restype = ctypes.c_long

    def call(self, function: str, *arguments: int | bytes | None) -> int:
        """Call `function`; numbers go as longs, bytes as pointers to them. Raises OSError."""
        result = int(getattr(self._libc, function)(*map(_word, arguments)))
        if result == -1:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


def _word(value: int | bytes | None) -> ctypes.c_long | bytes | None:
    return ctypes.c_long(value) if isinstance(value, int) else value
