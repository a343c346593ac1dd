"""The template of a party's workers, and what a worker does from its first to its last moment.

Loading the tensor libraries takes seconds, so one process loads them once, confines itself, and then does nothing but fork: a
worker is a fork of a process that has never held a secret, serves one task and ends. The template has one thread and no state
that matters, so every worker starts from the same clean memory (docs/adr/0009-worker-template.md).
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from threading import Thread

from parties import defect
from parties.worker.channel import Channel, ChannelClosed, Parcel
from parties.worker.confinement import confine
from parties.worker.evaluator import evaluate
from parties.worker.serving import serve
from parties.worker.task import plan, run
from protocols.errors import ConfideError, ErrorCode


def main() -> None:
    """Forks a worker for every socket that arrives on standard input; ends with the party process."""
    control = socket.socket(fileno=os.dup(0))
    confine()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the workers
    gc.freeze()  # what is loaded stays shared with the workers
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            os.close(0)
            _serve(socket.socket(fileno=descriptors[0]))
            sys.stderr.flush()
            os._exit(0)
        os.close(descriptors[0])


def _serve(endpoint: socket.socket) -> None:
    """Does the one task of this worker; says `finished` or `failed` as its last word."""
    channel = Channel(endpoint)
    try:
        channel.send({"event": "born", "pid": os.getpid()})
        parcel = channel.receive()
        endpoints = _take_sockets(endpoint, parcel)
        if parcel.header["task"] == "serving":
            serve(parcel, endpoints, channel)  # listens to the party process itself
            return
        if parcel.header["task"] == "evaluate":
            evaluate(parcel, endpoint, channel)
        Thread(target=_end_with_party, args=(channel,), daemon=True).start()
        if parcel.header["task"] == "plan":
            plan(parcel, channel)
        else:
            run(parcel, endpoints, channel)
    except ChannelClosed:
        return  # the party process is gone; there is nobody to tell
    except ConfideError as error:
        _say_failed(channel, error.code, _in_one_line(error), error.party)
    except Exception as error:
        sys.stderr.write("\n".join([*defect.path(error), type(error).__name__, ""]))
        _say_failed(channel, ErrorCode.INTERNAL, defect.place(error), "")


def _take_sockets(endpoint: socket.socket, parcel: Parcel) -> list[socket.socket]:
    taken = []
    for _ in range(parcel.header["sockets"]):
        _, descriptors, _, _ = socket.recv_fds(endpoint, 1, 1)
        taken.append(socket.socket(fileno=descriptors[0]))
    return taken


def _end_with_party(channel: Channel) -> None:
    # The party process says nothing after the task, so the only thing to come is its end, even by kill -9.
    try:
        channel.receive()
    except ChannelClosed:
        os._exit(1)


def _say_failed(channel: Channel, code: ErrorCode, text: str, accused: str) -> None:
    try:
        channel.send({"event": "failed", "code": code.name, "text": text, "accused": accused})
    except ChannelClosed:
        return


def _in_one_line(error: ConfideError) -> str:
    return "; ".join([error.what, *(str(problem) for problem in error.problems)])


if __name__ == "__main__":
    main()
