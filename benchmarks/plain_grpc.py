"""A gRPC stream with the parties' credentials, channel settings and frame size, and nothing else: the floor of a link."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any

import grpc
import numpy as np

from parties.transport.frames import MAX_FRAME_BYTES
from parties.transport.tls import SERVER_OPTIONS, TlsIdentity, open_channel, server_credentials
from tests.support.tls_world import SERVER, a_tls_world

_SERVICE, _METHOD = "confide.bench.Plain", "Stream"


class PlainStream:
    """One side of a gRPC stream whose messages are this process's own: no worker, no socket, no check."""

    def __init__(self) -> None:
        self._outgoing: SimpleQueue[bytes] = SimpleQueue()
        self._incoming: SimpleQueue[bytes] = SimpleQueue()

    def serve(self, incoming: Iterable[bytes], _context: object) -> Iterator[bytes]:
        """Serves the accepting side."""
        self.listen(incoming)
        return self.outgoing()

    def listen(self, incoming: Iterable[bytes]) -> None:
        """Takes what comes, in a thread of its own."""
        Thread(target=self._take, args=(incoming,), daemon=True).start()

    def outgoing(self) -> Iterator[bytes]:
        """Yields what is sent, for as long as the process lives."""
        while True:
            yield self._outgoing.get()

    def send(self, array: np.ndarray) -> None:
        """Sends one array in frames."""
        for start in range(0, len(array), MAX_FRAME_BYTES):
            self._outgoing.put(array[start : start + MAX_FRAME_BYTES].tobytes())

    def receive(self, size: int) -> np.ndarray:
        """Waits for one array."""
        found, at = np.empty(size, np.uint8), 0
        while at < size:
            frame = self._incoming.get()
            found[at : at + len(frame)] = np.frombuffer(frame, np.uint8)
            at += len(frame)
        return found

    def _take(self, incoming: Iterable[bytes]) -> None:
        with suppress(grpc.RpcError):
            for frame in incoming:
                self._incoming.put(frame)


@contextmanager
def accepting(stream: PlainStream) -> Iterator[dict[str, Any]]:
    """Serves the stream on a port of its own; yields the endpoint and the identity that the other side must show."""
    world = a_tls_world()
    server = grpc.server(ThreadPoolExecutor(2), options=SERVER_OPTIONS)
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(stream.serve)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: handler})])
    port = server.add_secure_port("127.0.0.1:0", server_credentials(world.server))
    server.start()
    shown = (world.peer.private_key, world.peer.certificate, world.peer.ca_certificate)
    try:
        yield {"endpoint": f"127.0.0.1:{port}", "identity": [pem.decode() for pem in shown]}
    finally:
        server.stop(0).wait()


@contextmanager
def dialling(stream: PlainStream, said: dict[str, Any]) -> Iterator[None]:
    """Opens the stream to what `accepting` has told."""
    identity = TlsIdentity(*(pem.encode() for pem in said["identity"]))
    with open_channel(identity, endpoint=said["endpoint"], party=SERVER) as channel:
        call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            f"/{_SERVICE}/{_METHOD}", request_serializer=None, response_deserializer=None
        )
        stream.listen(call(stream.outgoing(), wait_for_ready=True))
        yield
