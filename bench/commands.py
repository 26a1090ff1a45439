"""What `new` and `check` cost beside importing torch: whole processes, in turn, in one run.

`check, warm` finds a judge that an earlier one left waiting.

    python bench/commands.py [ROUNDS]

Prints the median seconds of each and their ratio to `python -c "import torch"`.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

STARTER = Path(__file__).resolve().parent.parent / "puzzles" / "starter"
HALFHOUR = [sys.executable, "-m", "halfhour.generator"]


def seconds(command: list[str], *, home: Path, cwd: Path, warm_minutes: float = 0) -> float:
    """Run a command to its end; 0 and 1 are good ends."""
    stay = {"HALFHOUR_WARM_MINUTES": str(warm_minutes)}
    environment = {**os.environ, **stay, "HALFHOUR_HOME": str(home)}
    begun = time.perf_counter()
    run = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, check=False)
    if run.returncode not in (0, 1):
        sys.exit(run.stderr.decode())
    return time.perf_counter() - begun


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        desk = Path(folder)
        puzzle = shutil.copytree(sorted(STARTER.iterdir())[0], desk / "puzzle")
        new = [*HALFHOUR, "new", "--seed", "7"]

        def fresh() -> float:
            home = desk / f"home{time.monotonic_ns()}"
            return seconds([*new, "--out", str(home / "mine")], home=home, cwd=desk)

        def proven() -> float:
            out = desk / f"out{time.monotonic_ns()}"
            return seconds([*new, "--out", str(out)], home=desk / "home", cwd=desk)

        measured: dict[str, Callable[[], float]] = {
            "import torch": lambda: seconds(
                [sys.executable, "-c", "import torch"], home=desk, cwd=desk
            ),
            "check": lambda: seconds(
                [*HALFHOUR, "check", str(puzzle)], home=desk / "home", cwd=desk
            ),
            "check, warm": lambda: seconds(
                [*HALFHOUR, "check", str(puzzle)], home=desk / "home", cwd=desk, warm_minutes=1
            ),
            "new, nothing proven": fresh,
            "new, proven before": proven,
        }
        times: dict[str, list[float]] = {name: [] for name in measured}
        for warm_up_or_round in range(rounds + 1):
            for name, measure in measured.items():
                taken = measure()
                if warm_up_or_round:
                    times[name].append(taken)
    unit = statistics.median(times["import torch"])
    for name, taken_all in times.items():
        median = statistics.median(taken_all)
        print(f"{name:<20} {median:6.2f} s   {median / unit:5.2f} x import torch")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
