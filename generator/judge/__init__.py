"""The judge: one file against its promises, in another process.

    caller    `Judge` (client.py) ── trial ──►  court     trusted; runs the promises with pytest
    court     `subject`, a proxy  ── calls ──►  worker    untrusted; holds the file, no promise

The worker can only return values, and a wrong value breaks a promise: exit codes, output and files
are never evidence. Nothing is pickled. Every wait has a deadline, and no process is left behind.
"""

from .client import Judge
from .intake import read_submission
from .limits import INTERVIEW, PRACTICE, Limits
from .rungs import Rung

__all__ = ["INTERVIEW", "PRACTICE", "Judge", "Limits", "Rung", "read_submission"]
