"""How the files of a week are called, and how they find each other."""

from __future__ import annotations

from pathlib import Path

from .manifest import AnswersManifest, Manifest

_ANSWERS = ".answers.zip"


def puzzles_zip(week: str) -> str:
    """Return the name of what candidates get."""
    return f"halfhour-{week}.zip"


def answers_zip(week: str) -> str:
    """Return the name of what the publisher keeps."""
    return f"halfhour-{week}{_ANSWERS}"


def folder(manifest: Manifest | AnswersManifest) -> str:
    """Return the name of the one folder in a zip."""
    end = ".answers" if isinstance(manifest, AnswersManifest) else ""
    return f"halfhour-{manifest.week}{end}"


def page(week: str) -> str:
    """Return the name of the page that presents the week."""
    return f"halfhour-{week}.html"


def sibling(path: Path) -> Path:
    """Return where the answers of these puzzles should lie, or the puzzles of these answers."""
    if path.name.endswith(_ANSWERS):
        return path.with_name(path.name.removesuffix(_ANSWERS) + ".zip")
    return path.with_name(path.stem + _ANSWERS)
