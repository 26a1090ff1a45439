"""A user namespace, and in it a network without interfaces, own IPC objects and host name."""

from __future__ import annotations

import os

from .kernel import Kernel

CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

HOST_NAME = b"worker"


def enter(kernel: Kernel) -> None:
    """Leave the host's namespaces, keeping the user's and the group's number. Raises OSError.

    The process has to be single-threaded, and still dumpable: the maps are files of its own.
    """
    user, group = os.geteuid(), os.getegid()
    kernel.call("unshare", CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)
    # The kernel wants setgroups switched off before an ordinary user may map a group.
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    kernel.call("sethostname", HOST_NAME, len(HOST_NAME))
