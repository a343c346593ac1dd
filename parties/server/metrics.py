"""What a party tells Prometheus, on a private listener: how it works, never what about.

No metric counts rows, samples or values, none is labelled with a job, a data set, a model or a person, and none exists that
other members could not derive from the directory and the jobs they take part in, but for how busy evaluators are.
docs/operators.md lists all names.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable
from datetime import datetime
from threading import Event, Lock, Thread
from typing import Protocol
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from governance.identity.certificates import parse_certificate
from parties.server.board import Board, Measured, Status
from parties.server.party import Party
from parties.transport.peers import Peers
from parties.wire.methods import HELLO
from protocols import PROTOCOL_VERSION
from protocols.errors import ConfideError, ErrorCode
from protocols.session.states import State

PEERS_EVERY_S = 30.0
PEER_TIMEOUT_S = 5.0
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


class Load(Protocol):
    """What the metrics read of the sessions of this process, beside what is shown of each."""

    @property
    def num_running(self) -> int:
        """How many sessions have a slot."""
        ...

    @property
    def num_waiting(self) -> int:
        """How many sessions that this party leads wait for a slot."""
        ...

    @property
    def stores(self) -> bool:
        """Whether this party can store what happens."""
        ...


class Metrics:
    """The figures of one party process; its methods may be called from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Histogram(
            "rpc_server_call_duration_seconds",
            "How long calls of the public port took, streams included, by method and outcome.",
            ("method", "code"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._bytes = Counter(
            "confide_peer_bytes",
            "Bytes of sessions' frames to and from a party; kind is sent or received.",
            ("peer", "kind"),
            registry=self.registry,
        )
        self._releases_ended = Counter(
            "confide_releases_ended",
            "Model versions that fell from `released` when the gate on evidence judged them again.",
            registry=self.registry,
        )
        self._counters: dict[tuple[str, str], Counter] = {}
        self._round_trip = Gauge(
            "confide_peer_rtt_seconds", "Round trip of one small call to a party.", ("peer",), registry=self.registry
        )
        self._up = Gauge("confide_peer_up", "1 if the party answered the last call, else 0.", ("peer",), registry=self.registry)

    def call_ended(self, method: str, code: str, seconds: float) -> None:
        """Counts one call; `code` is an error code's name, or OK."""
        self._calls.labels(method, code).observe(seconds)

    def carried(self, peer: str, kind: str, size: int) -> None:
        """Counts the bytes of a frame; `kind` is sent or received."""
        counter = self._counters.get((peer, kind))  # looking it up by its labels would cost most of counting a small frame
        if counter is None:
            counter = self._counters[peer, kind] = self._bytes.labels(peer, kind)
        counter.inc(size)

    def release_ended(self) -> None:
        """Counts a version that fell from `released` because its evidence does not carry it any more."""
        self._releases_ended.inc()

    def peer_answered(self, peer: str, round_trip_s: float | None) -> None:
        """Notes how long a party took to answer, or None if it did not."""
        self._up.labels(peer).set(0 if round_trip_s is None else 1)
        if round_trip_s is not None:
            self._round_trip.labels(peer).set(round_trip_s)

    def forget_peers(self, known: Iterable[str]) -> None:
        """Drops the figures of parties that are no longer in the directory."""
        kept = set(known)
        for gauge in (self._up, self._round_trip):
            for family in gauge.collect():
                for peer in {sample.labels["peer"] for sample in family.samples} - kept:
                    gauge.remove(peer)


class PartyCollector(Collector):
    """Figures that are read when Prometheus asks."""

    def __init__(self, party: Party, board: Board, load: Load, now: Callable[[], datetime]) -> None:
        """Takes the party, what it shows of its sessions, what they occupy, and the clock (UTC)."""
        self._party = party
        self._board = board
        self._load = load
        self._now = now
        self._began = now()
        self._lock = Lock()
        self._seen: dict[str, Measured] = {}
        self._rounds = 0

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        """Reads everything anew."""
        shown = self._board.shown()
        states = Tally(status.state for status in shown)
        jobs = GaugeMetricFamily("confide_jobs", "Jobs that are open in this process, by state.", labels=["state"])
        for state in State:
            jobs.add_metric([state.value], states[state])
        yield jobs
        yield CounterMetricFamily("confide_mpc_rounds", "Communication rounds of this party's workers.", value=self._count(shown))
        until = parse_certificate(self._party.member.certificate).not_after
        for name, text, value in (
            ("confide_sessions_running", "Sessions that hold a slot here.", self._load.num_running),
            ("confide_queue_depth", "Sessions that this party leads and that wait for a slot.", self._load.num_waiting),
            ("confide_storage_writable", "1 if this party can store what happens, else 0.", int(self._load.stores)),
            ("confide_disk_free_bytes", "Free space where the state folder lies.", self._free_bytes()),
            ("confide_cert_expiry_seconds", "Until this party's certificate ends.", (until - self._now()).total_seconds()),
            (
                "confide_approval_pending_seconds",
                "How long the oldest job has waited for this party's people.",
                self._waiting_s(shown),
            ),
            ("confide_directory_version", "Version of the directory that this party holds.", self._party.directory.version),
        ):
            yield GaugeMetricFamily(name, text, value=value)

    def _count(self, shown: Iterable[Status]) -> int:
        with self._lock:
            for status in shown:
                job, measured = status.job.job_id, status.measured
                # What was measured before this process began, another process has counted.
                before = self._seen.get(job, measured if status.job.created < self._began else Measured())
                self._rounds += max(0, measured.rounds - before.rounds)
                self._seen[job] = measured
            return self._rounds

    def _waiting_s(self, shown: Iterable[Status]) -> float:
        waiting = [status.job.created for status in shown if status.waiting_for]
        return max(0.0, (self._now() - min(waiting)).total_seconds()) if waiting else 0.0  # queriers' clocks may be ahead

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._party.config.state).free


class MetricsServer:
    """The private listener, and the thread that asks the peers how long they take."""

    def __init__(self, metrics: Metrics, party: Party, peers: Peers) -> None:
        self._metrics = metrics
        self._party = party
        self._peers = peers
        self._stop = Event()
        self._listener: tuple[WSGIServer, Thread] | None = None

    def start(self, listen: str) -> None:
        """Binds the listener and begins to ask.

        Raises:
            ConfideError: INVALID_CONFIG (the operator's fault): the address cannot be bound.
        """
        host, _, port = listen.rpartition(":")
        try:
            self._listener = start_http_server(int(port), host.strip("[]"), registry=self._metrics.registry)
        except OSError as error:
            what = f"metrics cannot be served at {listen}: {error.strerror}"
            remedy = "Stop what uses the port, or change `metrics` in the configuration."
            raise ConfideError(ErrorCode.INVALID_CONFIG, what, remedy=remedy) from error
        Thread(target=self._ask, name="metrics", daemon=True).start()

    def stop(self) -> None:
        """Closes the listener, if there is one."""
        self._stop.set()
        if self._listener is not None:
            server, thread = self._listener
            server.shutdown()
            server.server_close()
            thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            others = [entry.id for entry in self._party.directory.parties if entry.id != self._party.id]
            self._metrics.forget_peers(others)
            for peer in others:
                self._metrics.peer_answered(peer, self._round_trip(peer))
            self._stop.wait(PEERS_EVERY_S)

    def _round_trip(self, peer: str) -> float | None:
        request = HELLO.request(protocol_version=int(PROTOCOL_VERSION))
        began = time.perf_counter()
        try:
            HELLO.call(self._peers.channel(peer), request, party=peer, timeout_s=PEER_TIMEOUT_S)
        except (ConfideError, ValueError):  # the latter from a channel that is being closed
            return None
        return time.perf_counter() - began
