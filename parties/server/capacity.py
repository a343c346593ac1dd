"""How much of this machine sessions may use together, how much one session takes of it, and what is left for callers."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from parties.config import PartyConfig
from parties.server.slots import Need
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

_CGROUP_THREADS = Path("/sys/fs/cgroup/pids.max")
_MOST_DESCRIPTORS = 1 << 16
_DESCRIPTORS_EACH = 4  # of a connection: its own, both ends of its way to gRPC's server or a worker's socket, and one to spare


def room_for_connections(wished: int) -> int:
    """Returns how many connections the public port may take at once, at most `wished`: anybody may open them.

    Half of the descriptors and half of the threads that this process and its workers may have stay for everything else. The soft
    limit of descriptors is raised first, since what a system gives without being asked is often 1,024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return min(wished, most // (2 * _DESCRIPTORS_EACH), _most_threads() // 2)


def _most_threads() -> int:
    try:
        return int(_CGROUP_THREADS.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no control group, or `max`
        return _MOST_DESCRIPTORS


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
