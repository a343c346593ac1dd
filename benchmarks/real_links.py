"""Runs the same work at several parties over the real path, on this machine: for what has no job type of its own.

    worker - local socket - party process - gRPC stream, mutual TLS 1.3 - party process - local socket - worker

Every party is two processes, as in a consortium: one that serves its port and dials the others, and a confined worker whose
frames are checked and authenticated. Only the session around it is missing: no job, no consent, no results.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any

from governance.identity.directory import Directory, PartyEntry
from governance.identity.names import Role
from parties.transport.tls import TlsIdentity
from parties.worker.handshake import Agreed
from parties.worker.link import WorkerLink
from tests.support.members import new_keys
from tests.support.tls_world import TlsWorld, a_current_founder, identity_of

SESSION, ATTEMPT, DIGEST = "0f" * 16, 1, "0" * 64
TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Place:
    """Where a party's work runs: its id, the ids of all, its links to the others, and what the handshake agreed on."""

    party: str
    participants: tuple[str, ...]
    links: Mapping[str, WorkerLink]
    agreed: Agreed


Work = Callable[[Place], Any]


def run_everywhere(work: Mapping[str, Work], *, one_way_s: float = 0.0) -> dict[str, Any]:
    """Runs each party's work in a confined worker of its own and returns what each returns.

    Must be called by a process of one thread that has opened no gRPC channel: parties and workers are its forks.

    Args:
        work: what each party does; ids in the order of the session's participants.
        one_way_s: seconds that everything takes longer from one party to another, by a proxy in front of each.

    Raises:
        RuntimeError: a party's work failed; its words are on standard error.
    """
    names = tuple(work)
    directory, identities = _a_consortium(names)
    sockets = {(one, two): socket.socketpair() for one in names for two in names if one != two}
    context = multiprocessing.get_context("fork")
    pids: list[int] = []
    try:
        told: dict[str, Connection] = {}
        for name in names:
            near, far = context.Pipe()
            told[name] = near
            ends = {peer: sockets[name, peer][1] for peer in names if peer != name}
            at = Stand(name, names, directory, identities[name], one_way_s)
            pids.append(_fork(lambda at=at, far=far, ends=ends: _serve(at, ends, far)))
        endpoints = {name: _hear(pipe) for name, pipe in told.items()}
        for pipe in told.values():
            pipe.send(endpoints)
        for pipe in told.values():
            _hear(pipe)
        answers: dict[str, Connection] = {}
        for name in names:
            near, far = context.Pipe()
            answers[name] = near
            ends = {peer: sockets[name, peer][0] for peer in names if peer != name}
            pids.append(_fork(lambda name=name, far=far, ends=ends: _work(name, names, ends, work[name], far)))
        return {name: _hear(pipe) for name, pipe in answers.items()}
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for one, two in sockets.values():
            one.close()
            two.close()


def _hear(pipe: Connection) -> Any:
    if not pipe.poll(TIMEOUT_S):
        raise RuntimeError("a party of the benchmark says nothing")
    try:
        kind, value = pipe.recv()
    except EOFError:
        kind, value = "failed", ""
    if kind != "done":
        raise RuntimeError("a party of the benchmark has failed; its words are above")
    return value


def _fork(task: Callable[[], None]) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            task()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(0)
    return pid


@dataclass(frozen=True)
class Stand:
    """What a party process starts with: its id, the ids of all, directory, identity, and how far away it is."""

    party: str
    names: tuple[str, ...]
    directory: Directory
    identity: TlsIdentity
    one_way_s: float


def _serve(at: Stand, ends: Mapping[str, socket.socket], told: Connection) -> None:
    """A party process: accepts the links of those before it and dials those after it."""
    from parties.transport.dialling import Route
    from parties.transport.streams import LinkTable, dial
    from tests.support.tls_world import serving

    world = TlsWorld(a_current_founder(), at.directory, at.identity, at.identity, at.identity)
    links = LinkTable()
    place = at.names.index(at.party)
    for peer in at.names[:place]:
        links.expect(SESSION, ATTEMPT, peer, ends[peer])
    with ExitStack() as stack:
        endpoint = stack.enter_context(serving(world, links))
        told.send(("done", _moved_away(endpoint, at.one_way_s) if at.one_way_s else endpoint))
        endpoints = told.recv()
        for peer in at.names[place + 1 :]:
            route = Route(at.identity, endpoints[peer], peer, at.directory.party(peer).certificate)
            dial(route, session=SESSION, attempt=ATTEMPT, endpoint=ends[peer])
        told.send(("done", None))
        signal.pause()


def _moved_away(endpoint: str, one_way_s: float) -> str:
    """Returns where a proxy now stands before an endpoint of loopback."""
    from parties.harness import free_ports
    from tests.support.delay_proxy import DelayProxy

    (port,) = free_ports(1)
    proxy = DelayProxy(port, int(endpoint.rpartition(":")[2]), one_way_s=one_way_s)
    proxy.start()
    return proxy.address


def _work(party: str, names: Sequence[str], ends: Mapping[str, socket.socket], work: Work, answer: Connection) -> None:
    """A worker: confined, then shakes hands with the others and does its work."""
    import torch

    from parties.worker.confinement import confine
    from parties.worker.handshake import shake_hands

    torch.set_num_threads(1)
    confine()
    try:
        links = {peer: WorkerLink(end, peer=peer, session=bytes.fromhex(SESSION), attempt=ATTEMPT) for peer, end in ends.items()}
        agreed = shake_hands(party=party, participants=names, links=links, job_digest=DIGEST, plan_digest=DIGEST)
        result = work(Place(party, tuple(names), links, agreed))
        for link in links.values():
            link.close()
        answer.send(("done", result))
        answer.recv()  # stays until it is ended: a peer may still be reading what it has sent
    except EOFError:
        return
    except BaseException:
        answer.send(("failed", None))
        raise


def _a_consortium(names: Sequence[str]) -> tuple[Directory, dict[str, TlsIdentity]]:
    founder, now = a_current_founder(), datetime.now(UTC)
    keys = {name: new_keys() for name in names}
    shown = {name: founder.certificate(keys[name], name, now=now) for name in names}
    directory = founder.directory(
        parties=tuple(PartyEntry(name, "127.0.0.1:1", tuple(Role), shown[name], keys[name].signing.public) for name in names)
    )
    return directory, {name: identity_of(founder, keys[name], shown[name]) for name in names}
