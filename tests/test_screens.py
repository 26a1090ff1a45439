"""The pictures in the README show what is shown."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import screens

README = Path(__file__).resolve().parents[1] / "README.md"


def test_picture_of_the_report_is_fresh() -> None:
    """Else: make screens."""
    kept = (screens.FOLDER / "report.svg").read_text(encoding="utf-8")

    assert kept == screens.picture()
    assert "(screens/report.svg)" in README.read_text(encoding="utf-8")


def test_picture_stands_alone() -> None:
    """It is well-formed, and asks for nothing from elsewhere."""
    picture = screens.picture()
    root = ElementTree.fromstring(picture)

    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    for outward in ("src=", "url(", "@import", "<script"):
        assert outward not in picture
