"""How strong the promises of the correct files are, against a general tool's mutations.

Every operator of cosmic-ray is applied everywhere in solutions/NAME/NAME.py; the hidden tests run
in this process's children. A mutant is killed when a promise breaks, when it does not load, or when
it runs out of time or memory. Survivors that were looked at lie in bench/survivors/NAME.toml, each
with its reason. The score is the killed ones' part of those that change what a file does. What only
changes the words of an error is counted and not run.

    python bench/mutation.py [NAME ...] [--jobs N] [--recheck] [--write] [--json]

`--write` brings the files of survivors up to date: new ones get an entry without a reason, and
entries that no longer hold go. `--recheck`, after promises were added, runs only the mutants that
have an entry and takes the others for killed. Exits with 1 where a survivor has no reason, an entry
is stale or the score is below 0.95.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))

from mutation_runs import Runner
from mutation_survivors import FOLDER, Reason, Survivor, read, write
from mutation_texts import Mutant, mutants

SOLUTIONS = Path(__file__).resolve().parent.parent / "solutions"
ENOUGH = 0.95


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the mutants of one file."""

    name: str
    n_mutants: int
    n_messages: int  # mutants that were not run
    survivors: tuple[tuple[Mutant, Survivor], ...]
    stale: tuple[Survivor, ...]  # entries that no survivor has
    seconds: float

    def count(self, reason: Reason) -> int:
        """Return how many mutants live on for a reason."""
        unheard = self.n_messages if reason is Reason.MESSAGE else 0
        return unheard + sum(entry.reason is reason for _, entry in self.survivors)

    @property
    def killed(self) -> int:
        return self.n_mutants - sum(map(self.count, Reason))

    @property
    def score(self) -> float:
        """Return the killed ones' part of those that change what the file does."""
        wanted = self.killed + self.count(Reason.UNEXPLAINED) + self.count(Reason.FREEDOM)
        return self.killed / wanted if wanted else 1.0

    @property
    def good(self) -> bool:
        return self.score >= ENOUGH and not self.count(Reason.UNEXPLAINED) and not self.stale


def examine(
    name: str,
    source: str,
    tests: str,
    *,
    entries: dict[tuple[str, str, int], Survivor],
    jobs: int,
    recheck: bool = False,
) -> Report:
    """Run the promises on every mutant of a text, given the survivors that are known."""
    begun = time.monotonic()
    every = mutants(source)
    heard = [mutant for mutant in every if not mutant.message_only]
    run = [mutant for mutant in heard if mutant.key in entries] if recheck else heard
    runner = Runner(name, source, tests)
    gc.freeze()  # what is here now need not be copied into any child
    found = runner.survivors(run, jobs=jobs, sure=frozenset(entries))
    alive = sorted(found, key=lambda mutant: (mutant.line, mutant.key))
    keys = {mutant.key for mutant in alive}
    return Report(
        name=name,
        n_mutants=len(every),
        n_messages=len(every) - len(heard),
        survivors=tuple((m, entries.get(m.key) or Survivor.of(m)) for m in alive),
        stale=tuple(entry for key, entry in entries.items() if key not in keys),
        seconds=time.monotonic() - begun,
    )


def examine_subject(name: str, *, jobs: int, update: bool, recheck: bool = False) -> Report:
    """Examine a correct file of this repository, and on request rewrite its survivors."""
    folder, path = SOLUTIONS / name, FOLDER / f"{name}.toml"
    source, tests = (
        (folder / file).read_text(encoding="utf-8") for file in (f"{name}.py", "test_hidden.py")
    )
    report = examine(name, source, tests, entries=read(path), jobs=jobs, recheck=recheck)
    if update and (report.survivors or report.stale):
        write(path, [entry for _, entry in report.survivors])
    return report


def told(report: Report) -> str:
    """Return a report as text: one line, then what is to be done."""
    reasons = ", ".join(f"{report.count(reason)} {reason or 'unexplained'}" for reason in Reason)
    lines = [
        f"{report.name:<24} {report.score:6.1%}  {report.n_mutants} mutants,"
        f" {report.killed} killed, {reasons}; {report.seconds:.0f} s"
    ]
    for mutant, entry in report.survivors:
        if not entry.reason:
            lines += [f"  line {mutant.line}", f"    - {mutant.was}", f"    + {mutant.now}"]
    for entry in report.stale:
        lines += ["  stale entry", f"    - {entry.was}", f"    + {entry.now}"]
    return "\n".join(lines)


def as_json(report: Report) -> dict[str, object]:
    return {
        "name": report.name,
        "score": round(report.score, 4),
        "mutants": report.n_mutants,
        "killed": report.killed,
        "survivors": {reason or "unexplained": report.count(reason) for reason in Reason},
        "unexplained": [
            {"line": mutant.line, "was": mutant.was, "now": mutant.now}
            for mutant, entry in report.survivors
            if not entry.reason
        ],
        "stale": [{"was": entry.was, "now": entry.now} for entry in report.stale],
        "seconds": round(report.seconds, 1),
    }


def main(arguments: Sequence[str]) -> int:
    every = sorted(path.parent.name for path in SOLUTIONS.glob("*/subject.toml"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="a correct file; else all")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--recheck", action="store_true", help="run only mutants with an entry")
    parser.add_argument("--write", action="store_true", help="bring survivors/ up to date")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    unknown = sorted(set(asked.names) - set(every))
    if unknown:
        parser.error(f"no correct file {', '.join(unknown)}")
    reports: list[Report] = []
    for name in asked.names or every:
        report = examine_subject(name, jobs=asked.jobs, update=asked.write, recheck=asked.recheck)
        reports.append(report)
        if not asked.json:
            print(told(report), flush=True)
    if asked.json:
        print(json.dumps([as_json(report) for report in reports], indent=2))
    return 0 if all(report.good for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
