"""The fixture `subject`, and the module that `import <name>` finds in a visible test."""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .proxy import Record, check_name
from .remote import Key, Remote


class Subject:
    """The file under test: its public names, and what a test may ask besides.

    The attributes below hide names of the file that are spelled the same.
    """

    __slots__ = ("_remote", "_source")

    def __init__(self, remote: Remote, source: str) -> None:
        self._remote = remote
        self._source = source

    def __getattr__(self, name: str) -> Any:
        check_name(name)
        return self._remote.look_up(name)

    @property
    def source(self) -> str:
        """The submitted text. Never parse it: it may be made to hurt a parser."""
        return self._source

    @property
    def mutated(self) -> tuple[Key, ...]:
        """Positions and keywords of the arguments that the last call changed in place.

        The worker says so: never the only check of a promise.
        """
        return self._remote.mutated

    def fields(self, instance: Any) -> dict[str, Any]:
        """Return the fields of a dataclass instance or a named tuple, by name."""
        if isinstance(instance, Record):
            return instance._asdict()
        found: dict[str, Any] = self._remote.operate("fields", instance)
        return found

    def seed(self, number: int) -> None:
        """Seed the global generators of the submission's process."""
        self._remote.operate("seed", number)

    def rng_state(self) -> str:
        """Return a digest of the states of the submission's global generators."""
        return str(self._remote.operate("rng_state"))

    @contextmanager
    def accelerator(self) -> Iterator[None]:
        """Let calls find their tensors on another device than the default one.

        On a GPU that is so; elsewhere by a stand-in, see `worker/accelerator.py`.
        """
        before, self._remote.on_accelerator = self._remote.on_accelerator, True
        try:
            yield
        finally:
            self._remote.on_accelerator = before


def module_of(subject: Subject, remote: Remote, name: str) -> types.ModuleType:
    """Return a module whose public names are the submission's."""
    module = types.ModuleType(name, subject.__doc__)

    def look_up(attribute: str) -> Any:
        check_name(attribute)
        return remote.look_up(attribute)

    module.__getattr__ = look_up  # type: ignore[method-assign]
    return module
