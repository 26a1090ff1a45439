"""Leaves something behind, or tries to; every function returns what it did. See test_deeds.py."""

from __future__ import annotations

import ctypes
import importlib
import logging
import mmap
import multiprocessing
import os
import shutil
import sqlite3
import sys
import tempfile
from typing import Any

import numpy as np
import torch

TARGETS: dict[str, Any] = {}
"""Filled in by the test."""


def _plant(folder: str, name: str) -> Any:
    """Write a file whose name the test looks for."""
    path = os.path.join(folder, name)
    with open(path, "x") as file:
        file.write(f"raise SystemExit({TARGETS['token']!r})")
    return path


def _open(path: str) -> Any:
    """Open for writing, and leave it at that: the files are in use."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.close(descriptor)
    return path


def plants_a_file() -> Any:
    return _plant(TARGETS["watched"], TARGETS["token"])


def plants_a_conftest() -> Any:
    return _plant(TARGETS["watched"], "conftest.py")


def plants_a_conftest_beside_the_judge() -> Any:
    return _plant(TARGETS["judge"], "conftest.py")


def plants_a_plugin_in_the_project() -> Any:
    return _plant(TARGETS["project"], f"{TARGETS['token']}.py")


def plants_a_path_file() -> Any:
    return _plant(TARGETS["packages"], f"{TARGETS['token']}.pth")


def plants_a_sitecustomize() -> Any:
    return _plant(TARGETS["packages"], "sitecustomize.py")


def plants_a_usercustomize() -> Any:
    return _plant(TARGETS["home"], "usercustomize.py")


def plants_a_module_in_the_standard_library() -> Any:
    return _plant(TARGETS["library"], f"{TARGETS['token']}.py")


def plants_byte_code() -> Any:
    return _plant(f"{TARGETS['torch']}/__pycache__", f"{TARGETS['token']}.cpython-311.pyc")


def plants_in_tmp() -> Any:
    return _plant("/tmp", TARGETS["token"])


def plants_in_shared_memory() -> Any:
    return _plant("/dev/shm", TARGETS["token"])


def plants_in_the_root() -> Any:
    return _plant("/", TARGETS["token"])


def overwrites_torch() -> Any:
    return _open(f"{TARGETS['torch']}/__init__.py")


def overwrites_a_module_of_torch() -> Any:
    return _open(f"{TARGETS['torch']}/version.py")


def overwrites_the_judge() -> Any:
    return _open(f"{TARGETS['judge']}/trial.py")


def overwrites_the_hidden_tests() -> Any:
    return _open(TARGETS["hidden_tests"])


def overwrites_the_standard_library() -> Any:
    return _open(f"{TARGETS['library']}/random.py")


def empties_a_file() -> Any:
    os.truncate(TARGETS["victim"], 0)
    return "emptied"


def empties_a_file_that_it_may_read() -> Any:
    return os.open(f"{TARGETS['torch']}/py.typed", os.O_RDONLY | os.O_TRUNC)


def removes_a_file() -> Any:
    os.unlink(TARGETS["victim"])
    return "removed"


def renames_a_file() -> Any:
    os.rename(TARGETS["victim"], f"{TARGETS['victim']}-{TARGETS['token']}")
    return "renamed"


def links_a_file() -> Any:
    os.link(TARGETS["victim"], f"{TARGETS['watched']}/{TARGETS['token']}-hard")
    return "linked"


def points_to_a_file() -> Any:
    os.symlink(TARGETS["victim"], f"{TARGETS['watched']}/{TARGETS['token']}-soft")
    return "linked"


def makes_a_folder() -> Any:
    os.mkdir(f"{TARGETS['watched']}/{TARGETS['token']}-folder")
    return "made"


def makes_a_pipe_with_a_name() -> Any:
    os.mkfifo(f"{TARGETS['watched']}/{TARGETS['token']}-pipe")
    return "made"


def makes_a_file_without_a_name() -> Any:
    return os.open(TARGETS["watched"], os.O_TMPFILE | os.O_RDWR)


def makes_a_file_executable() -> Any:
    os.chmod(TARGETS["victim"], 0o777)
    return "changed"


def changes_a_files_date() -> Any:
    os.utime(TARGETS["victim"], (0, 0))
    return "changed"


def changes_a_files_attributes() -> Any:
    os.setxattr(TARGETS["victim"], "user.token", TARGETS["token"].encode())
    return "changed"


def writes_into_a_mapped_file() -> Any:
    with open(f"{TARGETS['torch']}/version.py", "rb") as file:
        return mmap.mmap(file.fileno(), 16, mmap.MAP_SHARED, mmap.PROT_READ)


def makes_a_temporary_file() -> Any:
    with tempfile.NamedTemporaryFile(prefix=TARGETS["token"]) as file:
        return file.name


def copies_a_file() -> Any:
    return shutil.copy(f"{TARGETS['torch']}/version.py", TARGETS["watched"])


def saves_a_tensor() -> Any:
    try:
        torch.save(torch.zeros(2), f"{TARGETS['watched']}/{TARGETS['token']}.pt")
    except RuntimeError as error:
        raise OSError(str(error)) from None
    return "saved"


def saves_an_array() -> Any:
    np.save(f"{TARGETS['watched']}/{TARGETS['token']}.npy", np.zeros(2))
    return "saved"


def makes_a_database() -> Any:
    try:
        sqlite3.connect(f"{TARGETS['watched']}/{TARGETS['token']}.db").execute("create table t (a)")
    except sqlite3.Error as error:
        raise OSError(str(error)) from None
    return "made"


def logs_to_a_file() -> Any:
    handler = logging.FileHandler(f"{TARGETS['watched']}/{TARGETS['token']}.log")
    handler.close()
    return "logged"


def makes_a_file_by_libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    name = f"{TARGETS['watched']}/{TARGETS['token']}-libc".encode()
    descriptor = libc.open(name, os.O_CREAT | os.O_WRONLY, 0o600)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "open")
    return descriptor


def shares_memory_by_name() -> Any:
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
    posix: Any = importlib.import_module("_posixshmem")
    return posix.shm_open(f"/{TARGETS['token']}-shared", flags, mode=0o600)


def makes_a_semaphore() -> Any:
    return str(multiprocessing.get_context("spawn").Semaphore())


def fills_the_disk() -> Any:
    path = f"{TARGETS['watched']}/{TARGETS['token']}-large"
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2 << 20)
    return path


def changes_the_machines_settings() -> Any:
    return _open("/proc/self/oom_score_adj")


def leaves_a_line_in_its_own_file() -> Any:
    """Its module says `__file__`, relative to the folder it is in."""
    return _plant(os.getcwd(), os.path.basename(sys.modules[__name__].__file__ or "kit.py"))
