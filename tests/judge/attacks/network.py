"""Calls someone, or tries to; every function returns what it did. See test_deeds.py."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import urllib.request
from typing import Any

TARGETS: dict[str, Any] = {}
"""Filled in by the test."""

IO_URING_SETUP = 425
IPPROTO_MPTCP = 262


def connects_by_tcp() -> Any:
    with socket.create_connection(("127.0.0.1", TARGETS["tcp"]), timeout=2) as connection:
        connection.sendall(TARGETS["token"].encode())
    return "connected"


def connects_by_multipath_tcp() -> Any:
    """Landlock does not count it as TCP."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP) as connection:
        connection.settimeout(2)
        connection.connect(("127.0.0.1", TARGETS["tcp"]))
    return "connected"


def connects_to_a_socket_with_a_name() -> Any:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(TARGETS["unix"])
    return "connected"


def connects_to_an_abstract_socket() -> Any:
    """As the judge that stays warm has one."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"\0{TARGETS['abstract']}")
    return "connected"


def sends_by_udp() -> Any:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return sender.sendto(TARGETS["token"].encode(), ("127.0.0.1", TARGETS["udp"]))


def fetches_a_page() -> Any:
    return urllib.request.urlopen(f"http://127.0.0.1:{TARGETS['tcp']}/", timeout=0.2).read()


def asks_for_a_name() -> Any:
    """A question of a secret's own would reach whoever answers for that zone."""
    return socket.getaddrinfo(f"{TARGETS['token']}.example.org", 80)


def listens() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()


def makes_a_pair_of_sockets() -> Any:
    return [each.detach() for each in socket.socketpair()]


def listens_to_the_kernel() -> Any:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).detach()


def reads_the_wire() -> Any:
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).detach()


def talks_to_the_hypervisor() -> Any:
    return socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).detach()


def borrows_the_kernels_ciphers() -> Any:
    return socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET).detach()


def connects_behind_the_back_of_the_filter() -> Any:
    """What a ring is asked for is no system call."""
    libc = ctypes.CDLL(None, use_errno=True)
    ring = libc.syscall(IO_URING_SETUP, 4, ctypes.create_string_buffer(120))
    if ring < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")
    return ring


def makes_a_socket_by_old_numbers() -> Any:
    """`socketcall` is how 32-bit programs did it; by the numbers of x86-64 it is another call."""
    libc = ctypes.CDLL(None, use_errno=True)
    made = libc.syscall(41 if os.uname().machine == "x86_64" else 198, socket.AF_INET, 1, 0)
    if made < 0:
        raise OSError(ctypes.get_errno(), "socket")
    return struct.pack("<i", made)
