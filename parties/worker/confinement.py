"""A worker's confinement: it can open no socket, start no program, and be traced by nobody; a preparer can open no file either.

A seccomp filter (Linux, x86-64 and arm64) denies the system calls before the worker has read any secret; sockets that it
inherited stay usable. There is no switch to leave it out: a worker that cannot confine itself ends.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct

from protocols.errors import ConfideError, ErrorCode

EVALUATOR_NAME = "confide-evaluat"  # the kernel keeps 15 characters
_PR_SET_DUMPABLE, _PR_SET_NAME, _PR_SET_NO_NEW_PRIVS = 4, 15, 38
_SET_MODE_FILTER, _FLAG_TSYNC = 1, 1
_RET_ALLOW, _RET_KILL, _RET_ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LD_WORD, _JEQ, _JGE, _RET = 0x20, 0x15, 0x35, 0x06
_NR_OFFSET, _ARCH_OFFSET = 0, 4
_X32_BIT = 0x40000000

# Architecture, number of seccomp(2), and the numbers of what is denied: socket, socketpair (a datagram pair can be sent from to
# any local name), connect, bind, execve, execveat, ptrace, process_vm_readv, process_vm_writev, io_uring_setup, pidfd_getfd
# (takes another process' open sockets).
_MACHINES = {
    "x86_64": (0xC000003E, 317, (41, 53, 42, 49, 59, 322, 101, 310, 311, 425, 438)),
    "aarch64": (0xC00000B7, 277, (198, 199, 203, 200, 221, 281, 117, 270, 271, 425, 438)),
}

# What a process without files is denied besides. By path: open, creat, openat, openat2, name_to_handle_at, open_by_handle_at,
# truncate, rename, renameat, renameat2, link, linkat, symlink, symlinkat, unlink, unlinkat, mkdir, mkdirat, rmdir, mknod,
# mknodat, chmod, fchmodat, fchmodat2, chown, lchown, fchownat, chdir, chroot, mount, umount2, move_mount, open_tree; and signals
# to others: kill, tkill, pidfd_open, pidfd_send_signal.
_FILE_CALLS = {
    "x86_64": "2 85 257 437 303 304 76 82 264 316 86 265 88 266 87 263 83 258 84 133 259 90 268 452 92 94 260 80 161 165 166"
    " 429 428 62 200 434 424",
    "aarch64": "56 437 264 265 45 38 276 37 36 35 34 33 53 452 54 49 51 40 39 429 428 129 130 434 424",
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def confine() -> None:
    """Applies the filter to every thread of this process, for good.

    Raises:
        ConfideError: SETUP_INCOMPLETE (the operator's): this kernel or machine cannot confine a process this way.
    """
    _apply("")


def confine_without_files() -> None:
    """Likewise, and denies besides whatever opens or changes a file by its name; what is open stays usable.

    Everything that is still to be imported or read must be before.

    Raises:
        ConfideError: SETUP_INCOMPLETE (the operator's): this kernel or machine cannot confine a process this way.
    """
    _apply(_FILE_CALLS.get(platform.machine(), ""))


def _apply(also_denied: str) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    machine = platform.machine()
    if machine not in _MACHINES:
        raise ConfideError(
            ErrorCode.SETUP_INCOMPLETE, f"workers cannot be confined on {machine}", remedy="use x86-64 or arm64 Linux"
        )
    architecture, seccomp, denied = _MACHINES[machine]
    code = _filter(architecture, (*denied, *map(int, also_denied.split())))
    program = _Program(len(code) // 8, code)
    _call("syscall", seccomp, _SET_MODE_FILTER, _FLAG_TSYNC, ctypes.byref(program))


def name_process(name: str) -> None:
    """Gives this process a name of at most 15 characters, by which an operator knows it from others."""
    _call("prctl", _PR_SET_NAME, name.encode(), 0, 0, 0)


def _filter(architecture: int, denied: tuple[int, ...]) -> bytes:
    refuse = _RET_ERRNO | errno.EPERM
    steps = [
        (_LD_WORD, 0, 0, _ARCH_OFFSET),
        (_JEQ, 1, 0, architecture),
        (_RET, 0, 0, _RET_KILL),
        (_LD_WORD, 0, 0, _NR_OFFSET),
        (_JGE, len(denied) + 1, 0, _X32_BIT),
        *((_JEQ, len(denied) - i, 0, number) for i, number in enumerate(denied)),
        (_RET, 0, 0, _RET_ALLOW),
        (_RET, 0, 0, refuse),
    ]
    return b"".join(struct.pack("<HBBI", *step) for step in steps)


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise ConfideError(
            ErrorCode.SETUP_INCOMPLETE, f"a worker cannot be confined here: {reason}", remedy="allow seccomp filters"
        )
