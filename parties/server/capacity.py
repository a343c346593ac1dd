"""How much of this machine sessions may use together, and how much one session takes of it."""

from __future__ import annotations

import os
from pathlib import Path

from parties.config import PartyConfig
from parties.server.slots import Need
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def capacity(config: PartyConfig) -> Need:
    """Returns what the configuration gives to sessions; where it says nothing: all cores, three quarters of the memory."""
    cores = config.cores or len(os.sched_getaffinity(0))
    memory_bytes = config.memory_mib << 20 if config.memory_mib else machine_memory() // 4 * 3
    return Need(cores, memory_bytes)


def need_of(job: Job, *, party: str, memory_bytes: int) -> Need:
    """Returns what one worker of a job takes at a party: a core if it computes or deals, and its predicted memory."""
    busy = party in job.computing_parties or party == job.dealer
    return Need(int(busy), memory_bytes)


def demand_room(need: Need, room: Need, *, party: str) -> None:
    """Refuses a session that could never run here.

    Raises:
        ConfideError: TOO_LARGE (the request's fault), with numbers.
    """
    if not need.fits(room):
        what = (
            f"the job needs {need.cores} core(s) and {need.memory_bytes >> 20} MiB at {party}, "
            f"which gives {room.cores} core(s) and {room.memory_bytes >> 20} MiB to sessions"
        )
        raise ConfideError(ErrorCode.TOO_LARGE, what, party=party)


def machine_memory() -> int:
    """Returns the bytes of memory that this machine, or the container that this process runs in, has."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _CGROUP_LIMITS:  # a container's own limit
        try:
            text = file.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            limits.append(int(text))
    return min(limits)
