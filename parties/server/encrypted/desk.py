"""Encrypted queries on their way to an evaluator, and their answers on the way out.

    admitted     the enquiry goes on, the id is new, rate and numbers suffice, counting what is under way
    evaluated    in a worker process
    debited      the enquiry still goes on; durable, with an entry in the audit log
    out          to the querier, or kept for her to fetch once

Nothing is debited for what is not answered, and nothing leaves that is not debited. Of a query nothing is kept.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from threading import Lock

import structlog

from governance.documents import SignedDocument
from governance.encrypted.enquiry import verify_enquiry
from parties.config import PartyConfig
from parties.server.capacity import machine_memory
from parties.server.encrypted.enquiries import HOUR, Admitted, Enquiries
from parties.server.encrypted.figures import ANSWERED, Figures, Observe
from parties.server.encrypted.keepers import Keepers
from parties.server.encrypted.kept import KeptAnswers
from parties.server.encrypted.keys import Uploads
from parties.server.encrypted.pool import EvaluatorPool, Work
from parties.server.encrypted.rates import Rate
from parties.server.encrypted.said import Asked, Part, Standing
from parties.server.party import Party
from parties.server.terms import log_defect
from parties.server.workers import Template
from protocols.ckks.wire_header import MessageKind
from protocols.errors import ConfideError, ErrorCode

MAX_OPENINGS_PER_MINUTE = 60  # of one researcher: each is a transaction and an entry in the audit log
_MIB = 1 << 20
_DIGEST, _REQUEST = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{32}")
_log = structlog.get_logger()


class EnquiryDesk:
    """All that researchers do with published models; safe to use from several threads."""

    def __init__(self, party: Party, template: Template, *, observe: Observe, halted: Callable[[], ConfideError | None]) -> None:
        """Takes the party and what evaluators are forked from.

        Args:
            party: this party.
            template: of its workers.
            observe: is told of every request's outcome, and of every evaluation's seconds.
            halted: returns why this party may debit nothing, if it may not: it was set up from an old state, whose budgets are
                larger than what is left of them.
        """
        config = party.config
        self._party = party
        self._observe, self._halted = observe, halted
        self._enquiries = Enquiries(party, max_message_bytes=config.max_key_mib * _MIB)
        count = evaluators_of(config)
        self._pool = None
        if count:
            memory = evaluator_memory(config, count)
            self._pool = EvaluatorPool(template, evaluators=count, memory_bytes=memory, evaluated=observe.evaluated)
        forget = (lambda key: None) if self._pool is None else self._pool.forget
        self._uploads = Uploads(most_bytes=config.key_cache_mib * _MIB, forgotten=forget)
        self._kept = KeptAnswers()
        self._keepers = Keepers()
        self._lock = Lock()
        self._under_way: defaultdict[str, dict[str, int]] = defaultdict(dict)  # answers by request, by enquiry
        self._openings, self._requests = Rate(timedelta(minutes=1)), Rate(HOUR)

    def open(self, signed: SignedDocument, querier: str) -> Standing:
        """Opens an enquiry of the caller.

        Raises:
            ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE, NOT_AUTHORISED (the caller's fault); PARTY_BUSY: she opens too many;
                or the first reason against it, with all as problems.
        """
        now = self._party.now()
        enquiry = verify_enquiry(signed, self._party.directory)
        if enquiry.querier != querier:
            raise ConfideError(ErrorCode.NOT_AUTHORISED, f"{querier} sent an enquiry of {enquiry.querier}", party=querier)
        if self._pool is None:
            raise ConfideError(ErrorCode.UNKNOWN_MODEL, f"{self._party.id} evaluates no encrypted queries", party=self._party.id)
        if not self._openings.take(querier, most=MAX_OPENINGS_PER_MINUTE, now=now):
            raise ConfideError(ErrorCode.PARTY_BUSY, f"{querier} opens more than {MAX_OPENINGS_PER_MINUTE} enquiries in a minute")
        self._require_sound_state()
        self._enquiries.open(enquiry, signed, now)
        return self.standing(enquiry.enquiry_id, querier)

    def standing(self, enquiry_id: str, querier: str) -> Standing:
        """Returns how an enquiry stands.

        Raises:
            ConfideError: UNKNOWN_DOCUMENT (the caller's fault): she has none of this id here.
        """
        record = self._enquiries.find(enquiry_id, querier)
        enquiry = record.enquiry
        is_open = record.ended is None and self._party.now() < enquiry.expires
        with self._lock:
            under_way = sum(self._under_way.get(enquiry_id, {}).values())
        return Standing(
            enquiry_id=enquiry_id,
            is_open=is_open,
            reason="" if is_open else record.reason or "expired",
            answers_left=enquiry.max_answers - record.answered - under_way if is_open else 0,
            key_bytes=self._uploads.received(querier, enquiry.key),
            expires=enquiry.expires,
        )

    def put(self, enquiry_id: str, part: Part, querier: str) -> int:
        """Takes a part of evaluation keys or of a query; returns the bytes of the message that are here.

        Raises:
            ConfideError: INVALID_ARGUMENT (the caller's fault): what her plan has no such message for: nothing of it is kept;
                NOT_READY: the enquiry has ended; as `Uploads.put`.
        """
        now = self._party.now()
        found = self._enquiries.check(enquiry_id, querier, now)
        enquiry, lane = found.enquiry, found.lane
        if not _DIGEST.fullmatch(part.digest):
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, "a digest has 64 hexadecimal digits")
        is_key = part.digest == enquiry.key
        kind = MessageKind.EVALUATION_KEYS if is_key else lane.query_kind
        if part.data and not part.offset:
            lane.check_start(kind, part.data)
        total = lane.shape.key_bytes if is_key else lane.query_bytes
        if part.data and part.total != total:
            what = f"a message of {part.total} bytes; the plan says {total} for {kind.name.lower().replace('_', ' ')}"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
        until = found.record.accepted + timedelta(seconds=lane.model.key_lifetime_s) if is_key else enquiry.expires
        return self._uploads.put(
            querier,
            part.digest,
            total=total,
            offset=part.offset,
            data=part.data,
            good_until=until,
            now=now,
            enquiry="" if is_key else enquiry_id,
        )

    def ask(self, asked: Asked, querier: str) -> bytes:
        """Waits for an answer and returns its message, debited.

        Raises:
            ConfideError: NOT_READY: the enquiry has ended, or keys or query are not here; JOB_CONFLICT: the id has served;
                QUOTA_EXHAUSTED: no numbers or no requests are left; INVALID_ARGUMENT: not a query of the plan (all the
                caller's fault); PARTY_BUSY; EVALUATION_FAILED (this party's); or why consent does not cover it any more.
        """
        with self._counted(), self._admitted(asked, querier) as admitted:
            return self._answer(admitted, asked)

    def keep(self, asked: Asked, querier: str) -> None:
        """As `ask`, but has the answer kept for `fetch`; returns as soon as it is admitted."""
        stack, now = ExitStack(), self._party.now()
        with ExitStack() as begun:
            admitted = begun.enter_context(self._admitted(asked, querier))
            if asked.query_digest:  # until it is its turn: what she uploads next must not displace it
                begun.enter_context(self._uploads.hold(querier, asked.query_digest, now=now, once=True))
            size = admitted.lane.shape.answer_bytes + len(asked.query)  # until it is computed
            self._kept.expect(querier, asked.enquiry_id, asked.request, size=size, now=now)
            stack = begun.pop_all()
        self._keepers.submit(querier, lambda: self._compute(stack, admitted, asked))

    @property
    def figures(self) -> Figures:
        """What evaluators and memory are occupied with now."""
        pool = self._pool
        waiting, busy = (0, 0) if pool is None else (pool.num_waiting, pool.num_busy)
        return Figures(waiting=waiting + self._keepers.num_waiting, busy=busy, upload_bytes=self._uploads.num_bytes)

    def fetch(self, enquiry_id: str, request: str, querier: str) -> bytes:
        """Returns an answer that was kept; `sent` forgets it.

        Raises:
            ConfideError: NOT_READY: it is being computed, or the enquiry has ended; UNKNOWN_OUTPUT; or what it failed with.
        """
        self._enquiries.check(enquiry_id, querier, self._party.now())
        return self._kept.get(enquiry_id, request)

    def sent(self, enquiry_id: str, request: str) -> None:
        """Forgets an answer whose last part was sent."""
        self._kept.forget(enquiry_id, request)

    def end(self, enquiry_id: str, querier: str) -> Standing:
        """Ends an enquiry; what was not answered is given back, and kept answers are forgotten.

        Raises:
            ConfideError: UNKNOWN_DOCUMENT (the caller's fault).
        """
        self._enquiries.end(enquiry_id, querier, reason="asked", now=self._party.now())
        self._forget(enquiry_id)
        return self.standing(enquiry_id, querier)

    def look_after(self) -> datetime | None:
        """Ends what has expired or is covered no more, and what holds a withdrawn model; returns when the next one expires."""
        ended, next_expiry = self._enquiries.end_those_that_do_not_go_on(self._party.now())
        if self._pool is not None:
            self._pool.retire(self._enquiries.withdrawn(self._pool.models))
        for record in ended:
            self._forget(record.enquiry.enquiry_id)
            _log.info("enquiry_ended", enquiry=record.enquiry.enquiry_id, reason=record.reason, answers=record.answered)
        return next_expiry

    def sweep(self) -> None:
        """Forgets uploads and answers that nobody wants any more."""
        now = self._party.now()
        self._uploads.sweep(now)
        self._kept.sweep(now)
        self._openings.sweep(now)
        self._requests.sweep(now)
        if self._pool is not None:
            self._pool.sweep()

    def stop(self) -> None:
        """Ends the evaluators; what is under way fails, and is not debited."""
        self._keepers.stop()
        if self._pool is not None:
            self._pool.stop()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        outcome = ErrorCode.INTERNAL.name
        try:
            yield
            outcome = ANSWERED
        except ConfideError as error:
            outcome = error.code.name
            raise
        finally:
            self._observe.ended(outcome)

    def _require_sound_state(self) -> None:
        why = self._halted()
        if why is not None:
            raise why

    @contextmanager
    def _admitted(self, asked: Asked, querier: str) -> Iterator[Admitted]:
        now = self._party.now()
        self._require_sound_state()
        if not _REQUEST.fullmatch(asked.request):
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, "a request's id has 32 hexadecimal digits")
        admitted, most, since = self._enquiries.check_request(asked.enquiry_id, querier, asked.request, now)
        if bool(asked.query) == bool(asked.query_digest):
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, "a request has a query, or the digest of one that was put in parts")
        if asked.query:
            admitted.lane.check_query(asked.query)
        grant_id, answers = admitted.record.grant_id, admitted.lane.answers
        if not self._requests.take(querier, grant_id, most=most, before=since, now=now):
            what = f"{most} requests in an hour are permitted, and were made"
            raise ConfideError(ErrorCode.QUOTA_EXHAUSTED, what, remedy="Wait, or ask many samples at once.")
        try:
            with self._numbers_set_aside(admitted, asked.request, answers):
                yield admitted
        except ConfideError as error:
            if error.code is ErrorCode.PARTY_BUSY:  # who waits for room asks again and again
                self._requests.give_back(querier, grant_id, counted=now)
            raise

    @contextmanager
    def _numbers_set_aside(self, admitted: Admitted, request: str, answers: int) -> Iterator[None]:
        enquiry = admitted.enquiry
        with self._lock:
            under_way = self._under_way.get(enquiry.enquiry_id, {})
            left = enquiry.max_answers - admitted.record.answered - sum(under_way.values())
            if request in under_way:
                raise ConfideError(ErrorCode.JOB_CONFLICT, f"request {request} is under way; an id serves once")
            if answers > left:
                what = f"an answer can hold {answers} numbers; {left} of {enquiry.max_answers} are left"
                raise ConfideError(ErrorCode.QUOTA_EXHAUSTED, what, remedy="Make another enquiry.")
            self._under_way[enquiry.enquiry_id][request] = answers
        try:
            yield
        finally:
            with self._lock:
                under_way = self._under_way[enquiry.enquiry_id]
                del under_way[request]
                if not under_way:
                    del self._under_way[enquiry.enquiry_id]

    def _forget(self, enquiry_id: str) -> None:
        """Forgets what is kept of an enquiry that has ended: answers, and queries that were never asked."""
        self._kept.forget(enquiry_id)
        self._uploads.end(enquiry_id)

    def _answer(self, admitted: Admitted, asked: Asked) -> bytes:
        if self._pool is None:
            raise ConfideError(ErrorCode.NOT_READY, f"{self._party.id} evaluates no encrypted queries", party=self._party.id)
        enquiry, lane, now = admitted.enquiry, admitted.lane, self._party.now()
        with ExitStack() as held:
            keys = held.enter_context(self._uploads.hold(enquiry.querier, enquiry.key, now=now, once=False))
            query: bytes | bytearray = asked.query
            if asked.query_digest:
                query = held.enter_context(self._uploads.hold(enquiry.querier, asked.query_digest, now=now, once=True))
            answer = self._pool.answer(
                Work(
                    model=lane.model.ref.label,
                    lane=lane.lane,
                    parts=lambda: lane.parts(self._party),
                    key=enquiry.key,
                    keys=keys,
                    key_memory=lane.key_memory,
                    query=query,
                    querier=enquiry.querier,
                    answer_bytes=lane.shape.answer_bytes,
                    is_long=lane.is_long,
                    predicted_s=lane.plan.predictions.server_seconds,
                )
            )
        self._require_sound_state()
        self._enquiries.debit(admitted, asked.request, self._party.now())
        return answer

    def _compute(self, admitted_until_closed: ExitStack, admitted: Admitted, asked: Asked) -> None:
        outcome: bytes | ConfideError
        with admitted_until_closed:
            try:
                with self._counted():
                    outcome = self._answer(admitted, asked)
            except ConfideError as error:
                outcome = error
            except Exception as error:  # whoever fetches must hear of it
                log_defect("", "encrypted", error)
                outcome = ConfideError(ErrorCode.INTERNAL)
        self._kept.put(asked.enquiry_id, asked.request, outcome, self._party.now())


def evaluators_of(config: PartyConfig) -> int:
    """Returns how many evaluators a party runs at once."""
    return len(os.sched_getaffinity(0)) if config.evaluator_workers is None else config.evaluator_workers


def evaluator_memory(config: PartyConfig, evaluators: int) -> int:
    """Returns the memory of each of them, in bytes."""
    if config.evaluator_memory_mib is not None:
        return config.evaluator_memory_mib * _MIB
    return machine_memory() // 2 // evaluators
