"""Channels to the other members' public ports, opened when first needed and kept."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import grpc

from governance.identity.directory import Directory
from parties.transport.tls import TlsIdentity, open_channel


class Peers:
    """The channels of one member; safe to use from several threads."""

    def __init__(self, identity: TlsIdentity, directory: Callable[[], Directory]) -> None:
        self._identity = identity
        self._directory = directory
        self._lock = Lock()
        self._channels: dict[tuple[str, str], grpc.Channel] = {}

    def channel(self, party: str) -> grpc.Channel:
        """Returns the channel to a party at the endpoint that the directory gives now.

        Raises:
            ConfideError: NOT_ENROLLED.
        """
        endpoint = self._directory().party(party).endpoint
        with self._lock:
            if (party, endpoint) not in self._channels:
                self._channels[party, endpoint] = open_channel(self._identity, endpoint=endpoint, party=party)
            return self._channels[party, endpoint]

    def close(self) -> None:
        """Closes every channel; calls under way fail."""
        with self._lock:
            for channel in self._channels.values():
                channel.close()
            self._channels.clear()
