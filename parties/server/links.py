"""Who may open which link: the public port hands connections that speak a link's protocol here."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import structlog

from governance.identity.directory import Directory
from governance.identity.names import MemberKind, PeerIdentity
from parties import defect
from parties.server.access import Observe
from parties.server.stream_limits import stream_limits
from parties.transport.opening import JOINED, OPENING_BYTES, LinkOpening, refused
from parties.transport.streams import LinkTable, WorkerEnd, join
from parties.transport.timing import CONNECT_S
from parties.transport.tls_stream import TlsStream
from protocols.errors import ConfideError, ErrorCode, Kind

LINK = "link"  # what a link is called among the calls that are counted
_OPENING_S = 5.0
_log = structlog.get_logger()


class KnownSessions(Protocol):
    """What a door asks of the sessions."""

    def knows(self, job_id: str) -> bool:
        """Returns whether this party has heard of a session."""


class LinkDoor:
    """Authenticates and authorises every link, then joins it to the worker that expects it."""

    def __init__(
        self,
        directory: Callable[[], Directory],
        sessions: KnownSessions,
        links: LinkTable,
        *,
        observe: Observe = lambda method, code, seconds: None,
    ) -> None:
        """Takes the directory as it is now, the sessions, what they expect, and who is told of every link's end."""
        self._directory = directory
        self._sessions = sessions
        self._links = links
        self._observe = observe
        self._limits = stream_limits()

    def serve(self, stream: TlsStream, settle: Callable[[PeerIdentity], None]) -> None:
        """Serves one connection until it ends; tells `settle` whose it is as soon as it is known to be a member's."""
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=secrets.token_hex(8))
        began, outcome = time.perf_counter(), "OK"
        with stream:
            try:
                self._join(stream, settle)
            except ConfideError as error:
                outcome = error.code.name
                if error.code.kind in (Kind.UNAUTHENTICATED, Kind.DENIED, Kind.INTEGRITY):
                    _log.warning("refused", method=LINK, code=outcome, what=error.what)
                self._refuse(stream, error.code)
            except OSError:
                outcome = ErrorCode.PEER_LOST.name  # before it was joined
            except Exception as error:
                outcome = ErrorCode.INTERNAL.name
                _log.error("defect", method=LINK, path=defect.path(error), error=type(error).__name__)
                self._refuse(stream, ErrorCode.INTERNAL)
            finally:
                self._observe(LINK, outcome, time.perf_counter() - began)

    def _join(self, stream: TlsStream, settle: Callable[[PeerIdentity], None]) -> None:
        caller = self._directory().check_peer(stream.peer_certificate, now=datetime.now(UTC))
        settle(caller)
        structlog.contextvars.bind_contextvars(caller=caller.id)
        opening = self.admit(caller, stream.hear(OPENING_BYTES, time.monotonic() + _OPENING_S))
        with self._limits.one_more(caller):
            endpoint = self._links.take(opening.session, opening.attempt, caller.id)
            with WorkerEnd(endpoint, self._links.counter(caller.id)) as worker:
                stream.say(JOINED, time.monotonic() + CONNECT_S)
                join(worker, stream)

    def admit(self, caller: PeerIdentity, data: bytes) -> LinkOpening:
        """Reads the first words of a link.

        Raises:
            ConfideError: NOT_AUTHORISED: links are for parties; INVALID_ARGUMENT: no opening; UNKNOWN_SESSION, at once: only a
                peer of a known session may wait here for its worker (all of them the caller's fault).
        """
        if caller.kind is not MemberKind.PARTY:
            raise ConfideError(ErrorCode.NOT_AUTHORISED, f"a {caller.kind.value} may not open a link")
        opening = LinkOpening.from_bytes(data)
        if not self._sessions.knows(opening.session):
            raise ConfideError(ErrorCode.UNKNOWN_SESSION, "no link of that session waits for this party")
        return opening

    def _refuse(self, stream: TlsStream, code: ErrorCode) -> None:
        try:
            stream.say(refused(code), time.monotonic() + _OPENING_S)
            stream.finish()
        except OSError:
            pass  # nobody listens any more
