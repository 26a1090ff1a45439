"""What a linter says of a file: a mutant that makes it speak would be found without reading."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from functools import lru_cache

from .errors import EnvironmentFault

RULES = "E,F,W,A,ARG,B,C4,ERA,FURB,ISC,NPY,PERF,PIE,PLE,PLW,PT,RET,RUF,SIM,TRY,UP,PLR0124,PLR0133"
"""What a strict team might run; magic-number and complexity rules say nothing about a bug."""


_WIDTH = 100
"""How long a line may be; longer if the original has a longer one."""


@lru_cache(maxsize=256)
def findings(source: str, width: int = _WIDTH) -> Counter[tuple[str, str]]:
    """Count ruff's findings as (rule, message), wherever they stand in the file.

    Raises EnvironmentFault where ruff is missing or fails.
    """
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--quiet"]
    command += ["--exit-zero", "--output-format=json", "--target-version=py311"]
    command += [f"--line-length={width}", f"--select={RULES}", "--stdin-filename=subject.py", "-"]
    run = subprocess.run(
        command, input=source, capture_output=True, text=True, encoding="utf-8", check=False
    )
    if run.returncode != 0:
        last = (run.stderr.strip() or "no message").splitlines()[-1]
        raise EnvironmentFault(
            f"ruff does not run here ({last}); install it with: pip install ruff"
        )
    return Counter((str(item["code"]), str(item["message"])) for item in json.loads(run.stdout))


def new_findings(original: str, mutant: str) -> list[str]:
    """Return what ruff says of the mutant and not of the original, as `RULE message`."""
    width = max(_WIDTH, *(len(line) for line in original.splitlines()))
    extra = findings(mutant, width) - findings(original, width)
    return sorted(f"{rule} {message}" for rule, message in extra)
