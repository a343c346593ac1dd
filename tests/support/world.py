"""All participants of some sessions in one process, on a fake network and a fake clock, with faults drawn from a seed.

The world is the runner of `protocols.session.machine`: it stores snapshots, performs actions and feeds events. Messages and
snapshots pass through their documents, so that the simulation also tests those. It checks what must hold at every moment;
`check_endings` checks what must hold once the network has healed.
"""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Callable

from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode
from protocols.session import actions as act
from protocols.session import events as on
from protocols.session import messages as said
from protocols.session.machine import SessionMachine
from protocols.session.spec import SessionSpec
from protocols.session.states import State
from tests.support.world_parts import (
    CALL_TIMEOUT_S,
    EPOCH,
    LINK_SILENCE_S,
    PLAN,
    Chances,
    Disk,
    Host,
    Worker,
    check_after_end,
    commitments_of,
)


class World:
    """Runs sessions among parties; see the module."""

    def __init__(self, parties: tuple[str, ...], seed: int, chances: Chances | None = None) -> None:
        self.random = random.Random(seed)
        self.now = EPOCH
        self.hosts = {name: Host(name) for name in parties}
        self.specs: dict[str, SessionSpec] = {}
        self.chances = chances or Chances()
        self.blocked: set[frozenset[str]] = set()
        self.deaf: set[str] = set()
        self.lost_messages: list[tuple[str, type[said.Body]]] = []  # (receiver, body): each loses one such message
        self.plans: dict[tuple[str, str], str] = {}
        self.refusals: dict[tuple[str, str], said.FailureReport] = {}
        self.withheld: dict[tuple[str, str], said.FailureReport] = {}
        self.ended_at: dict[tuple[str, str], float] = {}
        self.withdrawn_consent: set[tuple[str, str]] = set()  # (party, session): stored before the party voted done
        self.log: list[tuple[float, str, str, str]] = []
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    # time

    def at(self, when: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, what))

    def after(self, delay_s: float, what: Callable[[], None]) -> None:
        self.at(self.now + delay_s, what)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            when, _, what = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            what()
        self.now = end

    # what people and fate do

    def submit(self, spec: SessionSpec, reach: tuple[str, ...] | None = None) -> None:
        self.specs[spec.session] = spec
        for party in spec.participants if reach is None else reach:
            self.after(self._delay(), lambda party=party: self._propose(self.hosts[party], spec.session))

    def cancel(self, session: str, party: str) -> None:
        host = self.hosts[party]
        if host.up and not host.paused and session in host.machines:
            try:
                self.feed(host, session, on.CancelRequested())
            except ConfideError as error:
                if error.code is not ErrorCode.CANCEL_TOO_LATE:
                    raise

    def end_consent(self, session: str, party: str) -> None:
        """A grant of the party has ended; from then on its machine must not complete unless it has voted done."""
        host = self.hosts[party]
        if not host.up or host.paused or session not in host.machines:
            return
        vote = host.machines[session].vote
        if self._feed_consent_ended(host, session) and (vote is None or vote.verdict is not said.Verdict.DONE):
            self.withdrawn_consent.add((party, session))

    def _feed_consent_ended(self, host: Host, session: str) -> bool:
        report = said.FailureReport(ErrorCode.GRANT_REVOKED, State.PROPOSED, "", "the grant has been revoked")
        return self.feed(host, session, on.ConsentEnded(report))

    def crash(self, party: str) -> None:
        host = self.hosts[party]
        host.up, host.paused, host.slot = False, False, None
        host.asleep.clear()
        host.life += 1
        host.machines.clear()
        host.workers.clear()
        host.withdrawn.clear()
        host.inbox.clear()
        self._note(host, "", "crash")

    def restart(self, party: str) -> None:
        host = self.hosts[party]
        if host.up:
            return
        host.up = True
        self._note(host, "", "restart")
        for session, disk in host.disk.items():
            host.machines[session] = SessionMachine.restore(self.specs[session], party, json.loads(disk.snapshot))
        for session in list(host.machines):
            self._feed_if(host, host.life_of(session), session, on.Recovered())

    def pause(self, party: str) -> None:
        self.hosts[party].paused = self.hosts[party].up

    def resume(self, party: str) -> None:
        host = self.hosts[party]
        host.paused = False
        waiting, host.inbox = host.inbox, []
        for what in waiting:
            what()

    def cut(self, one: str, other: str) -> None:
        self.blocked.add(frozenset({one, other}))

    def mend(self, one: str, other: str) -> None:
        self.blocked.discard(frozenset({one, other}))

    def deafen(self, party: str) -> None:
        """From now on nothing that the others say reaches this party; what it says reaches them."""
        self.deaf.add(party)

    def heal(self) -> None:
        self.blocked.clear()
        self.deaf.clear()
        for name in self.hosts:
            self.hosts[name].full = False
            self.resume(name)
            self.restart(name)

    # the runner

    def feed(self, host: Host, session: str, event: on.Event) -> bool:
        """Handles one event; returns whether its effect was stored."""
        if (session in host.asleep) != (isinstance(event, on.Recovered) and event.cause is ErrorCode.DISK_FULL):
            return False
        host.asleep.discard(session)
        machine = host.machines[session]
        before = machine.state
        fate = self.random.random() / self.chances.crash if self.chances.crash else 1.0
        try:
            actions = machine.handle(event, self.now)
        except ConfideError as error:
            if error.code is ErrorCode.INTERNAL:
                raise AssertionError(f"{host.name} {session}: {error}") from error
            raise
        self._note(host, session, f"{self._name(event)} -> {machine.state.value} {[type(a).__name__ for a in actions]}")
        if fate < 0.3:
            self.crash(host.name)
            return False
        if host.full or (self.chances.store_fails and self.random.random() < self.chances.store_fails):
            self._lay_down(host, session)
            return False
        disk = host.disk.setdefault(session, Disk(""))
        disk.snapshot = json.dumps(machine.snapshot())
        if before.is_terminal:
            check_after_end(machine, event, actions)
        elif machine.state.is_terminal:
            self.ended_at[host.name, session] = self.now
        life = host.life_of(session)
        for action in actions:
            if fate < 1.0 and self.random.random() < 0.3:
                self.crash(host.name)
                return True
            self._perform(host, life, session, action)
        self._schedule_tick(host, life, session)
        return True

    def _lay_down(self, host: Host, session: str) -> None:
        """A step could not be stored: the session goes back to the one before and sleeps."""
        self._note(host, session, "not stored")
        host.setbacks[session] = host.setbacks.get(session, 0) + 1
        host.machines[session] = SessionMachine.restore(self.specs[session], host.name, json.loads(host.disk[session].snapshot))
        host.asleep.add(session)
        if session in host.workers:
            host.workers[session].stopped = True
        if host.slot is not None and host.slot[0] == session:
            host.slot = None
        host.withdrawn = {(other, ticket) for other, ticket in host.withdrawn if other != session}
        life = host.life_of(session)
        self.after(self.random.uniform(0.5, 15), lambda: self._wake(host, life, session))

    def _wake(self, host: Host, life: tuple[int, int], session: str) -> None:
        if host.full and host.life_of(session) == life:
            self.after(1, lambda: self._wake(host, life, session))
        else:
            self._feed_if(host, life, session, on.Recovered(ErrorCode.DISK_FULL))

    def _feed_if(self, host: Host, life: tuple[int, int], session: str, event: on.Event) -> None:
        """Feeds an event of this life of the process; a stopped process gets it when it goes on."""
        if not host.up or host.life_of(session) != life or session not in host.machines:
            return
        if host.paused:
            host.inbox.append(lambda: self._feed_if(host, life, session, event))
            return
        self.feed(host, session, event)

    def _schedule_tick(self, host: Host, life: tuple[int, int], session: str) -> None:
        deadline = host.machines[session].next_deadline
        if deadline is None:
            return

        def tick() -> None:
            if host.up and host.life_of(session) == life and host.machines[session].next_deadline == deadline:
                self._feed_if(host, life, session, on.Tick())

        self.at(max(deadline, self.now + 0.001), tick)

    def _perform(self, host: Host, life: tuple[int, int], session: str, action: act.Action) -> None:
        def later(delay_s: float, event: on.Event) -> None:
            self.after(delay_s, lambda: self._feed_if(host, life, session, event))

        disk = host.disk[session]
        match action:
            case act.Send():
                self._send(host, life, session, action)
            case act.CheckJob():
                self._check_job(host, life, session)
            case act.TrySlot(ticket):
                free = host.slot is None
                if free:
                    host.slot = (session, ticket)
                later(0.001, on.SlotGranted(ticket) if free else on.SlotBusy(ticket))
            case act.RequestSlot(ticket, backoff_s):
                self.after(backoff_s * self.random.uniform(1, 2), lambda: self._wait_for_slot(host, life, session, ticket))
            case act.ReleaseSlot(ticket):
                host.withdrawn.add((session, ticket))
                if host.slot == (session, ticket):
                    host.slot = None
            case act.StartWorker(number):
                assert host.slot is not None
                assert host.slot[0] == session, "a worker without a slot"
                host.workers[session] = Worker(number)
            case act.OpenLinks(number):
                assert host.workers[session].number == number
                host.workers[session].opened = True
                self.after(0.1, lambda: self._watch_worker(host, life, session, number))
            case act.StopWorker(number):
                host.workers[session].stopped = True
            case act.PublishOutputs():
                assert host.machines[session].state is State.COMPLETED
                assert disk.outputs in ("sealed", "published")
                disk.published += disk.outputs == "sealed"
                disk.outputs = "published"
                later(0.01, on.OutputsSettled())
            case act.DiscardOutputs():
                assert disk.outputs != "published"
                disk.outputs = "discarded"
                later(0.01, on.OutputsSettled())
            case act.Announce(ending):
                assert ending == host.machines[session].ending

    def _wait_for_slot(self, host: Host, life: tuple[int, int], session: str, ticket: int) -> None:
        if not host.up or host.life_of(session) != life or (session, ticket) in host.withdrawn:
            return
        if host.slot is None and not host.paused:
            host.slot = (session, ticket)
            self._feed_if(host, life, session, on.SlotGranted(ticket))
        else:
            self.after(0.25, lambda: self._wait_for_slot(host, life, session, ticket))

    def _propose(self, host: Host, session: str) -> None:
        if host.up and not host.paused and not host.full and session not in host.machines:
            host.machines[session] = SessionMachine(self.specs[session], host.name)
            host.disk[session] = Disk(json.dumps(host.machines[session].snapshot()))
            self._check_job(host, host.life_of(session), session)
            self._schedule_tick(host, host.life_of(session), session)

    def _check_job(self, host: Host, life: tuple[int, int], session: str) -> None:
        refusal = self.refusals.get((host.name, session))
        plan = self.plans.get((host.name, session), PLAN)
        answer = on.JobAccepted(plan, "") if refusal is None else on.JobRefused(refusal)
        self.after(self.random.uniform(0, 0.5), lambda: self._feed_if(host, life, session, answer))

    # network

    def _send(self, host: Host, life: tuple[int, int], session: str, send: act.Send) -> None:
        document = canonical_bytes(send.message.to_document())

        def answer(delay_s: float, event: on.Event) -> None:
            self.after(delay_s, lambda: self._feed_if(host, life, session, event))

        def arrive(*, counts: bool) -> None:
            target = self.hosts[send.to]
            failed = on.Undelivered(send.to, send.token, needs_job=False)
            if frozenset({host.name, send.to}) in self.blocked or send.to in self.deaf:
                return answer(CALL_TIMEOUT_S, failed) if counts else None
            if target.paused:
                target.inbox.append(lambda: self._receive(target, session, document, attach_job=False))
                return answer(CALL_TIMEOUT_S, failed) if counts else None
            outcome = self._receive(target, session, document, attach_job=send.attach_job)
            if not counts:
                return None
            if outcome == "stored" and self.random.random() >= self.chances.drop:
                return answer(self._delay(), on.Delivered(send.to, send.token))
            if outcome == "needs job":
                return answer(self._delay(), on.Undelivered(send.to, send.token, needs_job=True))
            return answer(CALL_TIMEOUT_S if outcome == "stored" else self._delay(), failed)

        loss = (send.to, type(send.message.body))
        if loss in self.lost_messages or self.random.random() < self.chances.drop:
            if loss in self.lost_messages:
                self.lost_messages.remove(loss)
            answer(self.random.uniform(0, CALL_TIMEOUT_S), on.Undelivered(send.to, send.token, needs_job=False))
            return
        self.after(self._delay(), lambda: arrive(counts=True))
        if self.random.random() < self.chances.duplicate:
            self.after(self._delay() * 10, lambda: arrive(counts=False))

    def _receive(self, host: Host, session: str, document: bytes, *, attach_job: bool) -> str:
        if not host.up:
            return "down"
        if session not in host.machines:
            if not attach_job:
                return "needs job"
            self._propose(host, session)
            if session not in host.machines:
                return "lost"
        message = said.SessionMessage.from_document(parse_canonical(document))
        try:
            return "stored" if self.feed(host, session, on.Received(message)) else "lost"
        except ConfideError as error:
            raise AssertionError(f"{host.name} refused a message of an honest party: {error}") from error

    def _delay(self) -> float:
        return self.random.expovariate(1 / self.chances.delay_s) if self.chances.delay_s else 0.0

    # workers

    def _watch_worker(self, host: Host, life: tuple[int, int], session: str, number: int) -> None:
        """One look of a worker at its peers and its work, twice a second."""
        worker = host.workers.get(session)
        if host.life_of(session) != life or worker is None or worker.number != number or worker.stopped or worker.finished:
            return None

        def tell(event: on.Event) -> None:
            self._feed_if(host, life, session, event)

        def look_again() -> None:
            self.after(0.5, lambda: self._watch_worker(host, life, session, number))

        def fail(code: ErrorCode, accused: str) -> None:
            worker.stopped = True
            report = said.FailureReport(code, host.machines[session].state, accused, f"{code.name} of {accused}")
            tell(on.WorkerFailed(number, report))

        if host.paused:
            return look_again()
        if self.random.random() < self.chances.worker_fails / 20:
            return fail(ErrorCode.WORKER_LOST, host.name)
        peers = [self.hosts[name] for name in self.specs[session].participants if name != host.name]
        for peer in peers:
            other = peer.workers.get(session)
            reachable = not peer.paused and frozenset({host.name, peer.name}) not in self.blocked
            if reachable:
                worker.lost_since.pop(peer.name, None)
                if worker.prepared and (not peer.up or other is None or (other.stopped and not other.finished)):
                    return fail(ErrorCode.PEER_LOST, peer.name)
            elif other is None or not other.finished:
                lost_since = worker.lost_since.setdefault(peer.name, self.now)
                if self.now - lost_since >= LINK_SILENCE_S:
                    return fail(ErrorCode.PEER_SILENT, peer.name)
        others = [peer.workers.get(session) for peer in peers]
        if not worker.prepared and all(o is not None and o.opened and not o.stopped for o in others) and not worker.lost_since:
            worker.prepared = True
            worker.finish_at = self.now + self.random.uniform(0.2, 1) * self.chances.work_s
            tell(on.WorkerPrepared(number))
            tell(on.WorkerRunning(number))
        elif worker.prepared and self.now >= worker.finish_at and host.up and session in host.machines:
            worker.finished = True
            host.disk[session].outputs = "sealed"
            withheld = self.withheld.get((host.name, session))
            finished = on.WorkerFinished(number, commitments_of(self.specs[session], host.name, number))
            tell(finished if withheld is None else on.OutputWithheld(number, withheld))
            return None
        tell(on.WorkerProgress(number, int(self.now - EPOCH)))
        return look_again()

    # what must hold

    def state(self, party: str, session: str) -> State:
        return self.hosts[party].machines[session].state

    def endings(self, session: str) -> dict[str, said.Ending | None]:
        return {name: host.machines[session].ending for name, host in self.hosts.items() if session in host.machines}

    def check_endings(self, session: str) -> said.Ending:
        """After healing: everybody that knows the session shows the same end, and outputs are usable only if it completed."""
        found = self.endings(session)
        assert None not in found.values(), f"somebody hangs: { {n: self.state(n, session) for n in found} }"
        assert len(set(found.values())) == 1, f"different endings: {found}"
        ending = next(iter(found.values()))
        assert ending is not None
        if ending.state is State.COMPLETED:
            self._check_release(session, ending)
        for name in found:
            disk = self.hosts[name].disk[session]
            assert disk.outputs == ("published" if ending.state is State.COMPLETED else "discarded")
            assert disk.published == (ending.state is State.COMPLETED)
            slot = self.hosts[name].slot
            assert slot is None or slot[0] != session, "the slot was not released"
            worker = self.hosts[name].workers.get(session)
            assert worker is None or worker.stopped or worker.finished
        return ending

    def _check_release(self, session: str, ending: said.Ending) -> None:
        """A completed ending shows what each computing party voted, and nobody whose consent had ended voted for it."""
        spec = self.specs[session]
        assert set(ending.commitments) == set(spec.committers)
        for party in spec.participants:
            assert (party, session) not in self.withdrawn_consent, f"completed after the consent of {party} had ended"
            vote = self.hosts[party].machines[session].vote
            assert vote is not None
            assert vote.verdict is said.Verdict.DONE
            assert vote.commitments == ending.commitments.get(party, {})

    def _note(self, host: Host, session: str, what: str) -> None:
        self.log.append((round(self.now - EPOCH, 3), host.name, session, what))

    @staticmethod
    def _name(event: on.Event) -> str:
        if isinstance(event, on.Received):
            return f"{type(event.message.body).__name__} from {event.message.sender}"
        return type(event).__name__
