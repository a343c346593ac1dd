"""The evaluators of a party: worker processes that compute on ciphertexts, so that the party process never does.

SEAL holds Python's global lock while it computes, and what researchers send is parsed in a process that may die of it. An
evaluator that dies or takes too long is one failed request; the next request gets another process.
"""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Condition, Timer

import structlog

from parties.server.encrypted.turns import Ticket, next_turn
from parties.server.workers import Template, Worker
from parties.worker.channel import Parcel
from protocols.errors import ConfideError, ErrorCode

MAX_WAITING = 128
MAX_WAITING_OF_ONE = 16
MOST_MODELS = 4  # in one evaluator
TURN_S = 300.0
IDLE_S = 900.0
_TIMES_PREDICTED, _LEAST_LIMIT_S = 20.0, 30.0
_log = structlog.get_logger()


@dataclass(frozen=True)
class Work:
    """One query and all that its evaluation needs.

    Attributes:
        model: names the model and the lane.
        parts: gives the blobs `plan`, `manifest` and `weights` of the model; weights are secret.
        key: digest of the evaluation keys.
        keys: their message; public.
        key_memory: bytes that they take once they are loaded.
        query: its message.
        querier: who asks.
        is_long: whether it is of many samples.
        predicted_s: what its plan says of processor time.
    """

    model: str
    parts: Callable[[], Mapping[str, bytes]] = field(repr=False)
    key: str
    keys: bytes | bytearray = field(repr=False)
    key_memory: int
    query: bytes | bytearray = field(repr=False)
    querier: str
    is_long: bool
    predicted_s: float

    @property
    def limit_s(self) -> float:
        """Processor time and wall time of each step of it; generous, since it is what ends a process that hangs."""
        return _LEAST_LIMIT_S + _TIMES_PREDICTED * self.predicted_s


class EvaluatorPool:
    """Evaluators and the queries that wait for them; safe to use from several threads."""

    def __init__(self, template: Template, *, evaluators: int, memory_bytes: int) -> None:
        """Takes what evaluators are forked from, how many there are at most, and the memory of each."""
        self._template = template
        self._evaluators = evaluators
        self._memory_bytes = memory_bytes
        self._numbers = itertools.count()
        self._changed = Condition()
        self._waiting: list[Ticket] = []
        self._under_way: dict[Ticket, _Evaluator | None] = {}
        self._idle: list[_Evaluator] = []
        self._last = -1
        self._stopped = False

    def answer(self, work: Work) -> bytes:
        """Waits for the work's turn and returns the message of its protected answer.

        Raises:
            ConfideError: INVALID_ARGUMENT (the querier's fault): keys or query are not those of the plan; PARTY_BUSY: too many
                wait; EVALUATION_FAILED (this party's): the evaluator died, ran out of memory or took too long.
        """
        ticket = self._take_turn(work)
        evaluator = None
        try:
            evaluator = self._take_evaluator(ticket, work)
            return evaluator.answer(work)
        except _Gone as error:
            _log.warning("evaluator_lost", model=work.model, querier=work.querier, what=str(error))
            what = f"{error}; nothing was answered, and nothing is debited"
            raise ConfideError(ErrorCode.EVALUATION_FAILED, what) from error
        finally:
            self._give_back(ticket, evaluator)

    def forget(self, key: str) -> None:
        """Has keys unloaded wherever they are loaded; evaluators that are busy unload them before their next query."""
        with self._changed:
            everywhere = [*self._idle, *(each for each in self._under_way.values() if each is not None)]
            for evaluator in everywhere:
                evaluator.unwanted.append(key)

    def sweep(self) -> None:
        """Ends evaluators that have had nothing to do for long: their memory is wanted elsewhere."""
        with self._changed:
            tired = [each for each in self._idle if time.monotonic() >= each.last_used + IDLE_S]
            self._idle = [each for each in self._idle if each not in tired]
        for evaluator in tired:
            evaluator.stop()

    def stop(self) -> None:
        """Ends all evaluators; what waits or is under way fails."""
        with self._changed:
            self._stopped = True
            evaluators = [*self._idle, *(each for each in self._under_way.values() if each is not None)]
            self._idle.clear()
            self._changed.notify_all()
        for evaluator in evaluators:
            evaluator.stop()

    def _take_turn(self, work: Work) -> Ticket:
        with self._changed:
            of_one = sum(ticket.querier == work.querier for ticket in self._waiting)
            if len(self._waiting) >= MAX_WAITING or of_one >= MAX_WAITING_OF_ONE:
                what = f"{len(self._waiting)} queries wait here, {of_one} of them {work.querier}'s"
                raise ConfideError(ErrorCode.PARTY_BUSY, what, remedy="Wait for answers, then ask again.")
            ticket = Ticket(next(self._numbers), work.querier, work.is_long)
            self._waiting.append(ticket)
            try:
                if not self._changed.wait_for(lambda: self._is_turn_of(ticket), TURN_S):
                    what = f"the query waited {TURN_S:.0f} s for its turn"
                    raise ConfideError(ErrorCode.PARTY_BUSY, what, remedy="Ask again later.")
            finally:
                self._waiting.remove(ticket)
            if self._stopped:
                raise ConfideError(ErrorCode.EVALUATION_FAILED, "the party is stopping; nothing is debited")
            self._under_way[ticket] = None
            self._last = max(self._last, ticket.number)
            self._changed.notify_all()  # with several evaluators, another may begin too
            return ticket

    def _is_turn_of(self, ticket: Ticket) -> bool:
        if self._stopped:
            return True
        return next_turn(self._waiting, self._under_way, evaluators=self._evaluators, last=self._last) == ticket

    def _take_evaluator(self, ticket: Ticket, work: Work) -> _Evaluator:
        with self._changed:
            for ended in [each for each in self._idle if each.has_ended()]:  # no request's fault, and none is to fail for it
                self._idle.remove(ended)
                ended.stop()
            found = max(self._idle, key=lambda each: each.fits(work), default=None)
            # One that must load everything first is no better than a new one; a new process costs its own memory once.
            if found is not None:
                self._idle.remove(found)
                self._under_way[ticket] = found
                return found
        try:
            evaluator = _Evaluator(self._template, self._memory_bytes)
        except ConfideError as error:
            raise _Gone("no process for the evaluation can be started") from error
        with self._changed:
            self._under_way[ticket] = evaluator
            if self._stopped:
                evaluator.stop()
        return evaluator

    def _give_back(self, ticket: Ticket, evaluator: _Evaluator | None) -> None:
        with self._changed:
            del self._under_way[ticket]
            if evaluator is not None and not evaluator.is_gone and not self._stopped:
                evaluator.last_used = time.monotonic()
                self._idle.append(evaluator)
            self._changed.notify_all()


class _Gone(Exception):
    """The process has ended or was ended."""


class _Evaluator:
    """One process, used by one thread at a time; `unwanted` and `stop` are for all."""

    def __init__(self, template: Template, memory_bytes: int) -> None:
        self.is_gone = False
        self.last_used = time.monotonic()
        self.unwanted: list[str] = []
        self._key_bytes = memory_bytes // 2
        self._models: OrderedDict[str, None] = OrderedDict()
        self._keys: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._worker: Worker = template.fork()
        self._worker.give({"task": "evaluate", "memory_bytes": memory_bytes}, {})

    def fits(self, work: Work) -> tuple[bool, bool, int]:
        """Returns how well: it has the keys, it has the model, and how little else."""
        return (work.model, work.key) in self._keys, work.model in self._models, -len(self._models)

    def answer(self, work: Work) -> bytes:
        self._forget_unwanted()
        if work.model not in self._models:
            while len(self._models) >= MOST_MODELS:
                self._forget_model(next(iter(self._models)))
            self._ask({"type": "model", "model": work.model}, work.parts(), work.limit_s)
        self._models[work.model] = None
        self._models.move_to_end(work.model)
        found = (work.model, work.key)
        if found not in self._keys:
            while self._keys and sum(self._keys.values()) + work.key_memory > self._key_bytes:
                self._forget_key(*next(iter(self._keys)))
            self._ask({"type": "keys", "model": work.model, "key": work.key}, {"keys": work.keys}, work.limit_s)
        self._keys[found] = work.key_memory
        self._keys.move_to_end(found)
        header = {"type": "query", "model": work.model, "key": work.key}
        return self._ask(header, {"query": work.query}, work.limit_s).blobs["answer"]

    def has_ended(self) -> bool:
        return self._worker.has_ended()

    def stop(self) -> None:
        self.is_gone = True
        self._worker.stop()

    def _ask(self, header: Mapping[str, object], blobs: Mapping[str, bytes | bytearray], limit_s: float) -> Parcel:
        limit = Timer(limit_s, self.stop)
        limit.daemon = True
        limit.start()
        try:
            self._worker.say({**header, "limit_s": limit_s}, blobs)
            parcel = self._worker.take()
            event = parcel.header.get("event")
            if event == "refused":
                raise _refusal(parcel)
            if event not in ("done", "answer"):  # of a defect, or of memory that does not suffice
                raise _Gone(f"the evaluation failed: {str(parcel.header.get('text'))[:200]}")
        except ConfideError as error:
            if error.code is not ErrorCode.WORKER_LOST:
                raise
            late = f", or took longer than {limit_s:.0f} s" if self.is_gone else ""
            self.stop()
            raise _Gone(f"the process that evaluated it has ended{late}") from error
        except _Gone:
            self.stop()
            raise
        finally:
            limit.cancel()
        return parcel

    def _forget_unwanted(self) -> None:
        while self.unwanted:
            key = self.unwanted.pop()
            for model, loaded in list(self._keys):
                if loaded == key:
                    self._forget_key(model, key)

    def _forget_key(self, model: str, key: str) -> None:
        del self._keys[model, key]
        self._tell_to_forget(model, key)

    def _forget_model(self, model: str) -> None:
        del self._models[model]
        for each in [each for each in self._keys if each[0] == model]:
            del self._keys[each]
        self._tell_to_forget(model, "")

    def _tell_to_forget(self, model: str, key: str) -> None:
        with suppress(ConfideError):  # a process that has ended is noticed with the next query
            self._worker.say({"type": "forget", "model": model, "key": key}, {})


def _refusal(parcel: Parcel) -> ConfideError:
    """Returns what the evaluator says of what the researcher sent; it may have been taken over, so only these codes count."""
    header = parcel.header
    code = ErrorCode.__members__.get(str(header.get("code")), ErrorCode.INTERNAL)
    if code is not ErrorCode.INVALID_ARGUMENT:
        return ConfideError(ErrorCode.EVALUATION_FAILED, f"the model cannot be evaluated: {str(header.get('text'))[:300]}")
    return ConfideError(code, str(header.get("text"))[:500], remedy=str(header.get("remedy"))[:500])
