"""What the party shows of its sessions, to whoever asks and to whoever watches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Condition
from typing import Any

from governance.documents import SignedDocument
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.mpc.timing import SegmentTiming
from protocols.session.states import State


@dataclass(frozen=True)
class Measured:
    """What this party's worker has done so far; public.

    Attributes:
        phase: the program's own name of what it does.
        step: of `steps` in this phase.
        steps: see step.
        rounds: communication rounds so far, as the plan counts them.
        payload_bytes: payload bytes that this party's links sent, as the plan counts them.
        frame_bytes: all bytes that they sent: payload, headers, handshake, heartbeats.
        sent_bytes: `payload_bytes` by the peer to which they went.
        received_bytes: payload bytes by the peer from which they came.
        elapsed_ms: since the worker began with its task.
        memory_bytes: the most memory that the worker held.
        timing: what every segment of the plan took, once the worker has finished.
    """

    phase: str = ""
    step: int = 0
    steps: int = 0
    rounds: int = 0
    payload_bytes: int = 0
    frame_bytes: int = 0
    sent_bytes: Mapping[str, int] = field(default_factory=dict)
    received_bytes: Mapping[str, int] = field(default_factory=dict)
    elapsed_ms: int = 0
    memory_bytes: int = 0
    timing: tuple[SegmentTiming, ...] = ()

    def to_text(self) -> str:
        """Returns all of it as JSON, to be kept."""
        timing = [entry.to_document() for entry in self.timing]
        return json.dumps(vars(self) | {"timing": timing}, sort_keys=True)

    @staticmethod
    def from_text(text: str) -> Measured:
        """Reads what `to_text` gave."""
        document = json.loads(text)
        timing = tuple(SegmentTiming.from_document(entry) for entry in document.pop("timing", ()))
        return Measured(**document, timing=timing)


@dataclass(frozen=True)
class Status:
    """What this party shows of a session; `revision` grows with every change."""

    job: Job
    state: State
    plan_digest: str = ""
    countersigned_by: tuple[str, ...] = ()
    waiting_for: str = ""
    measured: Measured = Measured()
    ending: SignedDocument | None = None
    revision: int = 0


class Board:
    """The statuses of the sessions that are open in this process; safe to use from several threads."""

    def __init__(self) -> None:
        self._statuses: dict[str, Status] = {}
        self._changed = Condition()

    def post(self, status: Status) -> None:
        """Shows a session for the first time."""
        with self._changed:
            self._statuses[status.job.job_id] = status
            self._changed.notify_all()

    def update(self, job_id: str, **changes: Any) -> None:
        """Changes fields of a shown status; of one that is no longer shown, nothing."""
        with self._changed:
            status = self._statuses.get(job_id)
            if status is None:
                return
            self._statuses[job_id] = replace(status, revision=status.revision + 1, **changes)
            self._changed.notify_all()

    def remove(self, job_id: str) -> None:
        """Shows a session no more."""
        with self._changed:
            self._statuses.pop(job_id, None)
            self._changed.notify_all()

    def find(self, job_id: str) -> Status | None:
        """Returns what is shown of a session, or None."""
        with self._changed:
            return self._statuses.get(job_id)

    def shown(self) -> tuple[Status, ...]:
        """Returns what is shown of every session."""
        with self._changed:
            return tuple(self._statuses.values())

    def wait(self, job_id: str, *, revision: int, timeout_s: float) -> Status:
        """Returns the status once its revision is another one, or after the time.

        Raises:
            ConfideError: UNKNOWN_JOB: it is not shown, or no longer.
        """

        def has_changed() -> bool:
            shown = self._statuses.get(job_id)
            return shown is None or shown.revision != revision

        with self._changed:
            self._changed.wait_for(has_changed, timeout=timeout_s)
            status = self._statuses.get(job_id)
            if status is None:
                raise ConfideError(ErrorCode.UNKNOWN_JOB, f"no job {job_id[:32]} is shown here")
            return status
