"""Landlock: which files may be opened, in the kernel, for this process and for ever.

All rights that the kernel knows are handled, and so refused; reading is then given back below the
allow-list. Nothing may be executed. Writing is given back for /dev/null alone. The layer does not
hide that a file exists, nor its size.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable

from .kernel import Kernel

# The same numbers on every architecture.
CREATE_RULESET = 444
ADD_RULE = 445
RESTRICT_SELF = 446

ASK_VERSION = 1
RULE_PATH_BENEATH = 1

WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIRECTORY = 1 << 3
TRUNCATE = 1 << 14

TRUNCATE_SINCE = 3
"""The version that also refuses to empty a file which may be read."""

FILE_RIGHTS_SINCE = {
    1: (1 << 13) - 1,  # execute, write, read, list, remove, and make of all kinds
    2: 1 << 13,  # link or rename to another directory
    TRUNCATE_SINCE: TRUNCATE,
    5: 1 << 15,  # ioctl on a device
    9: 1 << 16,  # connect to a named unix socket
}
NETWORK_RIGHTS_SINCE = {
    4: 0b0011,  # bind and connect, TCP
    10: 0b1100,  # bind and send, UDP
}
SCOPES_SINCE = {6: 0b11}  # abstract unix sockets and signals stay inside

DEVICES = {
    "/dev/null": READ_FILE | WRITE_FILE | TRUNCATE,
    "/dev/urandom": READ_FILE,
}


def version(kernel: Kernel) -> int:
    """Return the version of the kernel's Landlock, 0 if it has none. Raises OSError."""
    try:
        return kernel.call("syscall", CREATE_RULESET, None, 0, ASK_VERSION)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            return 0
        raise


def restrict(kernel: Kernel, *, readable: Iterable[str], listable: Iterable[str] = ()) -> int:
    """Allow reading below `readable`, and names below `listable`; return Landlock's version.

    Acts on the calling thread and its future children: call it before any thread starts, and
    after `no_new_privs`. Raises OSError where Landlock or a path is missing.
    """
    found = version(kernel)
    if found == 0:
        raise OSError(errno.EOPNOTSUPP, "this kernel has no Landlock")
    files = _known(FILE_RIGHTS_SINCE, found)
    ruleset = _create_ruleset(kernel, found, files)
    try:
        for path in readable:
            _allow(kernel, ruleset, path, READ_FILE | READ_DIRECTORY)
        for path in listable:
            _allow(kernel, ruleset, path, READ_DIRECTORY)
        for path, rights in DEVICES.items():
            _allow(kernel, ruleset, path, rights & files)
        kernel.call("syscall", RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return found


def _known(rights_since: dict[int, int], found: int) -> int:
    return sum(rights for since, rights in rights_since.items() if since <= found)


def _create_ruleset(kernel: Kernel, found: int, files: int) -> int:
    # An older kernel refuses the fields that it does not know, unless they are zero.
    handled = struct.pack(
        "<QQQ", files, _known(NETWORK_RIGHTS_SINCE, found), _known(SCOPES_SINCE, found)
    )
    return kernel.call("syscall", CREATE_RULESET, handled, len(handled), 0)


def _allow(kernel: Kernel, ruleset: int, path: str, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            rights &= ~READ_DIRECTORY
        rule = struct.pack("<Qi", rights, place)
        kernel.call("syscall", ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(place)
