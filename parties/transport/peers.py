"""Channels to the other members' public ports, opened when first needed and kept, and the routes of links to them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from threading import Lock

import grpc

from governance.identity.certificates import parse_certificate
from governance.identity.directory import Directory, PartyEntry
from parties.transport.dialling import Route
from parties.transport.tls import TlsIdentity, open_channel
from protocols.errors import ConfideError, ErrorCode


class Peers:
    """The channels of one member; safe to use from several threads."""

    def __init__(self, identity: TlsIdentity, directory: Callable[[], Directory]) -> None:
        self._identity = identity
        self._directory = directory
        self._lock = Lock()
        self._channels: dict[tuple[str, str], grpc.Channel] = {}
        self._ends: dict[str, datetime] = {}

    def channel(self, party: str) -> grpc.Channel:
        """Returns the channel to a party at the endpoint that the directory gives now.

        Raises:
            ConfideError: NOT_ENROLLED; UNAUTHENTICATED (that party's fault): its certificate has ended.
        """
        endpoint = self._current(party).endpoint
        with self._lock:
            if (party, endpoint) not in self._channels:
                self._channels[party, endpoint] = open_channel(self._identity, endpoint=endpoint, party=party)
            return self._channels[party, endpoint]

    def route(self, party: str) -> Route:
        """Returns how a link to a party is opened, at the endpoint that the directory gives now.

        Raises:
            As `channel`.
        """
        entry = self._current(party)
        return Route(self._identity, entry.endpoint, party, entry.certificate)

    def _current(self, party: str) -> PartyEntry:
        entry = self._directory().party(party)
        # TLS looks at the time only when it connects. Its calls are refused here from now on, so it must not be told
        # anything either: a session whose parties hear each other in one direction only would never end.
        with self._lock:
            if entry.certificate not in self._ends:
                self._ends[entry.certificate] = parse_certificate(entry.certificate).not_after
            ends = self._ends[entry.certificate]
        if datetime.now(UTC) > ends:
            raise ConfideError(ErrorCode.UNAUTHENTICATED, f"the certificate of {party} has ended", party=party)
        return entry

    def close(self) -> None:
        """Closes every channel; calls under way fail."""
        with self._lock:
            for channel in self._channels.values():
                channel.close()
            self._channels.clear()
