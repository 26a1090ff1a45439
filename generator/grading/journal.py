"""What is judged stays judged: a file of JSON lines, one for each unit, only ever appended to.

The first line says which answers, device and version of halfhour the verdicts are of, and holds the
salt of the seeds, so that a run that goes on later ends as if it had never been stopped. A torn
last line (the run was killed) costs that one verdict.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import files, places
from .._version import VERSION
from ..errors import UsageError
from ..records import Outcome, Promise, PromiseResult, Verdict, VerdictKind, digest
from .work import Judged

FORMAT = 1
Key = tuple[str, str]
"""The puzzle's id and the digest of the text."""
Promises = Mapping[str, tuple[Promise, ...]]
"""Those of each puzzle, by its id."""

_SALT_BYTES = 16
_BEGINS = b'{"halfhour grade": '
_JUDGED = (VerdictKind.FIXED, VerdictKind.NOT_FIXED)


def default_place(answers: str, device: str) -> Path:
    """Return where the journal of these answers (their SHA-256) lies if nobody says where."""
    return places.state_dir() / "grading" / f"{digest(answers, device, VERSION)[:24]}.jsonl"


class Journal:
    """The verdicts so far; see `open_journal`."""

    def __init__(self, path: Path, descriptor: int, salt: str, judged: dict[Key, Judged]) -> None:
        self.salt = salt
        self._path = path
        self._descriptor = descriptor
        self._judged = judged

    def __len__(self) -> int:
        return len(self._judged)

    def get(self, key: Key) -> Judged | None:
        """Return what came of a unit, None if it is still to be judged."""
        return self._judged.get(key)

    def put(self, key: Key, judged: Judged) -> None:
        """Keep what came of a unit; a failure of ours is not kept, and so is tried again later."""
        if judged.verdict.kind is VerdictKind.ENVIRONMENT:
            return
        self._judged[key] = judged
        _append(self._path, self._descriptor, _told(key, judged))


@contextmanager
def open_journal(
    path: Path, *, answers: str, device: str, promises: Promises, fresh: bool = False
) -> Iterator[Journal]:
    """Go on with a journal, or begin one; `fresh` begins anew. One process at a time has it.

    `answers` is their SHA-256. Raises UsageError for a file that is no journal, is one of something
    else, or is in use.
    """
    path = path.resolve()
    if path.is_dir():
        raise UsageError(f"{path} is a folder; say which file is to be the journal")
    with files.explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        _reserve(path, descriptor)
        content = path.read_bytes()
        head, _, rest = content.partition(b"\n")
        if head and not head.startswith(_BEGINS[: len(head)]):
            raise UsageError(f"{path} is no journal of grading; choose another with --journal")
        of = {"format": FORMAT, "answers": answers, "device": device, "version": VERSION}
        found = _loaded(head).get("halfhour grade")
        if isinstance(found, dict) and isinstance(found.get("salt"), str) and not fresh:
            _refuse_another(path, found, of)
            salt, judged = found["salt"], dict(_verdicts(rest, promises))
            os.truncate(descriptor, content.rfind(b"\n") + 1)
        else:
            salt, judged = secrets.token_hex(_SALT_BYTES), {}
            os.truncate(descriptor, 0)
            _append(path, descriptor, {"halfhour grade": {**of, "salt": salt}})
        yield Journal(path, descriptor, salt, judged)
    finally:
        os.close(descriptor)


def _reserve(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UsageError(
            f"these answers are being graded already, into {path}; wait for it, or choose another"
            " file with --journal"
        ) from None


def _refuse_another(path: Path, found: Mapping[str, Any], wanted: Mapping[str, object]) -> None:
    names = {
        "format": "another format",
        "answers": "other answers",
        "device": f"another device ({found.get('device')})",
        "version": f"another halfhour ({found.get('version')})",
    }
    for key, name in names.items():
        if found.get(key) != wanted[key]:
            raise UsageError(
                f"{path} is the journal of {name}; choose another with --journal, or start over"
                " with --fresh"
            )


def _append(path: Path, descriptor: int, line: Mapping[str, object]) -> None:
    data = (json.dumps(line, sort_keys=True) + "\n").encode()
    with files.explained(path):
        while data:  # only a disk that is almost full takes less than it is given
            data = data[os.write(descriptor, data) :]


def _told(key: Key, judged: Judged) -> dict[str, object]:
    verdict = judged.verdict
    broken = {r.promise.name: r.outcome for r in verdict.results if not r.kept}
    return {
        "puzzle": key[0],
        "source": key[1],
        "runs": judged.runs,
        "verdict": verdict.kind,
        "reason": verdict.reason,
        "broken": broken,
        "device": verdict.device,
        "rung": verdict.rung,
        "seed": verdict.seed,
        "seconds": verdict.seconds,
    }


def _verdicts(lines: bytes, promises: Promises) -> Iterator[tuple[Key, Judged]]:
    """Yield what the lines tell; what cannot be read is judged again."""
    for line in lines.split(b"\n")[:-1]:
        match _loaded(line):
            case {
                "puzzle": str(puzzle),
                "source": str(source),
                "runs": int(runs),
                "verdict": "fixed" | "not_fixed" | "invalid" as kind,
                "reason": str(reason),
                "broken": dict(broken),
                "device": str(device),
                "rung": str(rung),
                "seed": int(seed),
                "seconds": int() | float() as seconds,
            } if puzzle in promises and set(broken.values()) <= set(Outcome):
                ruled = VerdictKind(kind)
                results = tuple(
                    PromiseResult(promise, Outcome(broken.get(promise.name, Outcome.KEPT)))
                    for promise in (promises[puzzle] if ruled in _JUDGED else ())
                )
                verdict = Verdict(ruled, reason, results, device, rung, seed, float(seconds))
                yield (puzzle, source), Judged(verdict, runs)


def _loaded(line: bytes) -> dict[str, Any]:
    try:
        loaded = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return loaded if isinstance(loaded, dict) else {}
