"""What a worker has to read: interpreter, torch, numpy, system libraries. Nothing else.

A virtual environment may lie in a home, and site-packages below the standard library, so a folder
is never granted for what it is called: packages are named one by one, and halfhour is not among
them.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import sys
from dataclasses import dataclass

PACKAGES = (
    "torch",
    "numpy",
    # What torch imports, some of it only when a function is first called.
    "typing_extensions",
    "sympy",
    "mpmath",
    "networkx",
    "jinja2",
    "markupsafe",
    "filelock",
    "fsspec",
    "functorch",
    "torchgen",
    "opt_einsum",
    "triton",
    "nvidia",
)
FILES = (
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    # torch chooses its kernels by them, at the first product of matrices.
    "/proc/cpuinfo",
    "/sys/devices/system/cpu",
)


@dataclass(frozen=True, slots=True)
class Tree:
    """A file, or a directory with everything below it but its `hidden` folders."""

    path: str
    hidden: tuple[str, ...] = ()

    def visible(self) -> list[str]:
        """Return the paths that cover the tree and nothing hidden."""
        if not self.hidden:
            return [self.path]
        return [
            os.path.join(self.path, name)
            for name in sorted(os.listdir(self.path))
            if name not in self.hidden
        ]


def readable_trees() -> tuple[Tree, ...]:
    """Return what there is on this machine, a parent before what lies below it."""
    trees = [
        _without_packages(os.path.dirname(os.path.realpath(os.__file__))),
        *(_without_pythons(path) for path in _library_folders()),
        *(Tree(path) for path in _libraries_beside_the_interpreter()),
        *(Tree(path) for name in PACKAGES for path in _package(name)),
        *(Tree(path) for path in FILES),
    ]
    unique = {tree.path: tree for tree in trees if os.path.exists(tree.path)}
    return tuple(unique[path] for path in sorted(unique))


def listable_folders() -> tuple[str, ...]:
    """Return the folders that Python looks into for modules, to be listed but not read.

    An import lists them again whenever they change, and would find nothing where it may not: a
    cached byte code file that another process writes would hide every package from the worker.
    """
    folders = {tree.path for tree in readable_trees() if tree.hidden}
    packages = [path for name in PACKAGES for path in _package(name) if os.path.exists(path)]
    return tuple(sorted(folders | {os.path.dirname(path) for path in packages}))


def readable_roots() -> tuple[str, ...]:
    """Return files and directories to grant, for a list that can only add and not subtract."""
    return tuple(path for tree in readable_trees() for path in tree.visible())


@dataclass(frozen=True, slots=True)
class Grants:
    """What a worker may read, and which folders it may list: looked up once for many workers."""

    readable: tuple[str, ...]
    listable: tuple[str, ...]

    @classmethod
    def here(cls) -> Grants:
        """Look up what there is on this machine."""
        return cls(readable_roots(), listable_folders())


def _without_packages(library: str) -> Tree:
    found = {"site-packages", "dist-packages"} & set(os.listdir(library))
    return Tree(library, tuple(sorted(found)))


def _without_pythons(folder: str) -> Tree:
    """Hide the standard libraries of interpreters, and the packages below them."""
    with os.scandir(folder) as entries:
        pythons = [e.name for e in entries if e.name.startswith("python") and e.is_dir()]
    return Tree(folder, tuple(sorted(pythons)))


def _library_folders() -> list[str]:
    multiarch = f"{platform.machine()}-linux-gnu"
    folders = (f"/lib/{multiarch}", f"/usr/lib/{multiarch}", "/lib64", "/usr/lib64")
    return [path for path in folders if os.path.isdir(path)]


def _libraries_beside_the_interpreter() -> list[str]:
    folder = os.path.join(os.path.realpath(sys.base_prefix), "lib")
    if not os.path.isdir(folder):
        return []
    shared = (".so", ".dylib")
    return [
        os.path.join(folder, name)
        for name in os.listdir(folder)
        if name.startswith("lib") and any(part in name for part in shared)
    ]


@functools.cache
def _package(name: str) -> tuple[str, ...]:
    """Return where a package lies, without importing it, and its bundled libraries."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return ()
    if spec.submodule_search_locations is None:
        return (spec.origin,) if spec.origin else ()
    folders = tuple(spec.submodule_search_locations)
    return folders + tuple(f"{folder}.libs" for folder in folders)
