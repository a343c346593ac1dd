"""A party process that writes down everything it handles in the clear, after TLS: what came, what it answered, what went to
its workers and came from them. A test-only variant: it wraps functions of the real program and then runs it.

    recorded/received.bin      requests, and frames of peers, as they leave TLS
    recorded/sent.bin          replies, and frames of the own workers, as they enter TLS
    recorded/to_worker.bin     tasks that workers were given: the own rows are in here, and may be
    recorded/from_worker.bin   what workers said and made
"""

from __future__ import annotations

import argparse
import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from parties.config import load_party_config
from parties.server.serve import serve
from parties.server.workers import Worker
from parties.transport.streams import WorkerEnd
from parties.wire.methods import Method
from parties.worker.channel import Parcel


class Recorder:
    """Appends to the files of one folder; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._files = {name: (folder / f"{name}.bin").open("ab") for name in ("received", "sent", "to_worker", "from_worker")}
        self._lock = Lock()

    def add(self, name: str, *parts: bytes | memoryview) -> None:
        with self._lock:
            for part in parts:
                self._files[name].write(part)
            self._files[name].flush()


def wrap_streams(recorder: Recorder) -> None:
    """Records the frames of links in both directions."""
    read, write = WorkerEnd.read, WorkerEnd.write

    def recorded_read(self: WorkerEnd) -> memoryview | None:
        data = read(self)
        if data:
            recorder.add("sent", data)
        return data

    def recorded_write(self: WorkerEnd, data: memoryview) -> None:
        recorder.add("received", data)
        write(self, data)

    WorkerEnd.read = recorded_read  # type: ignore[method-assign]
    WorkerEnd.write = recorded_write  # type: ignore[method-assign]


def wrap_methods(recorder: Recorder) -> None:
    """Records every request and reply of the public port."""
    unary_handler, stream_handler = Method.unary_handler, Method.stream_handler

    def reading(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        def parse_recorded(data: bytes) -> Any:
            recorder.add("received", data)
            return parse(data)

        return parse_recorded

    def writing(serialise: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
        def serialise_recorded(reply: Any) -> bytes:
            data = serialise(reply)
            recorder.add("sent", data)
            return data

        return serialise_recorded

    def recorded_handler(handler: Any) -> Any:
        read, write = reading(handler.request_deserializer), writing(handler.response_serializer)
        return handler._replace(request_deserializer=read, response_serializer=write)

    def recorded_unary(self: Method[Any, Any], behaviour: Callable[[Any], Any]) -> tuple[str, Any]:
        name, handler = unary_handler(self, behaviour)
        return name, recorded_handler(handler)

    def recorded_stream(self: Method[Any, Any], behaviour: Callable[[Any], Iterator[Any]]) -> tuple[str, Any]:
        name, handler = stream_handler(self, behaviour)
        return name, recorded_handler(handler)

    Method.unary_handler = recorded_unary  # type: ignore[method-assign]
    Method.stream_handler = recorded_stream  # type: ignore[method-assign]


def wrap_workers(recorder: Recorder) -> None:
    """Records what workers are given and say."""
    give, take = Worker.give, Worker.take

    def recorded_give(
        self: Worker, header: Mapping[str, Any], blobs: Mapping[str, bytes], endpoints: Sequence[socket.socket] = ()
    ) -> None:
        recorder.add("to_worker", json.dumps(header).encode(), *blobs.values())
        give(self, header, blobs, endpoints)

    def recorded_take(self: Worker) -> Parcel:
        parcel = take(self)
        recorder.add("from_worker", json.dumps(dict(parcel.header)).encode(), *parcel.blobs.values())
        return parcel

    Worker.give = recorded_give  # type: ignore[method-assign]
    Worker.take = recorded_take  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    config_file: Path = parser.parse_args().config
    recorder = Recorder(config_file.parent / "recorded")
    wrap_streams(recorder)
    wrap_methods(recorder)
    wrap_workers(recorder)
    serve(load_party_config(config_file))


if __name__ == "__main__":
    main()
