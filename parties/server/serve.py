"""`confide party serve`: one process, one public port, until it is told to stop."""

from __future__ import annotations

import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from threading import Event

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from governance.identity.names import MemberKind
from parties.config import PartyConfig
from parties.log import configure_log
from parties.server.acceptance import Acceptance
from parties.server.access import AccessInterceptor
from parties.server.assessments import AssessmentWatch
from parties.server.assessor import Assessor
from parties.server.audit_metrics import AuditCollector
from parties.server.audit_service import AuditService
from parties.server.capacity import room_for_connections
from parties.server.consent_watch import ConsentWatch
from parties.server.desk import Desks
from parties.server.encrypted.desk import EnquiryDesk
from parties.server.encrypted.metrics import EnquiryCollector, EnquiryMetrics
from parties.server.encrypted.service import EncryptedInferenceService
from parties.server.encrypted.watch import EnquiryWatch
from parties.server.governance_service import GovernanceService
from parties.server.intake import Checker
from parties.server.jobs_service import JobsService
from parties.server.linking_desk import IntersectionDesk
from parties.server.linking_service import LinkingService
from parties.server.links import LinkDoor
from parties.server.metrics import Metrics, MetricsServer, PartyCollector
from parties.server.party import CurrentDirectory, Party
from parties.server.party_service import PartyService
from parties.server.policy import CurrentPolicy
from parties.server.release_watch import ReleaseWatch
from parties.server.rollback import check_state, log_start
from parties.server.serving_service import ServingService
from parties.server.session_service import SessionService
from parties.server.sessions import Sessions
from parties.server.statements import Exchange
from parties.server.witnessing import Witnessing
from parties.server.workers import Template
from parties.storage.database import open_database
from parties.transport.peers import Peers
from parties.transport.port import PublicPort, calls_address
from parties.transport.streams import LinkTable
from parties.transport.tls import MAX_CONNECTIONS, SERVER_OPTIONS, TlsIdentity, accepting_context, server_credentials
from parties.wire.methods import (
    AUDIT_SERVICE,
    ENCRYPTED_SERVICE,
    GOVERNANCE_SERVICE,
    JOBS_SERVICE,
    LINKING_SERVICE,
    PARTY_SERVICE,
    SERVING_SERVICE,
    SESSION_SERVICE,
)

_THREADS = 256  # each open stream holds one; what one member may hold is in stream_limits
_DRAIN_S = 3.0
# How long a thread may keep the others from Python. A round of a session needs several of them for a moment each; behind one that
# seals or reads the database each would wait up to the usual 5 ms, as long as several rounds take.
_TURN_S = 0.0005
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_log = structlog.get_logger()


def serve(config: PartyConfig) -> None:
    """Serves a party until SIGTERM or SIGINT.

    Raises:
        ConfideError: STATE_LOCKED, STATE_SCHEMA, STATE_ROLLED_BACK, FILE_MODE, NOT_ENROLLED, INVALID_CONFIG (the operator's).
    """
    configure_log(config.log_level)
    sys.setswitchinterval(_TURN_S)
    folder = config.folder
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with folder.serving():
        member = folder.member.load_member(kind=MemberKind.PARTY, member=config.party, now=datetime.now(UTC))
        database = open_database(folder.database_file)
        directory = CurrentDirectory(folder.member, member.directory)
        party = Party(config, member, database, folder.open_sealed(), directory, CurrentPolicy(config.policy))
        _serve(party, stop)
        database.close()


def _serve(party: Party, stop: Event) -> None:
    member = party.member
    identity = TlsIdentity(
        private_key=member.tls_key.export_secret_pem(),
        certificate=member.certificate.encode(),
        ca_certificate=party.directory.ca_certificate.encode(),
    )
    metrics = Metrics()
    peers, links = Peers(identity, lambda: party.directory), LinkTable(metrics.carried)
    check_state(party, peers)
    log_start(party, software_version=version("confide"))
    template = Template(party.worker_log)
    template.start()
    checker = Checker(party, template)
    healthy = health.HealthServicer()

    def tell_health(stores: bool) -> None:
        healthy.set("", _SERVING if stores and witnessing.halted is None else _NOT_SERVING)

    witnessing = Witnessing(party, peers, rolled_back=lambda: tell_health(stores=False))
    acceptance = Acceptance(
        party,
        witnessing,
        show=lambda job_id, what: sessions.board.update(job_id, waiting_for=what),
        storage_failed=lambda error: sessions.note_storage(error),
    )
    desks, intersections = Desks(party), IntersectionDesk(party)
    enquiries = EnquiryDesk(party, template, observe=EnquiryMetrics(metrics.registry), halted=lambda: witnessing.halted)
    sessions = Sessions(
        party,
        peers=peers,
        links=links,
        template=template,
        check=checker.check,
        accept=acceptance.pursue,
        tell_health=tell_health,
        desks=desks,
    )
    metrics.registry.register(PartyCollector(party, sessions.board, sessions, party.now))
    metrics.registry.register(AuditCollector(party, witnessing))
    metrics.registry.register(EnquiryCollector(lambda: enquiries.figures))
    server = grpc.server(
        ThreadPoolExecutor(_THREADS, thread_name_prefix="call"),
        interceptors=[
            AccessInterceptor(
                lambda: party.directory,
                observe=metrics.call_ended,
                settle=lambda peer, member: port.settle_call(peer, member),
            )
        ],
        options=SERVER_OPTIONS,
    )
    for service, handlers in (
        (PARTY_SERVICE, PartyService(party, version("confide")).handlers()),
        (JOBS_SERVICE, JobsService(party, sessions, checker).handlers()),
        (SERVING_SERVICE, ServingService(party, sessions, desks).handlers()),
        (ENCRYPTED_SERVICE, EncryptedInferenceService(party, enquiries).handlers()),
        (GOVERNANCE_SERVICE, GovernanceService(party).handlers()),
        (AUDIT_SERVICE, AuditService(party).handlers()),
        (LINKING_SERVICE, LinkingService(party, intersections).handlers()),
        (SESSION_SERVICE, SessionService(party, sessions, checker.check).handlers()),
    ):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    calls = calls_address()
    server.add_secure_port(calls, server_credentials(identity))
    door = LinkDoor(lambda: party.directory, sessions, links, observe=metrics.call_ended)
    context, most = accepting_context(identity), room_for_connections(MAX_CONNECTIONS)
    port = PublicPort(party.config.listen, calls=calls, context=context, serve=door.serve, max_connections=most)
    listener = MetricsServer(metrics, party, peers)
    consents, exchange = ConsentWatch(party, sessions, desks), Exchange(party, peers)
    watch, releases = EnquiryWatch(party, enquiries), ReleaseWatch(party, ended=metrics.release_ended)
    assessments = AssessmentWatch(party, Assessor(party, peers), ended=metrics.release_ended)
    if party.config.metrics is not None:
        listener.start(party.config.metrics)
    witnessing.start()
    acceptance.start()
    desks.start()
    sessions.start()
    consents.start()
    watch.start()
    releases.start()
    intersections.start()
    server.start()
    port.start()
    exchange.start()
    assessments.start()
    tell_health(sessions.stores)
    _log.info("serving", party=party.id, listen=party.config.listen, directory=party.directory.version)
    stop.wait()
    healthy.enter_graceful_shutdown()
    assessments.stop()
    server.stop(_DRAIN_S).wait()
    port.stop()
    exchange.stop()
    watch.stop()
    releases.stop()
    enquiries.stop()
    intersections.stop()
    consents.stop()
    acceptance.stop()
    desks.stop()
    sessions.stop()
    witnessing.stop()
    listener.stop()
    template.stop()
    peers.close()
    _log.info("stopped", party=party.id)
