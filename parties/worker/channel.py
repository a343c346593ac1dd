"""The local channel between a party process and its worker: one header, named byte strings.

Both ends are our own program on one machine, joined by an inherited socket pair; it carries secrets (rows, shares, keys'
inputs) and is never a network socket. The header is JSON without secrets; secrets are blobs.

    header length 4 | header | blob | blob ...      (header["blobs"] lists name and length, in order)
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

MAX_HEADER_BYTES = 16 << 20
MAX_BLOB_BYTES = 4 << 30


@dataclass(frozen=True)
class Parcel:
    """One message of the channel; blobs are secret and never shown."""

    header: Mapping[str, Any]
    blobs: Mapping[str, bytes] = field(default_factory=dict, repr=False)


class ChannelClosed(Exception):
    """The other process is gone."""


class Channel:
    """One end of the channel; sending is safe from several threads, receiving from one."""

    def __init__(self, endpoint: socket.socket) -> None:
        self._socket = endpoint
        self._lock = Lock()

    def send(self, header: Mapping[str, Any], blobs: Mapping[str, bytes | bytearray] | None = None) -> None:
        """Sends one parcel.

        Raises:
            ChannelClosed: the other process is gone.
        """
        blobs = blobs or {}
        text = json.dumps({**header, "blobs": [[name, len(blob)] for name, blob in blobs.items()]}).encode()
        try:
            with self._lock:
                self._socket.sendall(struct.pack("<I", len(text)) + text)
                for blob in blobs.values():
                    self._socket.sendall(blob)
        except OSError as error:
            raise ChannelClosed from error

    def receive(self, *, max_header_bytes: int = MAX_HEADER_BYTES, max_blob_bytes: int | None = None) -> Parcel:
        """Waits for one parcel.

        Args:
            max_header_bytes: of its header.
            max_blob_bytes: of all its blobs together, which are held in memory; None for 4 GiB of each.

        Raises:
            ChannelClosed: the other process is gone, or what it sent is no parcel, or a larger one.
        """
        (length,) = struct.unpack("<I", self._read(4))
        if length > max_header_bytes:
            raise ChannelClosed
        header, sizes = _parse(self._read(length))
        if max_blob_bytes is not None and sum(sizes.values()) > max_blob_bytes:
            raise ChannelClosed
        return Parcel(header, {name: self._read(size) for name, size in sizes.items()})

    def close(self) -> None:
        """Ends the channel for both sides."""
        with suppress(OSError):  # the other side was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _read(self, length: int) -> bytes:
        data = bytearray(length)
        view = memoryview(data)
        while view:
            try:
                count = self._socket.recv_into(view)
            except OSError as error:
                raise ChannelClosed from error
            if count == 0:
                raise ChannelClosed
            view = view[count:]
        return bytes(data)


def _parse(text: bytes) -> tuple[dict[str, Any], dict[str, int]]:
    """Splits a header from the sizes of its blobs. A worker parses what peers sent, so it may have been taken over."""
    try:
        header = json.loads(text)
        listed = [(name, size) for name, size in header.pop("blobs")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ChannelClosed from error
    sizes = dict(listed) if all(isinstance(name, str) and type(size) is int for name, size in listed) else {}
    if len(sizes) != len(listed) or not all(0 <= size <= MAX_BLOB_BYTES for size in sizes.values()):
        raise ChannelClosed
    return header, sizes
