"""Two institutions with a set each, in one process: the service of the one that waits is called through its messages' bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from governance.audit.entries import EntryKind, Fact, read_entry
from governance.identity.names import MemberKind, PeerIdentity
from parties.arrays import arrays_from_bytes
from parties.client import linking as client
from parties.client.linking import LinkingCalls
from parties.config import PartyConfig, load_party_config, write_party_config
from parties.linking import alignment, dialling, staging
from parties.linking.dialling import Dialler
from parties.linking.staging import CheckedRows, Terms, mask, read_set
from parties.server import access, linking_desk
from parties.server.linking_desk import IntersectionDesk
from parties.server.linking_service import LinkingService
from parties.storage.database import Database
from parties.storage.linking import IntersectionRecord, IntersectionState
from parties.storage.sealed import Purpose
from parties.wire import methods
from protocols.identifiers.group import Exponent
from protocols.identifiers.intersection import Mode
from tests.support.databases import a_database

DIALS, WAITS, STRANGER = "hospital-a", "hospital-b", "hospital-c"
CONSORTIUM, LABEL = "cardio", "cohort-1"
HEAD = "api_version: confide/v1\nkind: TableSchema\nname: part\ncolumns:\n  - {name: patient, role: identifier}\n"
SCHEMAS = {
    DIALS: HEAD
    + "  - {name: dose, role: feature, type: integer, range: [0, 1000]}\n  - {name: ill, role: label, type: boolean}\n",
    WAITS: HEAD + "  - {name: nodes, role: feature, type: integer, range: [0, 1000]}\n",
}
# The number in an identifier stands in the feature too, so that a test sees whose row a row is.
PEOPLE = {DIALS: list(range(60)), WAITS: list(range(40, 120))}
COMMON = list(range(40, 60))
_SERVED = {
    "EvaluatePseudonyms": (methods.EVALUATE_PSEUDONYMS, LinkingService.evaluate),
    "OpenIntersection": (methods.OPEN_INTERSECTION, LinkingService.open),
    "PutPart": (methods.PUT_PART_OF_SET, LinkingService.put),
    "GetPart": (methods.GET_PART_OF_SET, LinkingService.get),
    "BreakOffIntersection": (methods.BREAK_OFF_INTERSECTION, LinkingService.break_off),
    "FinishIntersection": (methods.FINISH_INTERSECTION, LinkingService.finish),
}


class MaskersHere:
    """As `parties.linking.masking.Maskers`, without processes."""

    def __init__(self, exponent: Exponent, *, processes: int | None = None) -> None:
        self._exponent = exponent

    def __enter__(self) -> MaskersHere:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def hashed(self, elements: Sequence[bytes]) -> list[bytes]:
        return [self._exponent.power_of_hash(each) for each in elements]

    def powers(self, points: Sequence[bytes]) -> Iterator[list[bytes]]:
        for start in range(0, len(points), 16):
            yield [self._exponent.power(point) for point in points[start : start + 16]]


def mask_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (staging, dialling, linking_desk):
        monkeypatch.setattr(module, "Maskers", MaskersHere)


Alter = Callable[[str, Any], Any]


@dataclass
class Hospital:
    """One institution."""

    config: PartyConfig
    database: Database
    clock: list[datetime] = field(default_factory=lambda: [datetime.now(UTC)])

    @property
    def party(self) -> Any:
        return SimpleNamespace(
            id=self.config.party,
            config=self.config,
            database=self.database,
            sealed=self.config.folder.open_sealed(),
            directory=SimpleNamespace(consortium=CONSORTIUM),
            now=lambda: self.clock[0],
        )

    def terms(self, mode: Mode = Mode.ROWS, label: str = LABEL) -> Terms:
        peer = WAITS if self.config.party == DIALS else DIALS
        return Terms(CONSORTIUM, self.config.party, peer, label, mode, "part", None)

    def read(self, terms: Terms, *, people: Sequence[int] | None = None, schema: str | None = None) -> CheckedRows:
        """Writes this side's file and reads it as the command does."""
        party = self.config.party
        chosen = PEOPLE[party] if people is None else people
        file, schema_file = self.config.state / "rows.csv", self.config.state / "schema.yaml"
        if party == DIALS:
            lines = ["dose,patient,ill", *(f"{n},Person  {n},{'true' if n % 3 else 'false'}" for n in chosen)]
        else:
            lines = ["patient,nodes", *(f"PERSON {n},{n}" for n in reversed(chosen))]
        file.write_text("\n".join(lines) + "\n")
        schema_file.write_text(schema or SCHEMAS[party])
        return read_set(self.config, terms, file=file, schema_file=schema_file)

    def offer(self, terms: Terms, checked: CheckedRows, *, wait_s: float = 600.0) -> IntersectionRecord:
        """What the command does at the side that waits before it waits."""
        staged = mask(self.config, terms, checked)
        record = alignment._record(terms, checked, staged, wait_s)
        return alignment._keep_offer(self.database, self.config.folder.open_sealed(), terms, staged, record)

    def record(self, intersection_id: str) -> IntersectionRecord:
        with self.database.transaction() as tables:
            return tables.linking.get(intersection_id)

    def registered(self) -> tuple[list[int], str] | None:
        """Whose rows are registered, in their order, and under which alignment; None if none are."""
        with self.database.transaction() as tables:
            records = tables.datasets.latest()
        if not records:
            return None
        (record,) = records
        sealed = self.config.folder.open_sealed()
        features = arrays_from_bytes(sealed.read(Purpose.DATASET, record.object_id, record.sealed_name))["features"]
        return [int(n) for n in np.rint((features[:, 0] + 1) * 500)], record.alignment

    def sealed_files(self) -> int:
        return len(list(self.config.folder.sealed_folder.iterdir()))

    def audit(self, kind: EntryKind) -> list[dict[str, Fact]]:
        with self.database.transaction() as tables:
            found = [read_entry(entry.body) for entry in tables.audit.entries(0, tables.audit.size())]
        return [dict(entry.facts) for entry in found if entry.kind is kind]


def a_hospital(folder: Path, party: str) -> Hospital:
    folder.mkdir()
    write_party_config(folder / "party.yaml", party=party, listen="127.0.0.1:7443")
    config = load_party_config(folder / "party.yaml").model_copy(update={"cores": 1})
    config.folder.create_storage()
    return Hospital(config, a_database(config.folder.database_file))


class LocalCalls:
    """Calls a service as a member, through bytes; `alter` may change a request or reply by the name of its method."""

    def __init__(self, service: Callable[[], LinkingService], caller: str = DIALS) -> None:
        self.service = service
        self.caller = caller
        self.alter_request: Alter = lambda name, message: message
        self.alter_reply: Alter = lambda name, message: message
        self.num_bytes = 0

    def call(self, name: str, message: Any) -> Any:
        method, behaviour = _SERVED[name]
        sent = self.alter_request(name, message).SerializeToString()
        token = access._caller.set(PeerIdentity(MemberKind.PARTY, CONSORTIUM, self.caller))
        try:
            reply = cast(Any, behaviour)(self.service(), method.request.FromString(sent)).SerializeToString()
        finally:
            access._caller.reset(token)
        self.num_bytes += len(sent) + len(reply)
        return self.alter_reply(name, method.reply.FromString(reply))


@dataclass
class LinkingWorld:
    """Both institutions, the desk of the one that waits, and the calls between them."""

    dials: Hospital
    waits: Hospital
    desk: IntersectionDesk
    calls: LocalCalls

    def dialler(self, terms: Terms) -> Dialler:
        return Dialler(
            self.dials.database, self.dials.config.folder.open_sealed(), linking_calls(self.calls), terms, self.dials.config
        )

    def dial(
        self, mode: Mode = Mode.ROWS, *, people: Sequence[int] | None = None, wait_s: float = 0.0, schema: str | None = None
    ) -> IntersectionRecord:
        """What the command does at the side that dials."""
        terms = self.dials.terms(mode)
        checked = self.dials.read(terms, people=people, schema=schema)
        staged = mask(self.dials.config, terms, checked)
        record = alignment._record(terms, checked, staged, wait_s)
        return self.dialler(terms).run(record, staged, wait_s=wait_s)

    def offer(self, mode: Mode = Mode.ROWS, **arguments: Any) -> IntersectionRecord:
        terms = self.waits.terms(mode)
        return self.waits.offer(terms, self.waits.read(terms, **arguments))

    def service(self) -> LinkingService:
        return LinkingService(self.waits.party, self.desk)


def linking_calls(calls: LocalCalls) -> LinkingCalls:
    """The production client over local calls."""
    return LinkingCalls(cast(Any, SimpleNamespace(channel=lambda party: calls)), WAITS)


def route_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the client's methods call a `LocalCalls` where it would use a channel."""

    class Local:
        def __init__(self, name: str) -> None:
            self.name = name

        def call(self, channel: LocalCalls, request: Any, *, party: str, timeout_s: float) -> Any:
            return channel.call(self.name, request)

    names = {
        "EVALUATE_PSEUDONYMS": "EvaluatePseudonyms",
        "OPEN_INTERSECTION": "OpenIntersection",
        "PUT_PART_OF_SET": "PutPart",
        "GET_PART_OF_SET": "GetPart",
        "BREAK_OFF_INTERSECTION": "BreakOffIntersection",
        "FINISH_INTERSECTION": "FinishIntersection",
    }
    monkeypatch.setattr(client, "methods", SimpleNamespace(**{name: Local(rpc) for name, rpc in names.items()}))


def a_linking_world(folder: Path, monkeypatch: pytest.MonkeyPatch) -> LinkingWorld:
    route_methods(monkeypatch)
    monkeypatch.setattr(dialling, "_FINISH_WITHIN_S", 0.0)
    monkeypatch.setattr(dialling, "_DOUBLED_WITHIN_S", 20.0)
    dials, waits = a_hospital(folder / "a", DIALS), a_hospital(folder / "b", WAITS)
    desk = IntersectionDesk(waits.party)
    world = LinkingWorld(dials, waits, desk, LocalCalls(lambda: world.service()))
    return world


def assert_nothing_is_left(world: LinkingWorld) -> None:
    """Neither side has registered anything or keeps a part of a run."""
    for hospital in (world.dials, world.waits):
        assert hospital.registered() is None
        assert hospital.sealed_files() == 0
        with hospital.database.transaction() as tables:
            assert all(r.state.is_over for r in tables.linking.in_states(*IntersectionState))


def session_of(world: LinkingWorld, offer: Any) -> str:
    """The session of an offer's run, at the side that waits."""
    return world.waits.record(offer.intersection_id).session


def before(name: str, act: Callable[[], object]) -> Callable[[str, Any], Any]:
    """Does something once, before the first message of a name."""
    done: list[object] = []

    def alter(called: str, message: Any) -> Any:
        if called == name and not done:
            done.append("done")
            act()
        return message

    return alter
