"""The messages of a candidate: all in one catalogue, and another one changes what is read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import handmade
import pot
import pytest
import toy

from halfhour.generator import messages, render
from halfhour.generator.messages import tr, tr_n

GENERATOR = Path(__file__).resolve().parents[1] / "generator"


@pytest.fixture
def marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Read in a language in which every message begins with a tilde."""
    pot.write_toy(tmp_path, "tlh")
    monkeypatch.setenv("HALFHOUR_LOCALE", str(tmp_path))
    monkeypatch.setenv("LANGUAGE", "tlh")
    return tmp_path / "tlh" / "LC_MESSAGES" / "halfhour.mo"


def calls() -> Iterator[tuple[str, ast.Call]]:
    for file in sorted(GENERATOR.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="tr" | "tr_n")):
                    yield f"{file.name}:{node.lineno}", node


def test_template_for_translators_is_fresh() -> None:
    """Else: make messages."""
    assert pot.POT.read_bytes() == pot.pot()


def test_what_is_asked_for_is_given() -> None:
    """A message is a plain text, and its places are those that its call fills in."""
    for where, call in calls():
        counted = isinstance(call.func, ast.Name) and call.func.id == "tr_n"
        texts = call.args[: 2 if counted else 1]
        given = {keyword.arg for keyword in call.keywords} | ({"count"} if counted else set())
        for text in texts:
            assert isinstance(text, ast.Constant), where
            assert isinstance(text.value, str), where
            places = {name for _, name, _, _ in Formatter().parse(text.value) if name is not None}
            assert None in given or places <= given, where
            assert None in given or counted or places == given, where


@pytest.mark.usefixtures("marked")
def test_another_catalogue_changes_what_is_read() -> None:
    assert tr("no hunt is over yet") == "~no hunt is over yet"
    assert tr("step {step}", step=3) == "~step 3"
    assert tr_n("{count} minute left.", "{count} minutes left.", 5) == "~5 minutes left."
    assert tr("nobody wrote this down") == "nobody wrote this down"


@pytest.mark.usefixtures("marked")
def test_puzzle_is_the_same_in_every_language(monkeypatch: pytest.MonkeyPatch) -> None:
    marked = render.with_brief(handmade.puzzle(), toy.subject(), handmade.answer())
    monkeypatch.delenv("HALFHOUR_LOCALE")

    assert render.with_brief(handmade.puzzle(), toy.subject(), handmade.answer()) == marked
    assert "~" not in marked.brief


@pytest.mark.usefixtures("marked")
def test_reveal_speaks_the_language() -> None:
    told = render.reveal(handmade.puzzle(), handmade.answer())

    assert "~It broke 2 of 4 promises:" in told
    assert handmade.BUG.title in told


@pytest.mark.parametrize("slip", ["~{stop}", "~{", "~{0}", "~{step.x}", "~{step:d}"])
def test_slip_of_a_translator_is_read_in_english(marked: Path, slip: str) -> None:
    pot.write_toy(marked.parents[2], "tlh", lambda _: slip)

    assert tr("step {step}", step="three") == "step three"


@pytest.mark.parametrize("damage", [b"", b"not a catalogue", b"\xde\x12\x04\x95\x00"])
def test_damaged_catalogue_is_passed_over(marked: Path, damage: bytes) -> None:
    marked.write_bytes(damage)

    assert tr("no hunt is over yet") == "no hunt is over yet"


@pytest.mark.parametrize("language", ["", "C", "de_DE.UTF-8", "../../etc"])
def test_language_without_a_catalogue_is_english(
    monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    monkeypatch.delenv("HALFHOUR_LOCALE", raising=False)
    monkeypatch.setenv("LANGUAGE", language)

    assert messages.verdict("not_fixed") == "not fixed"
