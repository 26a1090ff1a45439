"""The correct rewrites that the subjects' own tests judge, as texts, without judging anything."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import inprocess

_TESTS = Path(__file__).resolve().parents[1] / "solutions"
_THIRD_PARTIES = ("transformers", "tiktoken", "tokenizers")
_OF_REWRITES = (
    "test_a_correct_rewrite_keeps_every_promise",
    "test_a_correct_file_by_another_way_keeps_every_promise",
)


def subjects_with_rewrites() -> list[str]:
    """Return the names of the subjects whose tests have rewrites."""
    texts = {path.stem.removeprefix("test_"): path.read_text("utf-8") for path in _files()}
    return [name for name, text in texts.items() if any(test in text for test in _OF_REWRITES)]


def rewrites(subject: str) -> list[str]:
    """Return the texts of correct files that are written otherwise."""
    found: list[str] = []

    def keep(_: str, source: str | None = None, *, seed: int) -> dict[str, BaseException]:
        assert source is not None
        assert seed is not None
        found.append(source)
        return {}

    module: Any = _load(_TESTS / f"test_{subject}.py")
    module.broken_promises = keep
    for test in filter(None, (getattr(module, name, None) for name in _OF_REWRITES)):
        for case in inprocess._cases(test):
            test(**{name: _given(value) for name, value in case.items()})
    return list(dict.fromkeys(found))


def _files() -> list[Path]:
    return sorted(_TESTS.glob("test_*.py"))


def _given(value: Any) -> Any:
    """Return what a `pytest.param` stands for."""
    return value.values[0] if hasattr(value, "marks") else value


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"rewrites_of_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _without_third_parties():
        spec.loader.exec_module(module)
    return module


@contextmanager
def _without_third_parties() -> Iterator[None]:
    """Stand in for packages that take seconds to import, and that no rewrite needs."""
    kept = {name: module for name, module in sys.modules.items() if _is_theirs(name)}
    for name in kept:
        del sys.modules[name]
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if _is_theirs(name)]:
            del sys.modules[name]
        sys.modules.update(kept)


def _is_theirs(name: str) -> bool:
    return name.partition(".")[0] in _THIRD_PARTIES


class _Finder:
    """Finds a stand-in for every module of theirs."""

    def find_spec(self, name: str, *_: object) -> Any:
        return importlib.util.spec_from_loader(name, self) if _is_theirs(name) else None  # type: ignore[arg-type]

    def create_module(self, spec: Any) -> Any:
        return MagicMock(__name__=spec.name, __path__=[], __spec__=spec)

    def exec_module(self, module: Any) -> None:
        pass
