"""Who holds the places of the public port: anybody may connect, and nobody may keep the others out.

A connection is a stranger's until whoever opened it has shown a certificate of the directory. Strangers of one address have a
quarter of the places at most, and make room for newcomers: at once for one from an address with far fewer, otherwise once they
have had their turn, a second. So silence keeps no place for long, few handshakes are cut short, and most of a flood is only
turned away. A member's connection is never ended for another, but of one member a quarter is counted so; what it opens beyond
stays a stranger's.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

_SHARES = 4
TURN_S = 1.0  # three ways there and back between distant parties, and a busy machine
_NETWORK_BITS = 64  # of an IPv6 address: what one customer is given at least, so each address of it is the same stranger's
Connection = TypeVar("Connection", bound=Hashable)


@dataclass(frozen=True)
class _Place:
    source: str
    since: float
    member: Hashable | None


class Places(Generic[Connection]):
    """The places of one port, as sums over its open connections alone; to be used under a lock."""

    def __init__(self, most: int) -> None:
        """Takes how many connections may be open at once."""
        self._most = most
        self._share = max(1, most // _SHARES)
        self._few = self._share // 64
        self._places: dict[Connection, _Place] = {}
        self._strangers: dict[str, dict[Connection, None]] = {}  # by source; the oldest first, as in all
        self._oldest_first: dict[Connection, None] = {}
        self._members: Counter[Hashable] = Counter()

    def enter(self, connection: Connection, source: str, *, now: float) -> Connection | None:
        """Gives a new connection a place.

        Args:
            connection: what it is known by.
            source: where it comes from (`source_of`).
            now: seconds of a clock that never goes back.

        Returns:
            Who must go, and has no place any more: nobody, a stranger, or the new connection itself if none has had its turn.
        """
        leaving = None
        if len(self._strangers.get(source, ())) >= self._share or len(self._places) >= self._most:
            leaving, turn_s = self._who_makes_room(source)
            if leaving is None or now - self._places[leaving].since < turn_s:
                return connection
            self.leave(leaving)
        self._places[connection] = _Place(source, now, None)
        self._strangers.setdefault(source, {})[connection] = None
        self._oldest_first[connection] = None
        return leaving

    def settle(self, connection: Connection, member: Hashable) -> None:
        """Notes that a connection is a member's; nothing happens if it has gone, or if the member holds its share already."""
        place = self._places.get(connection)
        if place is None or place.member is not None or self._members[member] >= self._share:
            return
        self._forget_stranger(connection, place.source)
        self._places[connection] = _Place(place.source, place.since, member)
        self._members[member] += 1

    def leave(self, connection: Connection) -> None:
        """Frees a connection's place, if it has one still."""
        place = self._places.pop(connection, None)
        if place is None:
            return
        if place.member is None:
            self._forget_stranger(connection, place.source)
            return
        self._members[place.member] -= 1
        if not self._members[place.member]:
            del self._members[place.member]

    def _who_makes_room(self, source: str) -> tuple[Connection | None, float]:
        """Returns the stranger who would have to go and how long it must have been here; nobody if all places are members'."""
        own = self._strangers.get(source, {})
        if len(own) >= self._share:
            return next(iter(own)), TURN_S
        fullest = max(self._strangers.values(), key=len, default={})
        # A newcomer does not wait behind an address that has more than its own will have. A few more are no flood: a party that
        # starts opens several at once.
        if len(fullest) > len(own) + 1 + self._few:
            return next(iter(fullest)), 0.0
        return next(iter(self._oldest_first), None), TURN_S

    def _forget_stranger(self, connection: Connection, source: str) -> None:
        strangers = self._strangers[source]
        del strangers[connection], self._oldest_first[connection]
        if not strangers:
            del self._strangers[source]


def source_of(host: str) -> str:
    """Returns what connections from an address are counted under: the address, of IPv6 its network of 64 bits."""
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:  # a listener for both families shows the older one so
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), _NETWORK_BITS), strict=False))
