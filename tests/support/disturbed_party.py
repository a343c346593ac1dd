"""A party process that misbehaves to order: the real program with a few functions wrapped. A test-only variant.

Orders are files in `orders/` beside the configuration; each is looked at whenever it could apply, so a test writes and
removes them while the party serves.

    hold-<Event>    events of this kind do not reach the session machine until the file is gone: pauses a session in a phase
    frame           <fault> <number>: the next frame that a worker sends is replayed, reordered, duplicated, altered, oversized
    message         <fault> <number>: the same for the next control message to another party
    clock           <seconds>: the clock of this party is ahead by so much, or behind
    version         at the start: workers speak another protocol version
    certificate.pem and tls.pem    at the start: what the party shows in place of its own certificate
"""

from __future__ import annotations

import argparse
import struct
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

from parties.config import load_party_config
from parties.server import serve as serving
from parties.transport.streams import WorkerEnd
from parties.transport.tls import TlsIdentity
from parties.wire.methods import Method
from protocols.session import events as on
from protocols.session.machine import SessionMachine

_OVERSIZE_BYTES = 2 << 20
_LENGTH = struct.Struct("<I")
_LOOK_AGAIN_S = 0.05
_OURS = ("governance", "parties", "privacy", "protocols")
_WORDS = (on.WorkerPrepared, on.WorkerRunning, on.WorkerFinished, on.OutputWithheld, on.WorkerFailed)
_OTHER_VERSION = Path(__file__).with_name("other_version_worker.py")


class Orders:
    """The folder of orders."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, name: str) -> Path:
        return self._folder / name

    def stands(self, name: str) -> bool:
        return self.file(name).exists()

    def text(self, name: str) -> str:
        try:
            return self.file(name).read_text()
        except FileNotFoundError:
            return ""

    def take(self, name: str) -> tuple[str, int] | None:
        """Uses up an order of the form `<fault> <number>`."""
        words = self.text(name).split()
        if len(words) != 2:
            return None
        with suppress(FileNotFoundError):
            self.file(name).unlink()
            return words[0], int(words[1])
        return None  # another thread was faster


def hold_events(orders: Orders) -> None:
    """Keeps events from session machines while there is an order to; they follow in their order afterwards."""
    handle, next_deadline = SessionMachine.handle, SessionMachine.next_deadline

    def held(machine: SessionMachine) -> list[on.Event]:
        waiting: list[on.Event] = machine.__dict__.setdefault("held_back", [])
        return waiting

    def is_held(event: on.Event) -> bool:
        return orders.stands(f"hold-{type(event).__name__}")

    def must_wait(event: on.Event, waiting: list[on.Event]) -> bool:
        # A worker's words keep their order; only its signs of life overtake.
        return is_held(event) or (bool(waiting) and isinstance(event, _WORDS))

    def holding_handle(self: SessionMachine, event: on.Event, now: float) -> tuple[Any, ...]:
        actions: list[Any] = []
        waiting = held(self)
        while waiting and not is_held(waiting[0]):
            actions += handle(self, waiting.pop(0), now)
        if must_wait(event, waiting):
            waiting.append(event)
            event = on.Tick()
        if waiting and isinstance(waiting[0], on.WorkerFinished):
            # A worker that is not through yet would go on showing that it lives.
            actions += handle(self, on.WorkerProgress(waiting[0].number, 0), now)
        return (*actions, *handle(self, event, now))

    def holding_deadline(self: SessionMachine) -> float | None:
        due: float | None = next_deadline.__get__(self)
        waiting = held(self)
        if not waiting:
            return due
        again = time.time() + _LOOK_AGAIN_S if is_held(waiting[0]) else 0.0
        return again if due is None else min(due, again)

    SessionMachine.handle = holding_handle  # type: ignore[method-assign]
    SessionMachine.next_deadline = property(holding_deadline)  # type: ignore[method-assign,assignment]


def flipped(data: bytes, at: int) -> bytes:
    """Flips one bit."""
    bit = at % (8 * len(data))
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


class Disturber:
    """Cuts what one worker says into frames, and changes those that an order names."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._begun = b""
        self._first = self._kept = b""

    def changed(self, data: bytes) -> bytes:
        """Returns the whole frames that these bytes complete, as they leave the party."""
        self._begun += data
        found: list[bytes] = []
        while len(self._begun) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._begun)[0]
            if len(self._begun) < end:
                break
            found += self._disturbed(self._begun[_LENGTH.size : end])
            self._begun = self._begun[end:]
        return b"".join(_LENGTH.pack(len(frame)) + frame for frame in found)

    def _disturbed(self, frame: bytes) -> tuple[bytes, ...]:
        self._first = self._first or frame
        order = self._orders.take("frame")
        if self._kept:
            kept, self._kept = self._kept, b""
            return (frame, kept)
        match order:
            case None:
                return (frame,)
            case ("altered", at):
                return (flipped(frame, at),)
            case ("duplicated", _):
                return (frame, frame)
            case ("replayed", _):
                return (frame, self._first)
            case ("reordered", _):
                self._kept = frame
                return ()
            case _:
                return (frame + bytes(_OVERSIZE_BYTES),)


def disturb_frames(orders: Orders) -> None:
    """Changes what leaves a worker, behind the worker's own checks."""
    read = WorkerEnd.read
    disturbers: WeakKeyDictionary[WorkerEnd, Disturber] = WeakKeyDictionary()

    def disturbed(self: WorkerEnd) -> memoryview | None:
        data = read(self)
        if not data:
            return data
        changed = disturbers.setdefault(self, Disturber(orders)).changed(bytes(data))
        return memoryview(changed) if changed else None  # an empty one would be the end

    WorkerEnd.read = disturbed  # type: ignore[method-assign]


def disturb_messages(orders: Orders) -> None:
    """Changes what this party says to another about a session."""
    call = Method.call
    first: list[tuple[Any, Any, str]] = []
    kept: list[tuple[Any, Any, str]] = []

    def disturbed(self: Method[Any, Any], channel: Any, request: Any, *, party: str, timeout_s: float) -> Any:
        def send(to: Any, message: Any, name: str) -> Any:
            return call(self, to, message, party=name, timeout_s=timeout_s)

        if self.name != "Deliver":
            return send(channel, request, party)
        if not first:
            first.append((channel, request, party))
        order = orders.take("message")
        match order:
            case ("altered", at):
                request = type(request).FromString(request.SerializeToString())
                request.message.body = flipped(request.message.body, at)
            case ("duplicated", _):
                send(channel, request, party)
            case ("replayed", _):
                send(*first[0])
            case ("reordered", _):
                kept.append((channel, request, party))
                return self.reply()
            case ("oversized", _):
                request = type(request).FromString(request.SerializeToString())
                request.initial_weights = bytes(5 << 20)
        reply = send(channel, request, party)
        while kept and order is None:
            send(*kept.pop())
        return reply

    Method.call = disturbed  # type: ignore[method-assign]


def shift_clock(orders: Orders) -> None:
    """Shows our modules another time; libraries and the kernel keep theirs."""
    seen = [0.0, 0.0]

    def shift_s() -> float:
        if time.monotonic() > seen[0]:
            seen[:] = [time.monotonic() + _LOOK_AGAIN_S, float(orders.text("clock") or 0)]
        return seen[1]

    class AlsoPlain(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, datetime)

    class Shifted(datetime, metaclass=AlsoPlain):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=shift_s())

    names = {name: getattr(time, name) for name in dir(time)}
    shifted = SimpleNamespace(**names | {"time": lambda: time.time() + shift_s()})
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in _OURS:
            if getattr(module, "time", None) is time:
                module.time = shifted  # type: ignore[attr-defined]
            if getattr(module, "datetime", None) is datetime:
                module.datetime = Shifted  # type: ignore[attr-defined]


def speak_another_version() -> None:
    """Starts a template whose workers greet with another protocol version."""
    popen = subprocess.Popen

    def other(command: list[str], **named: Any) -> Any:
        if command[-1] == "parties.worker":
            command = [sys.executable, "-I", str(_OTHER_VERSION)]
        return popen(command, **named)

    subprocess.Popen = other  # type: ignore[assignment,misc]


def show_another_certificate(orders: Orders) -> None:
    def shown(*, private_key: bytes, certificate: bytes, ca_certificate: bytes) -> TlsIdentity:
        return TlsIdentity(orders.file("tls.pem").read_bytes(), orders.file("certificate.pem").read_bytes(), ca_certificate)

    serving.TlsIdentity = shown  # type: ignore[assignment,misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    config_file: Path = parser.parse_args().config
    orders = Orders(config_file.parent / "orders")
    hold_events(orders)
    disturb_frames(orders)
    disturb_messages(orders)
    if orders.stands("version"):
        speak_another_version()
    if orders.stands("certificate.pem"):
        show_another_certificate(orders)
    config = load_party_config(config_file)
    shift_clock(orders)
    serving.serve(config)


if __name__ == "__main__":
    main()
