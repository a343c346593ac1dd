"""How each fault is brought about and how it ends; `begin` returns once the fault is there."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from random import Random

from tests.chaos.cells import MEMBERS, Cell, Fault, Phase, Role
from tests.chaos.network import HOSPITALS, Network

CLOCK_S = 2400  # beyond the permitted difference of clocks and beyond the life of a job
PAUSE_S = 4.0
DELAY_FOR_S = 4.0
OVERSIZED_BYTES = 5 << 20
CERTIFICATE_LIFE = timedelta(seconds=60)  # a job must have come into its phase by then, also on a busy machine
# What a job meets only if it is there before the job: the member is prepared while nothing runs.
PREPARED_BEFORE = frozenset({Fault.EXPIRED})
# Faults of what a member sends; which layer is hit follows from the phase.
OF_FRAMES = frozenset({Fault.REPLAYED, Fault.REORDERED, Fault.DUPLICATED, Fault.ALTERED, Fault.OVERSIZED})
# A party that is back before the others presume it gone; a slow machine may need longer.
QUICK = frozenset({Fault.RESTART, Fault.VERSION})
QUICK_S = 8.0
LINK_PHASES = frozenset({Phase.PREPARING, Phase.PREPARED, Phase.RUNNING})
# While the fault lasts the member cannot be expected to show what the others show.
HURT = frozenset(
    {
        Fault.KILL, Fault.STOP, Fault.PARTITION, Fault.DISK, Fault.EXPIRED, Fault.WRONG_ROLE, Fault.REVOKED,
        Fault.CLOCK_AHEAD, Fault.CLOCK_BEHIND,
    }
)  # fmt: skip


class Mishap(AssertionError):
    """The fault itself did not come about as it should, for example a second serve that was not refused."""


def prepare(network: Network, cell: Cell) -> float:
    """Brings about what must be there before the job; returns when the fault itself sets in (monotonic time), or 0."""
    if cell.fault is not Fault.EXPIRED:
        return 0.0
    network.certify(cell.member, lifetime=CERTIFICATE_LIFE)
    ends = time.monotonic() + CERTIFICATE_LIFE.total_seconds()
    network.distribute()
    _relaunch(network, cell.member)
    return ends


def begin(network: Network, cell: Cell, random: Random) -> None:
    """Brings the fault about."""
    _BEGIN.get(cell.fault, _nothing)(network, cell, random)


def finish(network: Network, cell: Cell) -> None:
    """Takes the fault away and waits until the member serves again."""
    _END.get(cell.fault, _nothing_more)(network, cell)
    if cell.role is not Role.RESEARCHER:
        network.recall(cell.member)
        network.await_serving(cell.member)
    for party in HOSPITALS:
        network.await_client(party)


def _nothing(network: Network, cell: Cell, random: Random) -> None:
    pass


def _nothing_more(network: Network, cell: Cell) -> None:
    pass


def _kill(network: Network, cell: Cell, random: Random) -> None:
    if cell.role is Role.RESEARCHER:
        network.leave()
    else:
        network.kill(cell.member)


def _come_back(network: Network, cell: Cell) -> None:
    if cell.role is Role.RESEARCHER:
        network.distribute(to=[cell.member])
    else:
        network.launch(cell.member)


def _restart(network: Network, cell: Cell, random: Random) -> None:
    network.kill(cell.member)
    network.launch(cell.member)
    network.await_serving(cell.member)


def _stop(network: Network, cell: Cell, random: Random) -> None:
    network.signal(cell.member, signal.SIGSTOP)


def _continue(network: Network, cell: Cell) -> None:
    network.signal(cell.member, signal.SIGCONT)


def _pause(network: Network, cell: Cell, random: Random) -> None:
    _stop(network, cell, random)
    time.sleep(PAUSE_S)
    _continue(network, cell)


def _partition(network: Network, cell: Cell, random: Random) -> None:
    for route in network.routes.of(cell.member):
        route.stall()


def _heal(network: Network, cell: Cell) -> None:
    for route in network.routes.of(cell.member):
        route.open()


def _cut(network: Network, cell: Cell, random: Random) -> None:
    for route in network.routes.of(cell.member):
        route.cut()
    time.sleep(random.uniform(0.0, 1.0))
    _heal(network, cell)


def _delay(network: Network, cell: Cell, random: Random) -> None:
    for route in network.routes.of(cell.member):
        route.delay(random.uniform(0.05, 0.3))
    time.sleep(DELAY_FOR_S)
    _heal(network, cell)


def _fill_disk(network: Network, cell: Cell, random: Random) -> None:
    if not network.state(cell.member).is_mount():
        raise Mishap("the state folder is no small file system of its own: run as root, or leave the full disk out")
    with (network.state(cell.member) / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(4096))


def _free_disk(network: Network, cell: Cell) -> None:
    (network.state(cell.member) / "ballast").unlink(missing_ok=True)


def _shift(seconds: int) -> Callable[[Network, Cell, Random], None]:
    def shift(network: Network, cell: Cell, random: Random) -> None:
        if cell.role is not Role.RESEARCHER:  # hers is in the job that she makes
            network.order(cell.member, "clock", str(seconds))

    return shift


def _set_clock_right(network: Network, cell: Cell) -> None:
    if cell.role is not Role.RESEARCHER:
        network.recall(cell.member, "clock")


def _renew(network: Network, cell: Cell) -> None:
    network.enrol_again(cell.member)
    if cell.role is not Role.RESEARCHER:
        _relaunch(network, cell.member)


def _show_wrong_role(network: Network, cell: Cell, random: Random) -> None:
    if cell.role is Role.RESEARCHER:
        network.borrow(HOSPITALS[3])
        return
    network.kill(cell.member)
    state = network.folder / MEMBERS[Role.RESEARCHER] / "state"
    network.order(cell.member, "certificate.pem", (state / "certificate.pem").read_text())
    network.order(cell.member, "tls.pem", (state / "keys" / "tls.pem").read_text())
    network.launch(cell.member)


def _show_own_role(network: Network, cell: Cell) -> None:
    if cell.role is Role.RESEARCHER:
        network.distribute(to=[cell.member])
        return
    network.recall(cell.member)
    _relaunch(network, cell.member)


def _revoke(network: Network, cell: Cell, random: Random) -> None:
    network.revoke(cell.member)


def _enrol(network: Network, cell: Cell) -> None:
    network.enrol_again(cell.member)
    if cell.role is not Role.RESEARCHER:
        _relaunch(network, cell.member)  # its certificate is a new one


def _withdraw(network: Network, cell: Cell, random: Random) -> None:
    network.withdraw(cell.member)


def _permit(network: Network, cell: Cell) -> None:
    network.permit(cell.member)


def _other_version(network: Network, cell: Cell, random: Random) -> None:
    network.order(cell.member, "version")
    _restart(network, cell, random)


def _own_version(network: Network, cell: Cell) -> None:
    network.recall(cell.member, "version")
    _relaunch(network, cell.member)


def _disturb(network: Network, cell: Cell, random: Random) -> None:
    if cell.role is not Role.RESEARCHER:
        what = cell.fault.value.split()[0]
        network.order(cell.member, "frame" if cell.phase in LINK_PHASES else "message", f"{what} {random.randrange(1 << 30)}")


def _serve_again(network: Network, cell: Cell, random: Random) -> None:
    command = [sys.executable, "-I", "-m", "parties.cli", "party", "serve", "--config", str(network.config_file(cell.member))]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if second.returncode == 0 or "STATE_LOCKED" not in second.stdout + second.stderr:
        raise Mishap(f"a second serve ended with {second.returncode}: {second.stderr[-300:]}")


def _relaunch(network: Network, party: str) -> None:
    if party in HOSPITALS:
        network.kill(party)
        network.launch(party)
        network.await_serving(party)


_BEGIN: Mapping[Fault, Callable[[Network, Cell, Random], None]] = {
    Fault.KILL: _kill,
    Fault.RESTART: _restart,
    Fault.STOP: _stop,
    Fault.PAUSE: _pause,
    Fault.PARTITION: _partition,
    Fault.CUT: _cut,
    Fault.DELAY: _delay,
    Fault.DISK: _fill_disk,
    Fault.CLOCK_AHEAD: _shift(CLOCK_S),
    Fault.CLOCK_BEHIND: _shift(-CLOCK_S),
    Fault.WRONG_ROLE: _show_wrong_role,
    Fault.REVOKED: _revoke,
    Fault.CONSENT: _withdraw,
    Fault.VERSION: _other_version,
    Fault.SECOND_SERVE: _serve_again,
    **dict.fromkeys(OF_FRAMES, _disturb),
}
_END: Mapping[Fault, Callable[[Network, Cell], None]] = {
    Fault.KILL: _come_back,
    Fault.STOP: _continue,
    Fault.PARTITION: _heal,
    Fault.DISK: _free_disk,
    Fault.CLOCK_AHEAD: _set_clock_right,
    Fault.CLOCK_BEHIND: _set_clock_right,
    Fault.EXPIRED: _renew,
    Fault.WRONG_ROLE: _show_own_role,
    Fault.REVOKED: _enrol,
    Fault.CONSENT: _permit,
    Fault.VERSION: _own_version,
}
