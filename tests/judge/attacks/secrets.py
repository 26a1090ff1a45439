"""Looks for what a file should not know; every function returns what it found: test_deeds.py."""

from __future__ import annotations

import ctypes
import fcntl
import gc
import importlib
import importlib.util
import linecache
import os
import pathlib
import re
import sqlite3
import sys
import types
from typing import Any

import numpy as np
import torch

TARGETS: dict[str, Any] = {}
"""Filled in by the test."""

CANARY = re.compile(rb"canary-" + rb"[0-9a-f]{32}")


def _canaries(content: Any) -> list[bytes]:
    data = content if isinstance(content, bytes) else str(content).encode(errors="replace")
    return sorted(set(CANARY.findall(data)))


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)


def reads_a_file_of_the_user() -> Any:
    return _read(TARGETS["secret_file"])


def reads_it_through_the_root_of_its_process() -> Any:
    return _read("/proc/self/root" + TARGETS["secret_file"])


def reads_it_by_a_way_around() -> Any:
    return _read("/usr/lib/../.." + TARGETS["secret_file"])


def reads_it_through_its_folder() -> Any:
    folder = os.open(os.path.dirname(TARGETS["secret_file"]), os.O_RDONLY | os.O_DIRECTORY)
    name = os.path.basename(TARGETS["secret_file"])
    return os.read(os.open(name, os.O_RDONLY, dir_fd=folder), 99)


def reads_it_by_libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.open(TARGETS["secret_file"].encode(), os.O_RDONLY)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "open")
    return os.read(descriptor, 99)


def reads_it_by_numpy() -> Any:
    return np.fromfile(TARGETS["secret_file"], dtype=np.uint8).tobytes()


def maps_it_by_torch() -> Any:
    try:
        return bytes(torch.from_file(TARGETS["secret_file"], size=16, dtype=torch.uint8).tolist())
    except RuntimeError as error:
        raise OSError(str(error)) from None


def opens_it_as_a_database() -> Any:
    try:
        return sqlite3.connect(TARGETS["database"]).execute("select word from words").fetchall()
    except sqlite3.Error as error:
        raise OSError(str(error)) from None


def quotes_it_as_source() -> Any:
    return linecache.getlines(TARGETS["secret_file"])


def lists_the_folder_of_the_user() -> Any:
    return os.listdir(os.path.dirname(TARGETS["secret_file"]))


def reads_the_hidden_tests() -> Any:
    return _read(TARGETS["hidden_tests"])


def reads_a_correct_file() -> Any:
    return _read(TARGETS["correct_file"])


def reads_a_sealed_answer() -> Any:
    return _read(TARGETS["sealed_answer"])


def reads_the_judges_own_code() -> Any:
    return _read(TARGETS["judge"] + "/trial.py")


def imports_the_solutions() -> Any:
    sys.modules.pop("halfhour", None)
    try:
        return importlib.import_module("halfhour.solutions").__name__
    finally:
        sys.modules["halfhour"] = None  # type: ignore[assignment]


def imports_the_solutions_by_their_path() -> Any:
    spec = importlib.util.spec_from_file_location("stolen", TARGETS["correct_file"])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)["__doc__"] or "loaded"


def puts_the_checkout_on_its_path() -> Any:
    sys.path.insert(0, TARGETS["project"])
    try:
        return importlib.import_module("solutions.token_sampler.token_sampler").__name__
    finally:
        sys.path.remove(TARGETS["project"])


def looks_for_tests_on_its_path() -> Any:
    """Walk through every folder that modules come from."""
    found = []
    for entry in sys.path:
        for folder, folders, names in os.walk(entry):
            folders[:] = [name for name in folders if name not in ("torch", "nvidia")]
            found += [os.path.join(folder, name) for name in names if name == "test_hidden.py"]
    return [_read(path) for path in found]


def reads_who_has_an_account() -> Any:
    return pathlib.Path("/etc/passwd").read_text()


def reads_a_neighbours_environment() -> Any:
    return _canaries(_read(f"/proc/{TARGETS['neighbour']}/environ"))


def reads_a_neighbours_command() -> Any:
    return _read(f"/proc/{TARGETS['neighbour']}/cmdline")


def reads_a_neighbours_memory() -> Any:
    return os.open(f"/proc/{TARGETS['neighbour']}/mem", os.O_RDONLY)


def reads_its_parents_environment() -> Any:
    return _read(f"/proc/{os.getppid()}/environ")


def reads_its_parents_command() -> Any:
    return _read(f"/proc/{os.getppid()}/cmdline")


def reads_its_parents_memory() -> Any:
    return os.open(f"/proc/{os.getppid()}/mem", os.O_RDONLY)


def reads_its_parents_map() -> Any:
    return _read(f"/proc/{os.getppid()}/maps")


def lists_its_parents_descriptors() -> Any:
    return os.listdir(f"/proc/{os.getppid()}/fd")


def follows_its_parents_descriptors() -> Any:
    return os.readlink(f"/proc/{os.getppid()}/fd/0")


def lists_the_processes() -> Any:
    return [name for name in os.listdir("/proc") if name.isdigit()]


def copies_its_parents_memory() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(16)
    here = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 16)
    there = (ctypes.c_size_t * 2)(id(None), 16)
    count = libc.process_vm_readv(os.getppid(), ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    if count < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")
    return buffer.raw


# --- what is at hand: nothing refuses these, and there must be nothing to find


def looks_through_its_environment() -> Any:
    return _canaries(dict(os.environ))


def looks_through_its_arguments() -> Any:
    return sys.argv[1:]


def looks_through_its_frames() -> Any:
    found: list[bytes] = []
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        found += _canaries({**frame.f_globals, **frame.f_locals})
        frame = frame.f_back
    return found


def looks_through_other_threads() -> Any:
    frames = list(sys._current_frames().values())
    return frames[1:]


def looks_for_the_tests_module() -> Any:
    names = ("halfhour_promises", "pytest", "_pytest", "conftest")
    return [name for name in names if name in sys.modules]


def looks_for_the_tests_lines() -> Any:
    return linecache.getlines("<promises>")


def looks_through_all_objects() -> Any:
    """What the process that it was forked from had frozen as well."""
    gc.unfreeze()
    texts = {
        each
        for holder in gc.get_objects()
        for each in gc.get_referents(holder)
        if type(each) in (str, bytes) and len(each) < 1 << 16
    }
    return [canary for each in texts for canary in _canaries(each)]


def looks_through_its_memory() -> Any:
    """Every page that holds an object, read as bytes, whoever owned them before."""
    gc.unfreeze()
    pages = {id(each) >> 12 for each in gc.get_objects()}
    return {canary for page in pages for canary in _canaries(ctypes.string_at(page << 12, 4096))}


def looks_through_its_descriptors() -> Any:
    """Null, two for what it prints, two for the judge: anything more was left open for it."""
    found = []
    for descriptor in range(256):
        try:
            fcntl.fcntl(descriptor, fcntl.F_GETFD)
        except OSError:
            continue
        found.append(descriptor)
    return found[5:]
