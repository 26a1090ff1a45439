"""Whether grading holds under load: every verdict as expected, though the run is killed twice.

    python bench/grading.py [ANSWERS] [--count 500] [--jobs 2] [--accept-risk] [--keep DIR]

ANSWERS is a puzzle's folder or the answers of a week, a starter puzzle by default. What is handed
in, each text unlike every other:

    right      the correct file, also disguised and laid out anew                         40 %
    wrong      the file as handed out, other certified bugs, functions that answer nonsense 30 %
    malicious  a file of tests/judge/attacks in place of what the promises call            20 %
    invalid    no Python, no text, nothing at all, a public name gone, too long             8 %
    endless    a call or an import without end; each costs the limits, twice                2 %

`halfhour grade` runs as anyone would run it. Its process group is killed with SIGKILL after a third
and after two thirds of the verdicts, and the same command goes on. Processor time and memory are
those of all its processes as /proc tells them, those that were killed included.

Exits with 1 where a verdict is not as expected, or one is missing or told twice.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count, cycle
from pathlib import Path

from processes import TICKS, stats, tree

from halfhour.generator.degenerate import degenerate_files
from halfhour.generator.disguise import disguise
from halfhour.generator.judge.intake import MAX_LINES
from halfhour.generator.library import find_subject
from halfhour.generator.pack.answers import read_answers
from halfhour.generator.pack.table import read_table
from halfhour.generator.plant import plant_text
from halfhour.generator.records import Answer, Puzzle, Subject
from halfhour.mutators import find_mutator

ROOT = Path(__file__).resolve().parents[1]
STARTER = min(path.parent for path in (ROOT / "puzzles" / "starter").glob("*/token_sampler.py"))
ATTACKS = ROOT / "tests" / "judge" / "attacks"

SHARES = {"right": 0.40, "wrong": 0.30, "malicious": 0.20, "invalid": 0.08, "endless": 0.02}
KILLED_AT = (1 / 3, 2 / 3)
BEAT_S = 0.25
MEMORY_EVERY = 8
"""Memory is asked for on every eighth beat: the kernel has to add it up."""

FIXED, NOT_FIXED, INVALID = "fixed", "not_fixed", "invalid"
_FUTURE = "from __future__ import annotations\n"


@dataclass(frozen=True, slots=True)
class Text:
    """A submission and what must become of it."""

    kind: str
    content: bytes
    expected: frozenset[str]


def main(answers: Path, number: int, options: Sequence[str], keep: Path | None) -> int:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="halfhour-bench-") as scratch:
        place = keep or Path(scratch)
        inbox = place / "inbox"
        expected = hand_in(answers, number, inbox)
        told = Counter(text.kind for text in expected.values())
        print(
            f"{len(expected)} submissions: " + ", ".join(f"{n} {kind}" for kind, n in told.items())
        )
        print(f"made in {time.monotonic() - begun:.0f} s", flush=True)
        journal = place / "journal.jsonl"
        command = [sys.executable, "-m", "halfhour.generator", "grade", str(answers), str(inbox)]
        command += ["--json", "--journal", str(journal), *options]
        meter = Meter()
        begun = time.monotonic()
        for share in KILLED_AT:
            kept = killed(command, journal, int(share * len(expected)), meter)
            print(f"killed with {kept} verdicts kept, {time.monotonic() - begun:.0f} s", flush=True)
        run = start(command, subprocess.PIPE)
        with meter.measuring(run.pid):
            output, _ = run.communicate()
        wall = time.monotonic() - begun
    problems = compared(json.loads(output), expected)
    minutes = meter.cpu_s / 60
    print(f"wall              {wall:8.0f} s")
    print(f"processor         {meter.cpu_s:8.0f} s")
    print(f"submissions       {len(expected) / minutes:8.1f} a minute of the processor")
    print(f"peak memory       {meter.peak / 2**20:8.0f} MiB of all processes together")
    print(f"exit code         {run.returncode:8d}")
    for problem in problems:
        print(problem)
    print(f"{len(problems)} verdicts not as expected")
    return 1 if problems or run.returncode != 0 else 0


# what is handed in


def hand_in(answers: Path, number: int, inbox: Path) -> dict[str, Text]:
    """Write the submissions, puzzle after puzzle in turn; return them by their path."""
    pairs = read_answers(answers).puzzles
    draws = random.Random(number)
    makers = {kind: [globals()[kind](p, a, draws) for p, a in pairs] for kind in SHARES}
    found: dict[str, Text] = {}
    numbers = count(1)
    for kind, share in SHARES.items():
        for index in range(round(share * number)):
            puzzle = pairs[index % len(pairs)][0]
            text: Text = next(makers[kind][index % len(pairs)])
            folder = inbox / f"{next(numbers):04d}-{kind}"
            folder.mkdir(parents=True)
            (folder / puzzle.file_name).write_bytes(text.content)
            found[str(folder / puzzle.file_name)] = text
    return found


def unlike(kind: str, sources: Sequence[str], *expected: str) -> Iterator[Text]:
    """Yield the sources in turn without end, no two alike."""
    for number, source in enumerate(cycle(sources)):
        content = f"{source}\n# {kind} {number}\n".encode()
        yield Text(kind, content, frozenset(expected))


def subject_of(puzzle: Puzzle, answer: Answer) -> Subject:
    return replace(find_subject(puzzle.subject), source=answer.original)


def right(puzzle: Puzzle, answer: Answer, _: random.Random) -> Iterator[Text]:
    subject = subject_of(puzzle, answer)
    texts = [answer.original, ast.unparse(ast.parse(answer.original))]
    texts += [disguise(subject, seed).source for seed in range(3)]
    return unlike("right", texts, FIXED)


def wrong(puzzle: Puzzle, answer: Answer, draws: random.Random) -> Iterator[Text]:
    published = find_subject(puzzle.subject)
    certified = [each for each in read_table().puzzles if each.subject == puzzle.subject]
    chosen = draws.sample(certified, min(8, len(certified)))
    mutators = [find_mutator(name) for name in sorted({each.mutator for each in chosen})]
    planted = {
        (mutant.mutator, mutant.site): mutant
        for mutator in mutators
        for mutant in plant_text(puzzle.subject, published.source, [mutator], kinds=published.kinds)
    }
    mutants = [planted[each.mutator, each.site].source for each in chosen]
    answering = _that_answer_numbers(answer.original)
    nonsense = [
        each
        for each in degenerate_files(subject_of(puzzle, answer))
        if each.answer in ("zeros", "constant") and each.function in answering
    ]
    files = [each.source for each in draws.sample(nonsense, min(4, len(nonsense)))]
    handed_out = [puzzle.source, ast.unparse(ast.parse(puzzle.source))]
    return unlike("wrong", [*handed_out, *mutants, *files], NOT_FIXED, INVALID)


def _that_answer_numbers(source: str) -> set[str]:
    """Return the functions of which nonsense is to be had; those that answer None have none."""
    return {
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
        and node.returns is not None
        and re.search("Tensor|float|int", ast.unparse(node.returns))
    }


def malicious(puzzle: Puzzle, answer: Answer, draws: random.Random) -> Iterator[Text]:
    """Yield the file as handed out, which an attack takes over where the promises call it."""
    called = [name for name in answer.public_names if name in answer.hidden_tests]
    classes = {n.name for n in ast.parse(puzzle.source).body if isinstance(n, ast.ClassDef)}
    functions = [name for name in called if name not in classes and "." not in name]
    methods = [name for name in called if "." in name]
    body = puzzle.source.replace(_FUTURE, "")
    texts = []
    for kind in ("control_flow", "patching", "protocol", "resources"):
        attack = (ATTACKS / f"{kind}.py").read_text("utf-8")
        for node in ast.parse(attack).body:
            words = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
            if words and re.match("(wrong|raised|died|broken|invalid):", words):
                assert isinstance(node, ast.FunctionDef)
                taken = "".join(f"\n{name} = {node.name}" for name in functions + methods)
                texts.append(f"{attack}\n\n{body}\n{taken}\n")
    draws.shuffle(texts)
    return unlike("malicious", texts, NOT_FIXED, INVALID)


def endless(_: Puzzle, answer: Answer, __: random.Random) -> Iterator[Text]:
    name = next(n for n in answer.public_names if n in answer.hidden_tests and "." not in n)
    loops = "def {}(*_, **__):\n    while True:\n        pass\n"
    sleeps = "def {}(*_, **__):\n    import time\n    while True:\n        time.sleep(60)\n"
    texts = [f"{answer.original}\n\n{text.format(name)}" for text in (loops, sleeps)]
    texts.append(f"{answer.original}\n\nwhile True:\n    pass\n")
    return unlike("endless", texts, NOT_FIXED, INVALID)


def invalid(_: Puzzle, answer: Answer, __: random.Random) -> Iterator[Text]:
    original = answer.original
    name = answer.public_names[0]
    for number in count():
        mark = f"\n# invalid {number}\n"
        for content in (
            f"{original}\ndef (:\n{mark}".encode(),
            original.replace(name, f"Other{number}").encode(),
            b"\x00\xff\xfe" + os.urandom(200),
            b"",
            original.encode("utf-16") + bytes([number % 256]),
            f"import absent_{number}\n{original}".replace(_FUTURE, "").encode(),
            (f"# {number}\n" * (MAX_LINES + 1)).encode(),
        ):
            yield Text("invalid", content, frozenset({INVALID}))


# the runs


def start(command: Sequence[str], stdout: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, stdout=stdout, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )


def killed(command: Sequence[str], journal: Path, after: int, meter: Meter) -> int:
    """Run until so many verdicts are kept, then kill the process group; return how many are."""
    run = start(command, subprocess.DEVNULL)
    with meter.measuring(run.pid):
        while run.poll() is None and verdicts_in(journal) < after:
            time.sleep(BEAT_S)
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    return verdicts_in(journal)


def verdicts_in(journal: Path) -> int:
    with suppress(FileNotFoundError):
        return max(0, journal.read_bytes().count(b"\n") - 1)
    return 0


def compared(told: dict[str, list[dict[str, str]]], expected: dict[str, Text]) -> list[str]:
    """Return what is not as it should be, a line each."""
    rows = told["submissions"]
    times = Counter(row["file"] for row in rows)
    problems = [f"{file}: told {times[file]} times" for file in expected if times[file] != 1]
    problems += [f"{file}: nobody handed it in" for file in times if file not in expected]
    for row in rows:
        text = expected.get(row["file"])
        if text is not None and row["verdict"] not in text.expected:
            wanted = " or ".join(sorted(text.expected))
            problems.append(f"{row['file']}: {row['verdict']}, not {wanted}: {row['reason']}")
    return problems


class Meter:
    """Adds up what the processes below one use, beat after beat."""

    def __init__(self) -> None:
        self.peak = 0
        self._ticks: dict[tuple[int, str], int] = {}

    @property
    def cpu_s(self) -> float:
        return sum(self._ticks.values()) / TICKS

    def measuring(self, root: int) -> _Beats:
        return _Beats(self, root)

    def beat(self, root: int, *, memory: bool) -> None:
        known = stats()
        below = tree(root, known)
        for pid in below:
            self._ticks[pid, known[pid].started] = known[pid].own
        if memory:
            self.peak = max(self.peak, sum(map(_memory, below)))


class _Beats:
    def __init__(self, meter: Meter, root: int) -> None:
        self._meter = meter
        self._root = root
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _go_on(self) -> None:
        for number in count():
            self._meter.beat(self._root, memory=number % MEMORY_EVERY == 0)
            if self._over.wait(BEAT_S):
                return


def _memory(pid: int) -> int:
    """Return a process's share of memory, what it shares with others divided by all of them."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("answers", nargs="?", type=Path, default=STARTER)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--accept-risk", action="store_true")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    chosen = [f"--jobs={given.jobs}", *(["--accept-risk"] if given.accept_risk else [])]
    sys.exit(main(given.answers, given.count, chosen, given.keep))
