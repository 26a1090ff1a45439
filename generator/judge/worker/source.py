"""The submission's text becomes a module."""

from __future__ import annotations

import linecache
import sys
import traceback
import types
from collections.abc import Iterator

from .frames import Json

MAX_MESSAGE = 2000
_FRAMES_SHOWN = 6


def load(name: str, source: str) -> types.ModuleType:
    """Execute the text as the module `name`. Raises whatever it raises."""
    module = types.ModuleType(name)
    file_name = f"{name}.py"
    module.__file__ = file_name
    sys.modules[name] = module
    linecache.cache[file_name] = (len(source), None, source.splitlines(True), file_name)
    code = compile(source, file_name, "exec", dont_inherit=True)
    exec(code, module.__dict__)
    return module


def load_failure(error: BaseException, file_name: str) -> Json:
    """Describe why the text does not load."""
    if isinstance(error, SyntaxError):
        line, message = error.lineno, error.msg
    else:
        lines = [number for _, number in _frames(error, file_name)]
        line, message = (lines[-1] if lines else None), text_of(error)
    absent = error.name if isinstance(error, ModuleNotFoundError) else None
    return {
        "error": type(error).__name__,
        "message": message,
        "line": line if isinstance(line, int) else None,
        "absent": absent,
    }


def text_of(error: BaseException) -> str:
    """Return the message of an exception, whatever its class does."""
    try:
        return str(error)[:MAX_MESSAGE]
    except Exception:
        return ""


def trace(error: BaseException, file_name: str) -> str:
    """Return the last frames of the submission that the exception went through."""
    frames = list(_frames(error, file_name))[-_FRAMES_SHOWN:]
    return "".join(traceback.StackSummary.extract(iter(frames)).format())


def _frames(error: BaseException, file_name: str) -> Iterator[tuple[types.FrameType, int]]:
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == file_name:
            yield frame, line
