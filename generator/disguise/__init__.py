"""Rewrite a correct file without changing what it does, so that a puzzle cannot be compared with
the file it was made from.

Names of local variables and private helpers, the order of functions, idioms and phrases of
docstrings vary with the seed; whatever a caller or a test can see stays.
"""

from __future__ import annotations

import re
from dataclasses import replace

import libcst as cst

from ..records import Subject, digest
from . import layout
from .draws import Draws
from .facts import Facts
from .renaming import draw_renames
from .rewriter import Rewriter


def disguise(subject: Subject, seed: int) -> Subject:
    """Return the subject with its file rewritten; the same subject and seed give the same bytes.

    Raises EnvironmentFault where ruff does not run.
    """
    tests = frozenset(re.findall(r"\w+", subject.visible_tests + subject.hidden_tests))
    return replace(subject, source=disguise_text(subject.source, seed, elsewhere=tests))


def disguise_text(text: str, seed: int, *, elsewhere: frozenset[str] = frozenset()) -> str:
    """Return a file rewritten; private names that stand `elsewhere` are kept."""
    facts = Facts.of(text)
    draws = Draws(seed, digest(text))
    module = cst.parse_module(text)
    width = layout.width_of(text)
    laid_out = layout.formatted(text) == text
    no_longer: frozenset[str] = frozenset()
    while True:
        renames = draw_renames(facts, draws, elsewhere=elsewhere, no_longer=no_longer, width=width)
        changed = module.visit(Rewriter(module, facts, draws, renames, width=width)).code
        changed = layout.formatted(changed) if laid_out else changed
        long_lines = "\n".join(layout.too_long(changed, width))
        culprits = renames.behind(frozenset(re.findall(r"\w+", long_lines)))
        if culprits <= no_longer:
            return changed
        no_longer |= culprits
