"""Starting, feeding and ending worker processes.

A worker is a fork of the party's template process (`parties.worker.__main__`). It gets one socket and nothing else: no
environment, no key, no argument that says anything about its session. The sockets of its links follow over that channel.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread, Timer
from typing import Any

import structlog

from parties import defect
from parties.worker import environment
from parties.worker.channel import MAX_HEADER_BYTES, Channel, ChannelClosed, Parcel
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job

BIRTH_TIMEOUT_S = 60.0  # the template loads its libraries first
PLAN_TIMEOUT_S = 60.0
_log = structlog.get_logger()
ENVIRONMENT = {  # of the template and its workers
    **environment.ENVIRONMENT,
    # glibc gives the memory of every large array back and has it zeroed again, page by page, for the next one: a quarter of a
    # training step. A worker keeps it until it ends.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(1 << 26),
}


class Worker:
    """One worker process, for one task.

    Attributes:
        pid: its number, for people.
    """

    def __init__(self, channel: Channel, endpoint: socket.socket) -> None:
        """Takes the party's end of the worker's channel; use `Template.fork`."""
        self._channel = channel
        self._socket = endpoint
        # By its handle, not its number: a number may belong to another process by the time it is used.
        try:
            self.pid = self._expect_birth()
            self._process: int | None = os.pidfd_open(self.pid)
        except OSError as error:
            raise ConfideError(ErrorCode.WORKER_LOST, "the worker ended at once") from error
        self._lock = Lock()

    def give(self, header: Mapping[str, Any], blobs: Mapping[str, bytes], endpoints: Sequence[socket.socket] = ()) -> None:
        """Hands over the task, its secrets, and the worker's ends of its links (closed here).

        Raises:
            ConfideError: WORKER_LOST (this party's fault): the process has ended.
        """
        try:
            self._channel.send({**header, "sockets": len(endpoints)}, blobs)
            for endpoint in endpoints:
                socket.send_fds(self._socket, [b"."], [endpoint.fileno()])
                endpoint.close()
        except (ChannelClosed, OSError) as error:
            raise ConfideError(ErrorCode.WORKER_LOST, "the worker ended before it had its task") from error

    def say(self, header: Mapping[str, object], blobs: Mapping[str, bytes | bytearray]) -> None:
        """Says something more to a worker that has its task.

        Raises:
            ConfideError: WORKER_LOST (this party's fault): the process has ended.
        """
        try:
            self._channel.send(header, blobs)
        except ChannelClosed as error:
            raise ConfideError(ErrorCode.WORKER_LOST, "the worker process has ended") from error

    def take(self, *, max_header_bytes: int = MAX_HEADER_BYTES, max_blob_bytes: int | None = None) -> Parcel:
        """Waits for the worker's next parcel.

        Raises:
            ConfideError: WORKER_LOST (this party's fault): the process has ended, or says more than it may.
        """
        try:
            return self._channel.receive(max_header_bytes=max_header_bytes, max_blob_bytes=max_blob_bytes)
        except ChannelClosed as error:
            raise ConfideError(ErrorCode.WORKER_LOST, "the worker process ended early") from error

    def has_ended(self) -> bool:
        """Returns whether the process has ended, by itself or because it was stopped."""
        with self._lock:
            if self._process is None:
                return True
            ended = select.poll()
            ended.register(self._process, select.POLLIN)
            return bool(ended.poll(0))

    def stop(self) -> None:
        """Ends the process at once; safe to call again."""
        with self._lock:
            if self._process is not None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._process, signal.SIGKILL)
                os.close(self._process)
                self._process = None
        self._channel.close()

    def _expect_birth(self) -> int:
        self._socket.settimeout(BIRTH_TIMEOUT_S)
        pid = self.take().header["pid"]
        self._socket.settimeout(None)
        return int(pid)


class Template:
    """The process that a party's workers are forked from; started when it is first needed, and again if it is gone."""

    def __init__(self, log: Path) -> None:
        """Takes the file that workers' own words go to; they hold no values."""
        self._log = log
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Starts the process, which then takes some seconds to load its libraries; returns at once."""
        with self._lock:
            self._running()

    def fork(self) -> Worker:
        """Returns a new worker.

        Raises:
            ConfideError: WORKER_LOST or SETUP_INCOMPLETE (this party's fault): none can be started.
        """
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            try:
                socket.send_fds(self._running(), [b"f"], [theirs.fileno()])
            except OSError as error:
                raise ConfideError(ErrorCode.WORKER_LOST, "the template of the workers has ended") from error
        try:
            return Worker(Channel(ours), ours)
        except ConfideError:
            ours.close()
            raise

    def stop(self) -> None:
        """Ends the process; its workers end by themselves with their channels."""
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            if self._control is not None:
                self._control.close()
            self._process = self._control = None

    def _running(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-I", "-m", "parties.worker"]
        with theirs, self._log.open("ab") as sink:
            self._process = subprocess.Popen(  # noqa: S603  (our own interpreter and module)
                command, stdin=theirs.fileno(), stdout=sink, stderr=sink, env=ENVIRONMENT, cwd="/", start_new_session=True
            )
        self._control = ours
        return ours


def watch(worker: Worker, *, on_parcel: Callable[[Parcel], None], on_lost: Callable[[ConfideError], None]) -> None:
    """Hands on what a session worker says until it says its last word or is lost; returns at once."""

    def listen() -> None:
        while True:
            try:
                parcel = worker.take()
            except ConfideError as error:
                on_lost(error)
                return
            try:
                on_parcel(parcel)
            except Exception as error:  # ours, or a worker that was taken over: either way the session must end, not wait
                _log.error("defect", on="worker", path=defect.path(error), error=type(error).__name__)
                on_lost(ConfideError(ErrorCode.INTERNAL, defect.place(error)))
                return
            if parcel.header["event"] in ("finished", "failed"):
                return

    Thread(target=listen, daemon=True).start()


def derive_plan(job: Job, *, template: Template) -> bytes:
    """Derives a job's plan in a worker of its own and returns its canonical bytes.

    CrypTen's state is global to a process, and so is a fault in it; a party process never imports it.

    Raises:
        ConfideError: what the derivation found, or WORKER_LOST (this party's fault).
    """
    worker = template.fork()
    limit = Timer(PLAN_TIMEOUT_S, worker.stop)
    limit.daemon = True
    limit.start()
    try:
        worker.give({"task": "plan"}, {"job": job.to_bytes()})
        parcel = worker.take()
    finally:
        limit.cancel()
        worker.stop()
    if parcel.header["event"] == "failed":
        raise failure(parcel)
    return parcel.blobs["plan"]


def failure(parcel: Parcel) -> ConfideError:
    """Returns the failure that a worker reported."""
    header = parcel.header
    code = ErrorCode.__members__.get(header["code"], ErrorCode.INTERNAL)
    return ConfideError(code, str(header["text"]), party=str(header["accused"]))
