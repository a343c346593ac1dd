"""The promised end of every cell, as one table: the first row that fits a cell holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from protocols.session.states import State
from tests.chaos.cells import Cell, Fault, Phase, Role, all_cells

PARTIES = frozenset({Role.LEAD, Role.COMPUTING, Role.DEALER, Role.OWNER})
FOLLOWERS = PARTIES - {Role.LEAD}
RESEARCHER = frozenset({Role.RESEARCHER})
ALL_PHASES = frozenset(Phase)
WAITING = frozenset({Phase.PROPOSED, Phase.AGREED})
WORKING = frozenset({Phase.PREPARING, Phase.PREPARED, Phase.RUNNING})
DURING = ALL_PHASES - {Phase.IDLE}
IDLE, RUNNING, RELEASING = frozenset({Phase.IDLE}), frozenset({Phase.RUNNING}), frozenset({Phase.RELEASING})
OWNER = frozenset({Role.OWNER})
# A party that is not there, for whatever reason.
GONE = frozenset({Fault.KILL, Fault.STOP, Fault.PARTITION, Fault.WRONG_ROLE})
UNHEARD = frozenset({"PEER_LOST", "PEER_SILENT", "PARTY_UNREACHABLE"})


class Blame(Enum):
    """Whom the ending names as the party at fault."""

    HIT = "the party that was hit"
    NOBODY = "nobody"
    HIT_OR_NOBODY = "the party that was hit, or nobody where it still answers"


@dataclass(frozen=True)
class Promise:
    """How a job ends after a fault.

    Attributes:
        states: the state is one of these, the same everywhere; empty: the job is known nowhere.
        codes: the code is one of these; empty for COMPLETED.
        blame: whom the ending names.
        because: one sentence for people.
    """

    states: frozenset[State]
    codes: frozenset[str]
    blame: Blame
    because: str

    @property
    def completes(self) -> bool:
        """Whether the fault does no harm."""
        return self.states == {State.COMPLETED}

    def __str__(self) -> str:
        if not self.states:
            return f"refused ({', '.join(sorted(self.codes))}), known nowhere"
        if self.completes:
            return "COMPLETED"
        states = " or ".join(sorted(state.name for state in self.states))
        return f"{states} ({', '.join(sorted(self.codes))}); at fault: {self.blame.value}"


@dataclass(frozen=True)
class Row:
    """Some cells and what is promised there; None where there is nothing to hit."""

    faults: frozenset[Fault]
    roles: frozenset[Role]
    phases: frozenset[Phase]
    promise: Promise | None
    because: str = ""

    def fits(self, cell: Cell) -> bool:
        """Whether the row speaks of a cell."""
        return cell.fault in self.faults and cell.role in self.roles and cell.phase in self.phases


def _completes(because: str) -> Promise:
    return Promise(frozenset({State.COMPLETED}), frozenset(), Blame.NOBODY, because)


def _ends(states: Iterable[State], codes: Iterable[str], blame: Blame, because: str) -> Promise:
    return Promise(frozenset(states), frozenset(codes), blame, because)


def _refused(codes: Iterable[str], because: str) -> Promise:
    return Promise(frozenset(), frozenset(codes), Blame.NOBODY, because)


def _row(
    faults: Iterable[Fault], roles: Iterable[Role], phases: Iterable[Phase], promise: Promise | None, because: str = ""
) -> Row:
    return Row(frozenset(faults), frozenset(roles), frozenset(phases), promise, because)


ABORTED, EXPIRED, REJECTED = State.ABORTED, State.EXPIRED, State.REJECTED
_ALONE = "the job was signed and shared out; nobody waits for its researcher"
_FRAMES = frozenset({Fault.REPLAYED, Fault.REORDERED, Fault.DUPLICATED, Fault.ALTERED, Fault.OVERSIZED})
_HARMLESS_FRAMES = frozenset({Fault.REPLAYED, Fault.REORDERED, Fault.DUPLICATED})
_LATE = {"JOB_EXPIRED", *UNHEARD}

TABLE: tuple[Row, ...] = (
    # The researcher.
    _row({Fault.KILL, Fault.PARTITION}, RESEARCHER, IDLE, None, "there is no job without her"),
    _row({Fault.KILL, Fault.PARTITION, Fault.CUT, Fault.DELAY}, RESEARCHER, ALL_PHASES, _completes(_ALONE)),
    _row(
        {Fault.CLOCK_AHEAD}, RESEARCHER, IDLE,
        _ends({REJECTED}, {"INVALID_JOB"}, Blame.NOBODY, "a job that was made in the future is refused"),
    ),
    _row(
        {Fault.CLOCK_BEHIND}, RESEARCHER, IDLE,
        _ends({REJECTED, EXPIRED}, {"JOB_EXPIRED"}, Blame.NOBODY, "a job whose time has passed is refused"),
    ),
    _row(
        {Fault.EXPIRED, Fault.REVOKED}, RESEARCHER, IDLE,
        _refused({"UNAUTHENTICATED", "NOT_ENROLLED", "PARTY_UNREACHABLE"}, "nobody takes a job from her"),
    ),
    _row({Fault.WRONG_ROLE}, RESEARCHER, IDLE, _refused({"NOT_AUTHORISED"}, "a party may not submit jobs")),
    _row({Fault.EXPIRED}, RESEARCHER, DURING, _completes("the job was agreed while she was a member")),
    _row({Fault.REVOKED}, RESEARCHER, RELEASING, _completes("the parties had voted")),
    _row(
        {Fault.REVOKED}, RESEARCHER, DURING,
        _ends({REJECTED, ABORTED}, {"NOT_ENROLLED"}, Blame.NOBODY, "nobody goes on for a researcher who is none any more"),
    ),
    _row({Fault.DUPLICATED}, RESEARCHER, IDLE, _completes("a job that comes twice is one job")),
    _row(
        {Fault.ALTERED}, RESEARCHER, IDLE,
        _refused({"BAD_SIGNATURE", "INVALID_DOCUMENT", "INVALID_JOB"}, "her signature covers every byte"),
    ),
    _row(
        {Fault.OVERSIZED}, RESEARCHER, IDLE,
        _refused({"PARTY_BUSY", "INVALID_ARGUMENT", "PARTY_UNREACHABLE"}, "more than a port takes"),
    ),
    _row(Fault, RESEARCHER, ALL_PHASES, None, "she takes no part in a session"),
    # Consent.
    _row({Fault.CONSENT}, {Role.DEALER}, ALL_PHASES, None, "it owns no rows"),
    _row(
        {Fault.CONSENT}, PARTIES, IDLE,
        _ends({REJECTED}, {"GRANT_REVOKED"}, Blame.NOBODY, "its own party refuses the job, whatever the others say"),
    ),
    _row({Fault.CONSENT}, PARTIES, RELEASING, _completes("it had voted; the model is marked, and used no more")),
    _row(
        {Fault.CONSENT}, PARTIES, DURING,
        _ends(
            {ABORTED, REJECTED}, {"GRANT_REVOKED"}, Blame.NOBODY,
            "its own party ends its part at the next look, and so does everybody who hears of it",
        ),
    ),
    # What does no harm.
    _row({Fault.PAUSE, Fault.DELAY}, PARTIES, ALL_PHASES, _completes("shorter than any silence that counts")),
    _row({Fault.SECOND_SERVE}, PARTIES, ALL_PHASES, _completes("the second process is refused (STATE_LOCKED)")),
    _row({Fault.CUT}, PARTIES, ALL_PHASES - WORKING, _completes("control messages are repeated")),
    # A data owner's worker has given its shares long before the others are through; while they run it has voted already.
    _row(
        {Fault.CUT, Fault.RESTART, Fault.VERSION}, OWNER, RUNNING,
        _completes("its worker is through: nothing of it is needed but its vote"),
    ),
    _row(_FRAMES, OWNER, {Phase.PREPARED, Phase.RUNNING}, None, "its worker is through: it sends no frames"),
    _row(
        {Fault.CUT}, PARTIES, WORKING,
        _ends({ABORTED}, UNHEARD, Blame.HIT_OR_NOBODY, "the streams of links are not repeated: their masks are used once"),
    ),
    # Gone.
    _row(
        GONE, PARTIES, IDLE,
        _ends(
            {EXPIRED, ABORTED}, {"JOB_EXPIRED", *UNHEARD}, Blame.HIT_OR_NOBODY,
            "it did not countersign in time, nor cosign the others' logs",
        ),
    ),
    _row(GONE, FOLLOWERS, RELEASING, _completes("it had voted, and the others are a majority")),
    _row(GONE, PARTIES, DURING, _ends({ABORTED}, UNHEARD, Blame.HIT, "a silent party is presumed gone after 12 s")),
    _row({Fault.RESTART}, PARTIES, ALL_PHASES - WORKING, _completes("nothing was at work; it goes on where it stood")),
    _row(
        {Fault.RESTART}, PARTIES, WORKING,
        _ends({ABORTED}, {"PARTY_RESTARTED", *UNHEARD}, Blame.HIT, "its worker died with it"),
    ),
    # Identity.
    _row(
        {Fault.EXPIRED}, PARTIES, IDLE,
        _ends({EXPIRED, ABORTED}, {"JOB_EXPIRED", *UNHEARD}, Blame.HIT_OR_NOBODY, "nobody hears it"),
    ),
    _row({Fault.EXPIRED}, FOLLOWERS, RELEASING, _completes("it had voted, and the others are a majority")),
    _row(
        {Fault.EXPIRED}, PARTIES, DURING,
        _ends({ABORTED}, {"DEADLINE_PASSED", "UNAUTHENTICATED", *UNHEARD}, Blame.HIT_OR_NOBODY, "nobody hears it any more"),
    ),
    _row(
        {Fault.REVOKED}, PARTIES, IDLE,
        _ends(
            {REJECTED}, {"STALE_DIRECTORY", "NOT_AUTHORISED", "NOT_ENROLLED", "NO_AGREEMENT"}, Blame.NOBODY,
            "the job names a party that is none",
        ),
    ),
    _row({Fault.REVOKED}, FOLLOWERS, RELEASING, _completes("it had voted, and the others are a majority")),
    _row(
        {Fault.REVOKED}, PARTIES, DURING,
        _ends(
            {REJECTED, ABORTED}, {"NO_AGREEMENT", *UNHEARD}, Blame.HIT_OR_NOBODY,
            "nobody hears it, and an agreement that a stranger signed is in force no more",
        ),
    ),
    # Versions.
    _row(
        {Fault.VERSION}, PARTIES, IDLE | WAITING,
        _ends({ABORTED}, {"VERSION_DIFFERS"}, Blame.NOBODY, "the greeting of the links names both versions"),
    ),
    _row(
        {Fault.VERSION}, PARTIES, WORKING,
        _ends({ABORTED}, {"PARTY_RESTARTED", *UNHEARD}, Blame.HIT, "its worker died with it"),
    ),
    _row({Fault.VERSION}, PARTIES, RELEASING, _completes("nothing of the links is left to do")),
    # Clocks.
    _row(
        {Fault.CLOCK_AHEAD}, PARTIES, IDLE,
        _ends(
            {REJECTED, EXPIRED, ABORTED}, {"JOB_EXPIRED", "NOT_LOGGED", *UNHEARD}, Blame.HIT_OR_NOBODY,
            "by its clock the job has expired, and what it cosigns is of another time",
        ),
    ),
    _row(
        {Fault.CLOCK_BEHIND}, PARTIES, IDLE,
        _ends(
            {REJECTED, EXPIRED, ABORTED}, {"INVALID_JOB", "JOB_EXPIRED", "NOT_LOGGED", *UNHEARD}, Blame.HIT_OR_NOBODY,
            "by its clock the job was made in the future; what was due by the old clock may come late, which looks like silence",
        ),
    ),
    _row(
        {Fault.CLOCK_AHEAD, Fault.CLOCK_BEHIND}, PARTIES, DURING,
        Promise(
            frozenset({State.COMPLETED, ABORTED, EXPIRED, REJECTED}),
            frozenset({"DEADLINE_PASSED", "JOB_EXPIRED", "NOT_LOGGED", "WORKER_LOST", *UNHEARD}), Blame.HIT_OR_NOBODY,
            "what was due by the old clock may come late or at once by the new one, which looks like silence; and cosignatures"
            " look too old or not yet made",
        ),
    ),
    # A full disk.
    _row(
        {Fault.DISK}, PARTIES, ALL_PHASES,
        Promise(
            frozenset({State.COMPLETED, ABORTED, EXPIRED, REJECTED}),
            frozenset({"DISK_FULL", "JOB_EXPIRED", "PARTY_RESTARTED", "WORKER_LOST", *UNHEARD}), Blame.HIT_OR_NOBODY,
            "what it cannot store did not happen, so it falls silent; what needs no new space goes on",
        ),
    ),
    # What is sent.
    _row(
        {Fault.ALTERED}, PARTIES, {Phase.PREPARING},
        _ends(
            {ABORTED}, {"BAD_FRAME", "PLAN_DIFFERS", "VERSION_DIFFERS"}, Blame.NOBODY,
            "the greeting names versions, job and plan, and all of it is compared",
        ),
    ),
    _row(
        _FRAMES - {Fault.OVERSIZED}, PARTIES, WORKING,
        _ends({ABORTED}, {"BAD_FRAME"}, Blame.NOBODY, "every frame is compared with the plan and its place"),
    ),
    _row(
        {Fault.OVERSIZED}, PARTIES, WORKING,
        _ends({ABORTED}, {"BAD_FRAME", *UNHEARD}, Blame.HIT_OR_NOBODY, "the stream ends at a frame above 1 MiB"),
    ),
    _row(_HARMLESS_FRAMES, PARTIES, ALL_PHASES, _completes("a signed message has its effect once, whenever it comes")),
    _row({Fault.OVERSIZED}, PARTIES, ALL_PHASES, _completes("it is refused, and the message is repeated")),
    _row(
        {Fault.ALTERED}, PARTIES, ALL_PHASES,
        Promise(
            frozenset({State.COMPLETED, ABORTED, EXPIRED, REJECTED}), frozenset({"", *_LATE}), Blame.HIT_OR_NOBODY,
            "the signature does not verify: the message is refused and missing",
        ),
    ),
)  # fmt: skip


def row_of(cell: Cell) -> Row:
    """Returns the row that holds for a cell; every cell has one."""
    for row in TABLE:
        if row.fits(cell):
            return row
    raise LookupError(cell.name)


def promise_of(cell: Cell) -> Promise | None:
    """Returns what is promised in a cell, None where there is nothing to hit."""
    return row_of(cell).promise


def possible_cells() -> tuple[Cell, ...]:
    """Returns every cell with a promise."""
    return tuple(cell for cell in all_cells() if promise_of(cell) is not None)
