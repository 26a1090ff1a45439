"""The workers of a Dask cluster as an Executor: what they judge travels by the hash of its content.

A material is a task of its own, named by its digest: the scheduler hands it to each worker once,
and makes it again where the workers that had it are gone. A unit is named by all that it holds, so
that none is judged twice at once. A worker that is lost takes nothing with it: Dask gives its units
to others.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .._version import VERSION
from ..errors import EnvironmentFault, UsageError
from ..judge.plain import plain
from . import work

if TYPE_CHECKING:
    from distributed import Client

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE_S = 10.0
"""How long a scheduler may take to answer, and then to have a worker."""

_ADDRESS = re.compile(r"[a-z]+://[^\s/]+:\d{1,5}")


@contextmanager
def executor(address: str, *, patience_s: float = PATIENCE_S) -> Iterator[Executor]:
    """Give the workers of the scheduler at an address such as `tcp://10.0.0.7:8786`.

    What is under way is taken back if the context ends by an exception. Raises UsageError where
    that is no address or the extra is not installed, EnvironmentFault where nobody answers there
    or the workers are not like this halfhour.
    """
    if not _ADDRESS.fullmatch(address):
        raise UsageError(
            f"{plain(address, limit=80)} is no scheduler's address; one looks like tcp://host:8786"
        )
    client = _connected(address, patience_s)
    try:
        _check_workers(client, address, patience_s)
        ours = _Cluster(client, address)
        try:
            yield ours
        except BaseException:
            ours.shutdown(wait=False, cancel_futures=True)
            raise
    finally:
        client.close(timeout=patience_s)


class _Cluster(Executor):
    """Gives units to the workers, each with its material."""

    def __init__(self, client: Client, address: str) -> None:
        self._client = client
        self._address = address
        self._pool = client.get_executor(pure=True)
        self._materials: dict[str, Any] = {}

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._client.status != "running":
            raise self._gone()
        materials = [
            self._material(each.material)
            for each in args
            if isinstance(each, work.UnitRequest) and isinstance(each.material, work.Material)
        ]
        lighter = [work.by_digest(a) if isinstance(a, work.UnitRequest) else a for a in args]
        inner = self._pool.submit(_with_materials, materials, fn, *lighter, **kwargs)
        outer: Future[T] = Future()
        outer.set_running_or_notify_cancel()
        inner.add_done_callback(lambda done: self._settle(done, outer))
        return outer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait=wait and not cancel_futures)  # without waiting, it cancels

    def _material(self, material: work.Material) -> Any:
        name = material.digest
        if name not in self._materials:
            self._materials[name] = self._client.submit(
                _same, material, key=f"halfhour-material-{name}", pure=True
            )
        return self._materials[name]

    def _settle(self, inner: Future[T], outer: Future[T]) -> None:
        if inner.cancelled():  # by us, and nobody waits, or because there is no scheduler any more
            outer.set_exception(self._gone())
        elif (error := inner.exception()) is not None:
            outer.set_exception(error)
        else:
            outer.set_result(inner.result())

    def _gone(self) -> EnvironmentFault:
        return EnvironmentFault(
            f"the scheduler at {self._address} is gone; what was judged is kept, and the same"
            " command goes on from there"
        )


def _connected(address: str, patience_s: float) -> Client:
    try:
        from distributed import Client
    except ImportError:
        raise UsageError(
            "a cluster needs Dask; install it with: pip install 'halfhour[cluster]'"
        ) from None
    for name in ("distributed", "tornado", "asyncio"):  # what they would say, we say once
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        return Client(address, timeout=patience_s, set_as_default=False)
    except Exception as error:
        raise EnvironmentFault(
            f"no Dask scheduler answers at {address} within {patience_s:g} seconds"
        ) from error


def _check_workers(client: Client, address: str, patience_s: float) -> None:
    """Raise EnvironmentFault where there are no workers, or where they have another halfhour."""
    try:
        client.wait_for_workers(1, timeout=patience_s)
    except TimeoutError as error:
        raise EnvironmentFault(f"the scheduler at {address} has no workers") from error
    try:
        found = client.run(_version, on_error="return").values()
    except Exception as error:
        words = plain(f"{type(error).__name__}: {error}", limit=200)
        raise EnvironmentFault(f"the workers of {address} cannot be asked: {words}") from error
    others = sorted({each if isinstance(each, str) else "none" for each in found} - {VERSION})
    if others:
        raise EnvironmentFault(
            f"workers of {address} have another halfhour ({', '.join(others)}); install {VERSION}"
            " on each"
        )


def _version() -> str:
    return VERSION


def _same(material: work.Material) -> work.Material:
    return material


def _with_materials(
    materials: list[work.Material], fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run on a worker, which has been given the materials."""
    work.learn(materials)
    return fn(*args, **kwargs)
