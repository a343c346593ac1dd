"""One point of the matrix: a job is brought into a phase, a fault hits a member, and everybody is asked how the job ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from threading import Thread
from typing import Any

from parties.client.client import PreparedJob
from protocols.errors import ConfideError
from protocols.job import Job
from protocols.session.messages import Ending
from protocols.session.states import State
from tests.chaos import faults
from tests.chaos.cells import MEMBERS, Cell, Fault, Phase, Role
from tests.chaos.network import COMPUTING, HOSPITALS, LONG, MEDIUM, SHORT, Network, until
from tests.chaos.promises import Blame, Promise, promise_of
from tests.chaos.records import Result

ENDING_WITHIN_S = 30.0
COMPLETES_WITHIN_S = 90.0
PHASE_WITHIN_S = 60.0
WORKERS_GONE_WITHIN_S = 5.0
IDLE_JOB_LIVES_S = 18
ALL = tuple(HOSPITALS)
# Which events are held back, where, so that a job stays in a phase: at everybody, at the lead, or at somebody who is not hit.
HOLD: Mapping[Phase, tuple[str, ...]] = {
    Phase.PROPOSED: ("JobAccepted",),
    Phase.AGREED: ("SlotGranted",),
    Phase.PREPARING: ("WorkerPrepared", "WorkerRunning"),
    Phase.PREPARED: ("WorkerRunning",),
    Phase.RELEASING: ("WorkerFinished",),
}


def run_point(network: Network, cell: Cell, seed: int) -> Result:
    """Runs one point and leaves the network as it was, if everything was as promised."""
    promise = promise_of(cell)
    if promise is None:
        raise LookupError(f"nothing is promised for {cell.name}")
    point = _Point(network, cell, promise, Random(seed))
    try:
        point.run()
    except (AssertionError, ConfideError, OSError) as error:
        point.violations.append(f"{type(error).__name__}: {error}")
    return Result(cell, seed, point.ending, point.within_s, point.member_s, point.next_s, tuple(dict.fromkeys(point.violations)))


class _Point:
    def __init__(self, network: Network, cell: Cell, promise: Promise, random: Random) -> None:
        self.network = network
        self.cell = cell
        self.promise = promise
        self.random = random
        self.violations: list[str] = []
        self.ending = ("", "", "")
        self.refusal = ""
        self.within_s = self.member_s = self.next_s = 0.0

    def run(self) -> None:
        self.network.watch_as(COMPUTING[0] if self.cell.member != COMPUTING[0] else COMPUTING[1])
        for party in ALL:
            self.network.new_log(party)
        sets_in = faults.prepare(self.network, self.cell)
        prepared = self._prepared()
        if self.cell.phase is Phase.IDLE:
            began = self._meanwhile(sets_in)
            submitting = Thread(target=self._submit, args=(prepared,), daemon=True)
            submitting.start()
            if not self.promise.states:
                submitting.join(ENDING_WITHIN_S)
        else:
            self._submit(prepared)
            self._bring_into_phase(prepared.job)
            began = self._meanwhile(sets_in)
        self._let_go()
        self._see_ending(prepared.job, began)
        faults.finish(self.network, self.cell)
        self._see_member(prepared.job)
        self._see_nothing_left(prepared.job)
        self._see_next_job()
        self._see_logs()

    # The job.

    def _prepared(self) -> PreparedJob:
        cell = self.cell
        may_complete = State.COMPLETED in self.promise.states
        if cell.phase in (Phase.IDLE, Phase.RELEASING) or (may_complete and cell.phase in (Phase.PROPOSED, Phase.AGREED)):
            training = SHORT
        else:
            training = MEDIUM if may_complete else LONG
        prepared = self.network.train(training, model_name="tried")
        now = datetime.now(UTC).replace(microsecond=0)
        changes: dict[str, Any] = {}
        if cell.phase is Phase.IDLE and not self.promise.completes:
            # Long enough to be agreed by all that are up, short enough to end within the time that is promised.
            changes["agree_by"] = changes["expires"] = now + timedelta(seconds=IDLE_JOB_LIVES_S)
        if cell.role is Role.RESEARCHER and cell.fault in (Fault.CLOCK_AHEAD, Fault.CLOCK_BEHIND):
            ahead = timedelta(seconds=faults.CLOCK_S if cell.fault is Fault.CLOCK_AHEAD else -faults.CLOCK_S)
            agree_by, expires = now + ahead + timedelta(minutes=2), now + ahead + timedelta(minutes=30)
            changes = {"created": now + ahead, "agree_by": agree_by, "expires": expires}
        return replace(prepared, job=replace(prepared.job, **changes))

    def _submit(self, prepared: PreparedJob) -> None:
        if self.cell.phase is not Phase.IDLE:
            self._hold()
            self.network.hers.submit(prepared)
            return
        try:
            self._submit_idle(prepared)
        except ConfideError as error:  # what came of the job is seen at the parties
            self.refusal = error.code.name

    def _submit_idle(self, prepared: PreparedJob) -> None:
        match self.cell:
            case Cell(Fault.DUPLICATED, Role.RESEARCHER):
                self.network.hers.submit(prepared)
                self.network.hers.submit(prepared)
            case Cell(Fault.ALTERED, Role.RESEARCHER):
                bit = self.random.randrange(8 * len(prepared.job.to_bytes()))
                self.network.submit_altered(prepared, bit=bit, weights=prepared.initial_weights)
            case Cell(Fault.OVERSIZED, Role.RESEARCHER):
                self.network.submit_altered(prepared, bit=-1, weights=bytes(faults.OVERSIZED_BYTES))
            case _:
                self.network.hers.submit(prepared)

    def _hold(self) -> None:
        phase = self._held_phase()
        for party in self._holders(phase):
            for event in HOLD.get(phase, ()):
                self.network.order(party, f"hold-{event}")

    def _held_phase(self) -> Phase:
        # The first frames of a link belong to the preparation: they are waited for from the phase before.
        early = self.cell.phase is Phase.PREPARING and self.cell.fault in faults.OF_FRAMES
        return Phase.AGREED if early else self.cell.phase

    def _holders(self, phase: Phase) -> Sequence[str]:
        match phase:
            case Phase.PROPOSED | Phase.RELEASING:
                return (COMPUTING[0] if self.cell.member != COMPUTING[0] else COMPUTING[1],)
            case Phase.AGREED:
                return COMPUTING[:1]
            case _:
                return ALL

    def _let_go(self) -> None:
        for party in ALL:
            self.network.recall(party, *(f"hold-{event}" for events in HOLD.values() for event in events))

    def _bring_into_phase(self, job: Job) -> None:
        phase = self._held_phase()
        match phase:
            case Phase.RELEASING:
                watched = [party for party in ALL if party not in self._holders(phase)]
            case Phase.RUNNING:
                watched = list(COMPUTING)  # the others are through once their part is sent
            case _:
                watched = list(ALL)

        def everybody_is_there() -> bool:
            seen = [self.network.seen(job, party) for party in watched]
            return all(said is not None and said[0] == phase.value for said in seen)

        if not until(everybody_is_there, within_s=PHASE_WITHIN_S):
            shown = {party: self.network.seen(job, party) for party in ALL}
            raise AssertionError(f"the job did not come to the phase {phase.value}: {shown}")
        time.sleep(self.random.uniform(0.2, 1.0))

    def _meanwhile(self, sets_in: float) -> float:
        """Brings the fault about; returns when it set in, monotonic."""
        began = max(time.monotonic(), sets_in)
        faults.begin(self.network, self.cell, self.random)
        if self.cell.fault in faults.QUICK and time.monotonic() - began > faults.QUICK_S:
            # A machine that is too slow to bring the party back at once: to the others it was gone.
            gone = promise_of(replace(self.cell, fault=Fault.KILL)) or self.promise
            self.promise = replace(
                self.promise,
                states=self.promise.states | gone.states,
                codes=self.promise.codes | gone.codes,
                blame=Blame.HIT_OR_NOBODY,
            )
        time.sleep(max(0.0, began - time.monotonic()))
        return began

    # What is seen.

    @property
    def _unhurt(self) -> tuple[str, ...]:
        hurt = self.cell.member if self.cell.fault in faults.HURT else ""
        return tuple(party for party in ALL if party != hurt)

    def _see_ending(self, job: Job, began: float) -> None:
        limit = COMPLETES_WITHIN_S if State.COMPLETED in self.promise.states else ENDING_WITHIN_S
        if not self.promise.states:
            self.within_s = time.monotonic() - began
            self.ending = ("", self.refusal, "")
            if self.refusal not in self.promise.codes:
                self.violations.append(f"the submission was answered with {self.refusal or 'no refusal'}")
            known = [party for party in ALL if self.network.seen(job, party) is not None]
            if known:
                self.violations.append(f"a refused job is known at {', '.join(known)}")
            return
        ending = self._one_ending(job, self._unhurt, limit)
        self.within_s = time.monotonic() - began
        self.ending = (ending.state.name, ending.code, ending.at_fault)
        self._compare(ending)
        if self.cell.role is not Role.RESEARCHER:
            with suppress(ConfideError):
                shown = self.network.hers.wait(job, timeout_s=ENDING_WITHIN_S)
                if shown != ending:
                    self.violations.append(f"the researcher sees {_short(shown)}")

    def _one_ending(self, job: Job, parties: Sequence[str], limit_s: float) -> Ending:
        seen: dict[str, Ending | None] = {}

        def all_show_the_same() -> bool:
            for party in parties:
                said = self.network.seen(job, party)
                seen[party] = None if said is None else said[1]
            return None not in seen.values() and len({str(e.to_document()) for e in seen.values() if e is not None}) == 1

        if not until(all_show_the_same, within_s=limit_s):
            shown = {party: _short(ending) if ending else self.network.seen(job, party) for party, ending in seen.items()}
            with suppress(ConfideError):
                self.network.hers.cancel(job)
            raise AssertionError(f"not the same ending within {limit_s:.0f} s: {shown}")
        ending = seen[parties[0]]
        if ending is None:
            raise AssertionError("nobody was asked")
        return ending

    def _compare(self, ending: Ending) -> None:
        promise = self.promise
        blame = {
            Blame.HIT: {self.cell.member},
            Blame.NOBODY: {""},
            Blame.HIT_OR_NOBODY: {self.cell.member, ""},
        }[promise.blame]
        as_told = ending.state is State.COMPLETED or (ending.code in promise.codes and ending.at_fault in blame)
        if ending.state not in promise.states or not as_told:
            self.violations.append(f"ended as {_short(ending)}")
        if bool(ending.cause) != (ending.state is not State.COMPLETED):
            self.violations.append("an ending without a cause")

    def _see_member(self, job: Job) -> None:
        """Once the fault is over, the member that was hit shows what the others show, or never heard of the job."""
        if self.cell.role is Role.RESEARCHER or not self.promise.states:
            return
        began = time.monotonic()
        ending = self._one_ending(job, self._unhurt, ENDING_WITHIN_S)
        said = self.network.seen(job, self.cell.member)
        if said is None and self.cell.phase is Phase.IDLE:
            return
        self._one_ending(job, ALL, ENDING_WITHIN_S)
        self.member_s = time.monotonic() - began
        self.ending = (ending.state.name, ending.code, ending.at_fault)

    def _see_nothing_left(self, job: Job) -> None:
        for party in ALL:
            if not until(lambda party=party: not self.network.workers(party), within_s=WORKERS_GONE_WITHIN_S):  # type: ignore[misc]
                self.violations.append(f"{party} has a worker left")
        for party in ALL:
            found = self.network.left_behind(party, job)
            if self.ending[0] == State.COMPLETED.name:
                found = [what for what in found if "stray" in what]
            self.violations += found

    def _see_next_job(self) -> None:
        began = time.monotonic()
        prepared = self.network.train(SHORT, model_name="next")
        self.network.hers.submit(prepared)
        ending = self._one_ending(prepared.job, ALL, COMPLETES_WITHIN_S)
        self.next_s = time.monotonic() - began
        if ending.state is not State.COMPLETED:
            self.violations.append(f"the next job ended as {_short(ending)}: {ending.cause[:200]}")

    def _see_logs(self) -> None:
        for party in ALL:
            new = self.network.new_log(party)
            lines = [line for line in new.splitlines() if '"defect"' in line or "Traceback" in line]
            self.violations += [f"{party} logged a defect: {line[:300]}" for line in lines[:3]]


def _short(ending: Ending) -> str:
    alone = "" if ending.by_majority else ", alone"
    return f"{ending.state.name} {ending.code} at fault {ending.at_fault or 'nobody'}{alone}: {ending.cause[:160]}"


def network_is_sound(network: Network) -> bool:
    """Whether the next point may use the network: everybody is up and answers."""
    return all(network.is_alive(party) and network.answers(party) for party in ALL) and MEMBERS[Role.LEAD] in ALL
