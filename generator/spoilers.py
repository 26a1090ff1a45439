"""Tell what a text gives away of a bug.

Told is a *name of the changed line*: a name that the lines which differ hold, in code, on either
side of the change. Names that a caller has to write anyway (public functions, classes, their
parameters and fields) are left out, and so are those of libraries, which this file does not give.
"""

from __future__ import annotations

import ast
import io
import keyword
import re
import tokenize
from collections.abc import Iterable
from functools import lru_cache

from .anatomy import Anatomy

_WORD = re.compile(r"[A-Za-z_]\w*")
_IN_CODE = re.compile(r"`([^`\n]+)`")
_LONG_ENOUGH = 2
"""A single letter names a shape in every text."""


def changed_lines(diff: str) -> list[str]:
    """Return the lines that a unified diff takes or adds, without indentation."""
    body = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    return [line[1:].strip() for line in body if line.startswith(("-", "+"))]


def names_in(lines: Iterable[str]) -> frozenset[str]:
    """Return the names in pieces of code; what stands in strings and comments is none."""
    found: set[str] = set()
    for line in lines:
        try:
            for token in tokenize.generate_tokens(io.StringIO(line).readline):
                if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                    found.add(token.string)
        except (tokenize.TokenError, SyntaxError):
            continue  # a line of a longer statement; what came before its end was taken
    return frozenset(found)


@lru_cache(maxsize=16)
def secret_names(diff: str, original: str) -> frozenset[str]:
    """Return the names of the changed line that no caller of the file has to write."""
    file = Anatomy(original)
    names = names_in(changed_lines(diff)) & file.bound
    return frozenset(n for n in names - file.public_words if len(n) >= _LONG_ENOUGH)


def told(prose: str, names: Iterable[str]) -> list[str]:
    """Return which of the names a text tells.

    Between backticks every name counts. Elsewhere a name counts if it is no word of English: it
    holds an underscore, a digit or a capital within.
    """
    in_code = {word for code in _IN_CODE.findall(prose) for word in _WORD.findall(code)}
    words = set(_WORD.findall(prose))
    return sorted(n for n in set(names) if n in in_code or (n in words and _is_code(n)))


def told_by_script(script: str, names: Iterable[str]) -> list[str]:
    """Return which of the names a script tells; those that it gives itself are its own."""
    own = {
        node.id
        for node in ast.walk(ast.parse(script))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    return sorted(set(names) & names_in([script]) - own)


def _is_code(name: str) -> bool:
    return (
        "_" in name.strip("_")
        or name.startswith("_")
        or not name[1:].isalpha()
        or (name[1:] != name[1:].lower() and name != name.upper())
    )
