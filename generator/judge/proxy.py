"""What a test holds of the submission: functions, classes, handles, records, enum members.

Nothing here holds anything that the submission made; every question is a request to the worker.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NoReturn

from .remote_errors import OpaqueObject, ProtocolViolation
from .worker.wire import WireError

if TYPE_CHECKING:
    from .remote import Remote

_MAX_FIELDS = 64


def check_name(name: str) -> None:
    """Refuse private and special names, which are no promise to anyone."""
    if name.startswith("_"):
        raise AttributeError(f"{name} is not public: the judge does not reach for it")


class RemoteFunction:
    """A function, or a method of a class, of the submission; named by its path."""

    def __init__(self, remote: Remote, path: str) -> None:
        self._remote = remote
        self._path = path
        self.__name__ = path.rpartition(".")[2]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._remote.call(self, args, kwargs)

    def __repr__(self) -> str:
        return f"<function {self._path} of the submission>"


class RemoteMethod:
    """A method of an object of the submission, looked up when it is called."""

    def __init__(self, owner: Handle, name: str) -> None:
        self._owner = owner
        self.__name__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._owner._remote.call(self, args, kwargs)

    def __repr__(self) -> str:
        return f"<method {self.__name__} of {self._owner!r}>"


class RemoteClass(type):
    """A class of the submission: can be called, asked for an attribute, and used in isinstance."""

    _remote: Remote
    _path: str

    def __new__(cls, remote: Remote, path: str) -> RemoteClass:
        made = super().__new__(cls, path.rpartition(".")[2], (), {"__module__": "submission"})
        made._remote = remote
        made._path = path
        return made

    def __init__(cls, _: Remote, path: str) -> None:
        super().__init__(path, (), {})

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls._remote.call(cls, args, kwargs)

    def __getattr__(cls, name: str) -> Any:
        check_name(name)
        return cls._remote.operate("getattr", cls, name)

    def __instancecheck__(cls, instance: Any) -> bool:
        """Believe the worker: good for a readable test, never its only check."""
        if isinstance(instance, Handle):
            return cls._path in instance._classes
        if isinstance(instance, Record | RemoteMember):
            return cls._path == instance._path
        return False


class RemoteMember:
    """A member of an enum of the submission."""

    def __init__(self, path: str, name: str, value: Any) -> None:
        self._path = path
        self.name = name
        self.value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RemoteMember):
            return NotImplemented
        return (self._path, self.name) == (other._path, other.name)

    def __hash__(self) -> int:
        return hash((self._path, self.name))

    def __repr__(self) -> str:
        return f"<{self._path}.{self.name} of the submission>"


class Record(tuple[Any, ...]):
    """A named tuple of the submission, by value: a tuple whose items have names."""

    __slots__ = ()
    _path: str
    _fields: tuple[str, ...]

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))

    def __repr__(self) -> str:
        items = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
        return f"{type(self).__name__}({items})"


@lru_cache(maxsize=256)
def record_type(path: str, fields: tuple[str, ...]) -> type[Record]:
    """Return the class of records with these fields. Raises WireError."""
    if len(set(fields)) != len(fields) or len(fields) > _MAX_FIELDS:
        raise WireError("a record with malformed fields")
    for name in fields:
        if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
            raise WireError("a record with a malformed field")
    items = {name: property(itemgetter(place)) for place, name in enumerate(fields)}
    own = {"__slots__": (), "_path": path, "_fields": fields}
    return type(path.rpartition(".")[2], (Record,), {**items, **own})


class Handle:
    """An object that stays in the worker. It has only the special methods that its class has."""

    __slots__ = ("_classes", "_kind", "_methods", "_number", "_remote")
    _remote: Remote
    _number: int
    _kind: str
    _classes: tuple[str, ...]
    _methods: frozenset[str]

    def __init__(
        self,
        remote: Remote,
        number: int,
        kind: str,
        classes: tuple[str, ...],
        methods: frozenset[str],
    ) -> None:
        for name, value in (
            ("_remote", remote),
            ("_number", number),
            ("_kind", kind),
            ("_classes", classes),
            ("_methods", methods),
        ):
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        check_name(name)
        if name in self._methods:
            return RemoteMethod(self, name)
        return self._remote.operate("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        check_name(name)
        self._remote.operate("setattr", self, name, value)

    def __del__(self) -> None:
        self._remote.release(self._number)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        raise self._opaque("==")

    def __bool__(self) -> bool:
        raise self._opaque("a truth value")

    def __reduce__(self) -> NoReturn:
        raise self._opaque("a copy")

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<{self._kind} of the submission>"

    def _opaque(self, what: str) -> OpaqueObject:
        return OpaqueObject(f"{what} of {self!r} would ask the submission: compare values instead")


class _Special:
    """The special methods, to be picked from by name."""

    _remote: Remote

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self._remote.call(self, args, kwargs)

    def len(self) -> int:
        count = self._remote.operate("len", self)
        if type(count) is not int or count < 0:
            raise self._remote.end_with(ProtocolViolation("it answered a length that is none"))
        return count

    def getitem(self, key: Any) -> Any:
        return self._remote.operate("getitem", self, key)

    def setitem(self, key: Any, value: Any) -> None:
        self._remote.operate("setitem", self, key, value)

    def delitem(self, key: Any) -> None:
        self._remote.operate("delitem", self, key)

    def contains(self, key: Any) -> bool:
        return self._remote.operate("contains", self, key) is True

    def iter(self) -> Iterator[Any]:
        iterator: Iterator[Any] = self._remote.operate("iter", self)
        return iterator

    def next(self) -> Any:
        match self._remote.operate("next", self):
            case ():
                raise StopIteration
            case (item,):
                return item
        raise self._remote.end_with(ProtocolViolation("it answered an item that is none"))


@lru_cache(maxsize=256)
def handle_type(operations: frozenset[str]) -> type[Handle]:
    """Return the class of handles with these special methods. Raises WireError."""
    members: dict[str, Any] = {"__slots__": ()}
    for operation in operations:
        if operation not in _OPERATIONS:
            raise WireError("an unknown special method")
        members[f"__{operation}__"] = getattr(_Special, operation)
    return type("Handle", (Handle,), members)


_OPERATIONS = frozenset(name for name in vars(_Special) if not name.startswith("_"))
