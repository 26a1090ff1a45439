"""Forks a worker for every submission from a process that has imported torch once. Linux, CPU.

The nursery never loads a submission, so that all children start alike. The court asks by socket:

    request                          answer
    fork, with four descriptors      the child's process id
    reap <process id>                the same id, once that child has ended

A child stays unreaped until the court asks, so its process id cannot pass to another process.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import traceback

import torch

from . import confine
from .attachment import die_with_parent
from .serve import main as serve

_MOST = 64


def main(control_fd: int, message_bytes: int, policy: str) -> None:
    """Say that torch is imported, then fork until the court is gone."""
    torch.set_num_threads(1)
    _warm()
    grants = confine.Grants.here()
    gc.collect()
    gc.freeze()  # or every child would copy all that the collector touches
    control = socket.socket(fileno=control_fd)
    control.send(b"ready")
    while True:
        request, fds, _, _ = socket.recv_fds(control, _MOST, 4)
        match request.split():
            case []:
                return
            case [b"fork"]:
                control.send(str(_fork(control, fds, message_bytes, policy, grants)).encode())
            case [b"reap", pid]:
                os.waitpid(int(pid), 0)
                control.send(pid)


def _fork(
    control: socket.socket,
    fds: list[int],
    message_bytes: int,
    policy: str,
    grants: confine.Grants,
) -> int:
    nursery = os.getpid()
    pid = os.fork()
    if pid:
        for fd in fds:
            os.close(fd)
        return pid
    try:
        control.close()
        die_with_parent(nursery)
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        read_fd, write_fd, out_fd, err_fd = fds
        os.dup2(out_fd, 1)
        os.dup2(err_fd, 2)
        os.close(out_fd)
        os.close(err_fd)
        serve(read_fd, write_fd, message_bytes, policy, grants=grants)
    except BaseException:
        traceback.print_exc()  # the court tells the last line where the worker did not start
    finally:
        os._exit(0)


def _warm() -> None:
    """Do what every submission does first, so that no child pays for it again."""
    leaf = torch.randn(4, 4, requires_grad=True, generator=torch.Generator().manual_seed(1))
    torch.autograd.grad(torch.softmax(leaf @ leaf, dim=-1).sum(), leaf)
