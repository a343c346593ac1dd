"""Calls to a public port as the kind of the method asks for."""

from __future__ import annotations

import grpc
import pytest

from parties.wire.status import from_rpc_error
from protocols.errors import ConfideError
from tests.support.link_pairs import SESSION
from tests.support.tls_world import (
    SERVER,
    STREAMING,
)

SESSION_ID = SESSION.hex()


def call(channel: grpc.Channel, method: str, request: bytes = b"", *, timeout_s: float | None = 10.0) -> bytes:
    """Calls a method as its kind is; raises what a client of ours would see."""
    try:
        if method in STREAMING:
            return next(iter(channel.unary_stream(method)(request, timeout=timeout_s)))
        reply: bytes = channel.unary_unary(method)(request, timeout=timeout_s)
        return reply
    except grpc.RpcError as error:
        raise from_rpc_error(error, party=SERVER) from error


def refusal(channel: grpc.Channel, method: str, request: bytes = b"", *, timeout_s: float | None = 10.0) -> ConfideError:
    with pytest.raises(ConfideError) as caught:
        call(channel, method, request, timeout_s=timeout_s)
    return caught.value
