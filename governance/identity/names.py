"""Names of members: ids, roles, URIs in certificates, TLS names, endpoints, fingerprints as people read them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import ID_PATTERN

FOUNDER = "founder"
FINGERPRINT_DIGITS = 64
_GROUP = 4
_URI = re.compile(r"confide://([a-z0-9-]{1,63})/(party|researcher)/([a-z0-9-]{1,63})")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_ZONE = re.compile(r"[A-Za-z0-9._-]{1,15}")  # the name of an interface; the library takes anything, also what ends a line
_FINGERPRINT = re.compile(rf"[0-9a-f]{{{FINGERPRINT_DIGITS}}}")
_SEPARATORS = str.maketrans("", "", " -:\t\n")


class MemberKind(Enum):
    """What a member of the consortium is."""

    PARTY = "party"
    RESEARCHER = "researcher"


class Role(Enum):
    """What a party may do in sessions; one party may hold several, never dealer and computing in one session."""

    DATA_OWNER = "data-owner"
    COMPUTING = "computing"
    DEALER = "dealer"


@dataclass(frozen=True)
class PeerIdentity:
    """Who a certificate speaks for; public.

    Attributes:
        kind: party or researcher.
        consortium: id of the consortium.
        id: the member's id.
    """

    kind: MemberKind
    consortium: str
    id: str

    @property
    def uri(self) -> str:
        """The URI in the certificate's subject alternative name."""
        return f"confide://{self.consortium}/{self.kind.value}/{self.id}"

    @staticmethod
    def from_uri(uri: str) -> PeerIdentity:
        """Reads the URI of a certificate, exactly.

        Raises:
            ConfideError: UNAUTHENTICATED (the caller's fault).
        """
        match = _URI.fullmatch(uri)
        if match is None or not all(ID_PATTERN.fullmatch(match[group]) for group in (1, 3)):
            raise ConfideError(ErrorCode.UNAUTHENTICATED, "the certificate's URI does not name a member of a consortium")
        return PeerIdentity(MemberKind(match[2]), match[1], match[3])


def tls_name(party: str) -> str:
    """Returns the DNS name in a party's certificate; clients set it as the expected name, whatever the endpoint is."""
    return f"{party}.party.confide.internal"


def grouped(fingerprint: str) -> str:
    """Returns a fingerprint in groups of four digits, as people read it out; the hyphens survive a shell unquoted."""
    return "-".join(fingerprint[start : start + _GROUP] for start in range(0, len(fingerprint), _GROUP))


def parse_fingerprint(shown: str) -> str:
    """Reads a fingerprint that a person typed or pasted; spaces, hyphens, colons and case do not matter, every digit does.

    Returns:
        64 hexadecimal digits.

    Raises:
        ConfideError: INVALID_ARGUMENT: not a whole fingerprint.
    """
    digits = shown.translate(_SEPARATORS).lower()
    if not _FINGERPRINT.fullmatch(digits):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"a fingerprint has {FINGERPRINT_DIGITS} hexadecimal digits; give all")
    return digits


def require_fingerprint(shown: str, computed: str, *, of_what: str) -> None:
    """Checks a fingerprint that a person typed or pasted against the one of the thing itself.

    Args:
        shown: what was read out, see `parse_fingerprint`.
        computed: 64 hexadecimal digits.
        of_what: what it belongs to, for the error.

    Raises:
        ConfideError: FINGERPRINT_DIFFERS, or INVALID_ARGUMENT if it is not a whole fingerprint.
    """
    if parse_fingerprint(shown) != computed:
        raise ConfideError(ErrorCode.FINGERPRINT_DIFFERS, f"the fingerprint of {of_what} is another one")


def check_id(where: str, value: str) -> Iterable[Problem]:
    """Yields what is wrong with an identifier."""
    if not ID_PATTERN.fullmatch(value):
        yield Problem(where, "an identifier is 1 to 63 of a-z, 0-9 and -, not at the ends", "choose another")
    elif value == FOUNDER:
        yield Problem(where, f"{FOUNDER} is reserved for the signer of the directory", "choose another")


def check_endpoint(where: str, value: str) -> Iterable[Problem]:
    """Yields what is wrong with a `host:port`; an IPv6 address stands in brackets."""
    host, _, port = value.rpartition(":")
    if not _PORT.fullmatch(port) or int(port) > 65_535:
        yield Problem(where, "the port must be a number from 1 to 65535", "write host:port")
    if not _is_host(host):
        yield Problem(where, "the host is neither a name nor an address", "write host:port, an IPv6 address in brackets")


def _is_host(host: str) -> bool:
    if host.startswith("[") and host.endswith("]"):
        try:
            address = ipaddress.ip_address(host[1:-1])
        except ValueError:
            return False
        return address.version == 6 and (address.scope_id is None or _ZONE.fullmatch(address.scope_id) is not None)
    return _HOST.fullmatch(host) is not None
