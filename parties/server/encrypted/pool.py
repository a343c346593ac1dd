"""The evaluators of a party: worker processes that compute on ciphertexts, so that the party process never does.

SEAL holds Python's global lock while it computes, and what researchers send is parsed in a process that may die of it. An
evaluator that dies or takes too long is one failed request; the next request gets another process.
"""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
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
MAX_HEADER_BYTES = 64 << 10  # of what an evaluator says, beside the answer
TURN_S = 300.0
IDLE_S = 900.0
_TIMES_PREDICTED, _LEAST_LIMIT_S = 20.0, 30.0
Loaded = tuple[str, str]
_log = structlog.get_logger()


@dataclass(frozen=True)
class Work:
    """One query and all that its evaluation needs.

    Attributes:
        model: `name@version`.
        lane: of its lanes.
        parts: gives the blobs `plan`, `manifest` and `weights` of the model; weights are secret.
        key: digest of the evaluation keys.
        keys: their message; public.
        key_memory: bytes that they take once they are loaded.
        query: its message.
        querier: who asks.
        answer_bytes: of its answer, exactly.
        is_long: whether it is of many samples.
        predicted_s: what its plan says of processor time.
    """

    model: str
    lane: str
    parts: Callable[[], Mapping[str, bytes]] = field(repr=False)
    key: str
    keys: bytes | bytearray = field(repr=False)
    key_memory: int
    query: bytes | bytearray = field(repr=False)
    querier: str
    answer_bytes: int
    is_long: bool
    predicted_s: float

    @property
    def loaded(self) -> Loaded:
        """The model in its lane, as evaluators hold it."""
        return self.model, self.lane

    @property
    def limit_s(self) -> float:
        """Processor time and wall time of each step of it; generous, since it is what ends a process that hangs."""
        return _LEAST_LIMIT_S + _TIMES_PREDICTED * self.predicted_s


class EvaluatorPool:
    """Evaluators and the queries that wait for them; safe to use from several threads."""

    def __init__(
        self, template: Template, *, evaluators: int, memory_bytes: int, evaluated: Callable[[float], None] = lambda seconds: None
    ) -> None:
        """Takes what evaluators are forked from, how many there are at most, the memory of each, and who is told of seconds."""
        self._template = template
        self._evaluated = evaluated
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
            began = time.monotonic()
            try:
                return evaluator.answer(work)
            finally:
                self._evaluated(time.monotonic() - began)
        except _Gone as error:
            _log.warning("evaluator_lost", model="/".join(work.loaded), querier=work.querier, what=error.said or str(error))
            what = f"{error}; nothing was answered, and nothing is debited"
            raise ConfideError(ErrorCode.EVALUATION_FAILED, what) from error
        finally:
            self._give_back(ticket, evaluator)

    def forget(self, key: str) -> None:
        """Has keys unloaded wherever they are loaded; evaluators that are busy unload them before their next query."""
        with self._changed:
            for evaluator in self._all():
                evaluator.unwanted.append(key)

    @property
    def models(self) -> frozenset[str]:
        """The models that are loaded somewhere, each `name@version`."""
        with self._changed:
            return frozenset(model for each in self._all() for model in each.models)

    @property
    def num_waiting(self) -> int:
        """How many queries wait for their turn."""
        with self._changed:
            return len(self._waiting)

    @property
    def num_busy(self) -> int:
        """How many queries are evaluated now."""
        with self._changed:
            return len(self._under_way)

    def retire(self, models: Collection[str]) -> None:
        """Ends evaluators that hold one of some models, so that no copy of its weights stays; a busy one when it is done."""
        with self._changed:
            holding = [each for each in self._all() if each.models & set(models)]
            idle = [each for each in holding if each in self._idle]
            self._idle = [each for each in self._idle if each not in idle]
            for each in holding:
                each.is_retired = True
        for each in idle:
            each.stop()

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
            evaluators = self._all()
            self._idle.clear()
            self._changed.notify_all()
        for evaluator in evaluators:
            evaluator.stop()

    def _all(self) -> list[_Evaluator]:
        return [*self._idle, *(each for each in self._under_way.values() if each is not None)]

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
            is_wanted = evaluator is not None and not evaluator.is_gone and not evaluator.is_retired and not self._stopped
            if evaluator is not None and is_wanted:
                evaluator.last_used = time.monotonic()
                self._idle.append(evaluator)
            self._changed.notify_all()
        if evaluator is not None and not is_wanted:
            evaluator.stop()


class _Gone(Exception):
    """The process has ended or was ended.

    Attributes:
        said: its own last words, for this party's log; they leave it in no other way.
    """

    def __init__(self, what: str, *, said: str = "") -> None:
        super().__init__(what)
        self.said = said


class _Evaluator:
    """One process, used by one thread at a time; `unwanted`, `models`, `is_retired` and `stop` are for all."""

    def __init__(self, template: Template, memory_bytes: int) -> None:
        self.is_gone = self.is_retired = False
        self.models: frozenset[str] = frozenset()
        self.last_used = time.monotonic()
        self.unwanted: list[str] = []
        self._key_bytes = memory_bytes // 2
        self._loaded: OrderedDict[Loaded, None] = OrderedDict()
        self._keys: OrderedDict[tuple[Loaded, str], int] = OrderedDict()
        self._worker: Worker = template.fork()
        try:
            self._worker.give({"task": "evaluate", "memory_bytes": memory_bytes}, {})
        except ConfideError:
            self._worker.stop()
            raise

    def fits(self, work: Work) -> tuple[bool, bool, int]:
        """Returns how well: it has the keys, it has the model, and how little else."""
        return (work.loaded, work.key) in self._keys, work.loaded in self._loaded, -len(self._loaded)

    def answer(self, work: Work) -> bytes:
        self._forget_unwanted()
        name = "/".join(work.loaded)
        if work.loaded not in self._loaded:
            while len(self._loaded) >= MOST_MODELS:
                self._forget_model(next(iter(self._loaded)))
            self.models |= {work.model}  # before its weights are there
            self._ask({"type": "model", "model": name}, work.parts(), work.limit_s)
        self._loaded[work.loaded] = None
        self._loaded.move_to_end(work.loaded)
        found = (work.loaded, work.key)
        if found not in self._keys:
            while self._keys and sum(self._keys.values()) + work.key_memory > self._key_bytes:
                self._forget_key(*next(iter(self._keys)))
            self._ask({"type": "keys", "model": name, "key": work.key}, {"keys": work.keys}, work.limit_s)
        self._keys[found] = work.key_memory
        self._keys.move_to_end(found)
        header = {"type": "query", "model": name, "key": work.key}
        said = self._ask(header, {"query": work.query}, work.limit_s, answer_bytes=work.answer_bytes)
        return said.blobs["answer"]

    def has_ended(self) -> bool:
        return self._worker.has_ended()

    def stop(self) -> None:
        self.is_gone = True
        self._worker.stop()

    def _ask(
        self, header: Mapping[str, object], blobs: Mapping[str, bytes | bytearray], limit_s: float, *, answer_bytes: int = 0
    ) -> Parcel:
        """Says something and returns what the evaluator says to it: `done`, or an answer of just so many bytes.

        It may have been taken over by what it was sent. So nothing that it says is held beyond the size that it must have, and
        an evaluator that says something else, of which the next request would hear, says nothing more.
        """
        limit = Timer(limit_s, self.stop)
        limit.daemon = True
        limit.start()
        try:
            self._worker.say({**header, "limit_s": limit_s}, blobs)
            parcel = self._worker.take(max_header_bytes=MAX_HEADER_BYTES, max_blob_bytes=answer_bytes)
            event = parcel.header.get("event")
            if event == "refused":
                raise _refusal(parcel, header)
            sizes = {name: len(blob) for name, blob in parcel.blobs.items()}
            if (event, sizes) != (("answer", {"answer": answer_bytes}) if answer_bytes else ("done", {})):
                # Of a defect, or of memory that does not suffice; or it is no answer.
                raise _Gone("the evaluation failed", said=_words(parcel))
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
            for loaded, held in list(self._keys):
                if held == key:
                    self._forget_key(loaded, key)

    def _forget_key(self, loaded: Loaded, key: str) -> None:
        del self._keys[loaded, key]
        self._tell_to_forget(loaded, key)

    def _forget_model(self, loaded: Loaded) -> None:
        del self._loaded[loaded]
        for each in [each for each in self._keys if each[0] == loaded]:
            del self._keys[each]
        self._tell_to_forget(loaded, "")
        self.models = frozenset(model for model, _ in self._loaded)

    def _tell_to_forget(self, loaded: Loaded, key: str) -> None:
        with suppress(ConfideError):  # a process that has ended is noticed with the next query
            self._worker.say({"type": "forget", "model": "/".join(loaded), "key": key}, {})


def _refusal(parcel: Parcel, header: Mapping[str, object]) -> ConfideError:
    """Returns the refusal of what the researcher sent, in this process's words.

    The evaluator holds the weights, and it may have been taken over: what it words would be a way out for them that is not
    debited. That it refuses is one bit, and counts as a request.
    """
    if parcel.header.get("code") != ErrorCode.INVALID_ARGUMENT.name or header["type"] == "model":
        _log.warning("evaluator_refused", what=_words(parcel))
        return ConfideError(ErrorCode.EVALUATION_FAILED, "the model cannot be evaluated; nothing is debited")
    what = "the evaluation keys are not those" if header["type"] == "keys" else "the query is none"
    return ConfideError(ErrorCode.INVALID_ARGUMENT, f"{what} of the plan: a residue is not below its prime")


def _words(parcel: Parcel) -> str:
    return str(parcel.header.get("text"))[:200]
