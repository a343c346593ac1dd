"""What the connections to the other parties are like, in both directions, against thresholds.

For one peer, in the order in which a connection comes about: name and port, TLS with the certificate that the peer shows, then
what calls measure. The peer measures the way back itself, on a connection that it opens to the endpoint in the directory.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from governance.admission import CLOCK_SKEW
from governance.identity.certificates import parse_certificate
from governance.identity.names import MemberKind, tls_name
from parties.client.measure import CALL_TIMEOUT_S, Measurement, from_wire, measure
from parties.config import PartyConfig
from parties.operating.finding import Finding, Verdict, checked
from parties.operating.own import tls_identity
from parties.storage.state import Member, MemberFolder
from parties.transport.dialling import reach
from parties.transport.proxies import proxy_for, unused_setting
from parties.transport.tls import LINK_PROTOCOL, dialling_context, open_channel
from parties.wire.methods import PROBE
from protocols import PROTOCOL_VERSION
from protocols.errors import ConfideError, ErrorCode

CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Thresholds:
    """What a connection must reach; figures of `docs/operators.md`.

    Attributes:
        max_round_trip_s: every round of a session takes one.
        min_bytes_per_s: in each direction.
        min_message_bytes: the largest message that must come through.
        max_clock_offset_s: half of what admission permits, so that drift is seen in time.
        min_certificate_days: how long both certificates must be valid.
    """

    max_round_trip_s: float = 0.25
    min_bytes_per_s: float = 1e6
    min_message_bytes: int = 4 << 20
    max_clock_offset_s: float = CLOCK_SKEW.total_seconds() / 2
    min_certificate_days: int = 7


@dataclass(frozen=True)
class Diagnosis:
    """The findings about one peer: the way there, then the way back."""

    peer: str
    endpoint: str
    findings: tuple[Finding, ...]


def diagnose_peer(
    config: PartyConfig, member: Member, peer: str, *, limits: Thresholds, idle_s: float, now: datetime
) -> Diagnosis:
    """Examines the connection to one peer; takes about twice `idle_s` and some seconds.

    Args:
        config: of this party.
        member: its identity.
        peer: id of another party of the directory.
        limits: what must be reached.
        idle_s: how long a stream is left without traffic, in each direction.
        now: the time, UTC.

    Raises:
        ConfideError: NOT_ENROLLED: no such party.
    """
    endpoint = member.directory.party(peer).endpoint
    return Diagnosis(peer, endpoint, tuple(_examine(config.folder.member, member, peer, endpoint, limits, idle_s, now)))


def _examine(
    folder: MemberFolder, member: Member, peer: str, endpoint: str, limits: Thresholds, idle_s: float, now: datetime
) -> Iterator[Finding]:
    own_until = parse_certificate(member.certificate).not_after
    yield _certificate("own certificate", own_until, limits, now)
    reached = checked("address and port", lambda: _reach(endpoint))
    yield reached
    if reached.verdict is Verdict.FAIL:
        return
    shaken = checked("TLS", lambda: _shake_hands(folder, member, peer, endpoint, limits, now))
    yield shaken
    if shaken.verdict is Verdict.FAIL:
        return
    yield checked("links", lambda: _name_links(member, peer, endpoint))
    try:
        with open_channel(tls_identity(member), endpoint=endpoint, party=peer) as channel:
            yield from _figures("there", measure(channel, party=peer, idle_s=idle_s), member, limits, now)
            request = PROBE.request(measure_back=True, idle_ms=int(idle_s * 1000))
            timeout_s = idle_s + 8 * CALL_TIMEOUT_S
            back = from_wire(PROBE.call(channel, request, party=peer, timeout_s=timeout_s).back, party=peer)
    except ConfideError as error:
        yield Finding("calls", Verdict.FAIL, f"{error.code.name}: {error.what}", error.remedy)
        return
    if isinstance(back, ConfideError):
        remedy = "See that this party serves, and that its endpoint in the directory can be reached from there."
        yield Finding("back: connection", Verdict.FAIL, f"{peer} reports {back.code.name}: {back.what}", remedy)
        return
    yield from _figures("back", back, member, limits, now)


def _reach(endpoint: str) -> Finding:
    check, proxy = "address and port", proxy_for(endpoint)
    if proxy is not None:
        way = f"{endpoint} through the proxy {proxy.address}"
    else:
        host, _, port = endpoint.rpartition(":")
        try:
            addresses = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            return Finding(check, Verdict.FAIL, f"{host} has no address: {error.strerror}", "Correct DNS or the endpoint.")
        way = f"{endpoint} ({addresses[0][4][0]})"
    began = time.perf_counter()
    try:
        _dial(endpoint).close()
    except TimeoutError:
        what = f"{way} does not answer within {CONNECT_TIMEOUT_S:.0f} s"
        return Finding(check, Verdict.FAIL, what, "Open the firewall between the two, in this direction.")
    except OSError as error:
        what = f"{way}: {error.strerror or type(error).__name__}"
        return Finding(check, Verdict.FAIL, what, "See that the party serves there.")
    took = time.perf_counter() - began
    unused = unused_setting()
    if unused:
        what = f"{way} accepts in {took * 1e3:.1f} ms, directly: `{unused}` names no HTTP proxy"
        return Finding(check, Verdict.WARN, what, "Write `http://[name:password@]host[:port]`, or nothing if there is no proxy.")
    return Finding(check, Verdict.PASS, f"{way} accepts in {took * 1e3:.1f} ms")


def _dial(endpoint: str) -> socket.socket:
    connection = reach(endpoint, deadline=time.monotonic() + CONNECT_TIMEOUT_S)
    connection.settimeout(CONNECT_TIMEOUT_S)
    return connection


def _shake_hands(folder: MemberFolder, member: Member, peer: str, endpoint: str, limits: Thresholds, now: datetime) -> Finding:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=member.directory.ca_certificate)
    context.load_cert_chain(folder.certificate_file, folder.tls_key_file)
    try:
        with (
            _dial(endpoint) as plain,
            context.wrap_socket(plain, server_hostname=tls_name(peer)) as shaken,
        ):
            shown, version, protocol = shaken.getpeercert(binary_form=True), shaken.version(), shaken.selected_alpn_protocol()
    except ssl.SSLCertVerificationError as error:
        what = f"what answers does not show {peer}'s certificate: {error.verify_message}"
        return Finding("TLS", Verdict.FAIL, what, "A proxy that opens TLS, another consortium, or an expired certificate.")
    except ssl.SSLError as error:
        return Finding("TLS", Verdict.FAIL, f"handshake failed: {error.reason or type(error).__name__}", "A proxy in between?")
    if shown is None or protocol != "h2":
        return Finding("TLS", Verdict.FAIL, "what answers does not speak HTTP/2", "Let the proxy pass TLS through.")
    pem = ssl.DER_cert_to_PEM_cert(shown)
    identity = member.directory.check_peer(pem, now)
    if identity.kind is not MemberKind.PARTY or identity.id != peer:
        raise ConfideError(ErrorCode.UNAUTHENTICATED, f"{identity.id} answers in place of {peer}", party=peer)
    found = _certificate("TLS", parse_certificate(pem).not_after, limits, now)
    return Finding(
        "TLS", found.verdict, f"{version}, {peer}'s certificate with the key in the directory; {found.what}", found.remedy
    )


def _name_links(member: Member, peer: str, endpoint: str) -> Finding:
    """Finds out whether a connection that names the protocol of links arrives: what stands in between may know calls alone."""
    try:
        with (
            _dial(endpoint) as plain,
            dialling_context(tls_identity(member)).wrap_socket(plain, server_hostname=tls_name(peer)) as shaken,
        ):
            protocol = shaken.selected_alpn_protocol()
    except OSError as error:
        what = f"a connection that names {LINK_PROTOCOL} is ended: {type(error).__name__}"
        return Finding("links", Verdict.FAIL, what, "Let the proxy pass TLS through, whatever protocol it names.")
    if protocol != LINK_PROTOCOL:
        return Finding("links", Verdict.FAIL, f"what answers does not speak {LINK_PROTOCOL}", "Let the proxy pass TLS through.")
    return Finding("links", Verdict.PASS, f"{LINK_PROTOCOL} is spoken")


def _certificate(check: str, until: datetime, limits: Thresholds, now: datetime) -> Finding:
    left = until - now
    sound = left >= timedelta(days=limits.min_certificate_days)
    what = f"valid for {left.days} more days (at least {limits.min_certificate_days})"
    return Finding(check, Verdict.PASS if sound else Verdict.FAIL, what, "" if sound else "Have the founder renew it.")


def _figures(way: str, found: Measurement, member: Member, limits: Thresholds, now: datetime) -> Iterator[Finding]:
    def finding(check: str, sound: bool, what: str, remedy: str) -> Finding:
        return Finding(f"{way}: {check}", Verdict.PASS if sound else Verdict.FAIL, what, "" if sound else remedy)

    what = f"Confide {found.software_version}, protocol {found.protocol_version} (must be {PROTOCOL_VERSION})"
    yield finding("version", found.protocol_version == int(PROTOCOL_VERSION), what, "Upgrade the older one.")
    version = member.directory.version
    what = f"version {found.directory_version} (must be {version})"
    yield finding("directory", found.directory_version == version, what, "Import the newest directory everywhere.")
    yield _certificate(f"{way}: certificate", found.certificate_until, limits, now)
    what = f"{found.round_trip_s * 1e3:.2f} ms (at most {limits.max_round_trip_s * 1e3:.0f})"
    yield finding("round trip", found.round_trip_s <= limits.max_round_trip_s, what, "Sessions will be slow: look at the route.")
    for name, rate in (("sending", found.sent_bytes_per_s), ("receiving", found.received_bytes_per_s)):
        what = f"{rate / 1e6:,.1f} MB/s (at least {limits.min_bytes_per_s / 1e6:.1f})"
        yield finding(name, rate >= limits.min_bytes_per_s, what, "Look at the line and at proxies.")
    # A message holds a little more than the padding that it carries.
    least = limits.min_message_bytes - 1024
    what = f"{found.largest_message_bytes:,} bytes (at least {least:,})"
    yield finding("largest message", found.largest_message_bytes >= least, what, "Raise the proxy's limit on message sizes.")
    what = f"a stream {'outlives' if found.outlived_idle else 'is cut within'} {found.idle_s:.0f} s of silence"
    remedy = "A proxy cuts idle connections: raise its limit above 20 s (keepalive is sent every 15 s)."
    yield finding("idle limit", found.outlived_idle, what, remedy)
    bound = limits.max_clock_offset_s
    what = f"{found.clock_offset_s:+.3f} s, within {found.clock_error_s:.3f} s (at most {bound:.0f})"
    yield finding("clock", abs(found.clock_offset_s) - found.clock_error_s <= bound, what, "Set both clocks by NTP.")
