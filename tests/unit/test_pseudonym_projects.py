"""Pseudonym projects: opened for named institutions; evaluations counted, limited and logged before they are made."""

from __future__ import annotations

import hashlib
import secrets
import stat
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from governance.audit.entries import EntryKind
from parties.linking import patience, projects, pseudonyms
from parties.linking.projects import close_project, context_of, list_projects, master_file, open_project
from parties.linking.pseudonyms import pseudonyms_for
from parties.server import linking_service
from parties.server.linking_service import LinkingService
from parties.storage.files import write_secret
from parties.wire.generated.confide.v1 import linking_pb2
from protocols.errors import ConfideError, ErrorCode
from protocols.identifiers.group import BASE_POINT, SECRET_BYTES, Exponent, hash_to_point, split_points
from protocols.identifiers.pseudonyms import MAX_BATCH, blind, evaluate, finish, project_key
from protocols.secrets import SecretBytes
from tests.support.linking_world import CONSORTIUM, DIALS, STRANGER, WAITS, Hospital, LocalCalls, a_hospital, route_methods

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PEOPLE = [f"Subject {number}" for number in range(30)]


class World:
    """Two institutions with a service each; either asks the other."""

    def __init__(self, folder: Path) -> None:
        self.hospitals = {party: a_hospital(folder / party, party) for party in (DIALS, WAITS)}
        self.calls: dict[str, LocalCalls] = {}
        for party, other in ((DIALS, WAITS), (WAITS, DIALS)):
            self.calls[party] = LocalCalls(lambda other=other: self.service(other), party)

    def service(self, party: str) -> LinkingService:
        return LinkingService(self.hospitals[party].party, None)  # type: ignore[arg-type]

    def open(self, *, evaluations: int = 1000, rotation: int = 1, at: Iterable[str] = (DIALS, WAITS)) -> None:
        for party in at:
            peer = WAITS if party == DIALS else DIALS
            config = self.hospitals[party].config
            open_project(config, "heart", peers=[peer], evaluations=evaluations, rotation=rotation, now=NOW)

    def tokens(self, party: str, people: Iterable[str] = PEOPLE) -> Mapping[str, str]:
        return pseudonyms_for(self.hospitals[party].config, "heart", people)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    found = World(tmp_path)
    entries = {DIALS, WAITS, STRANGER}

    def party_of(name: str) -> None:
        if name not in entries:
            raise ConfideError(ErrorCode.NOT_ENROLLED, name)

    def member(config: Any, now: datetime) -> Any:
        return SimpleNamespace(directory=SimpleNamespace(consortium=CONSORTIUM, party=party_of, id=config.party), id=config.party)

    class LocalPeers:
        def __init__(self, identity: str, directory: Callable[[], Any]) -> None:
            self.calls = found.calls[identity]

        def channel(self, party: str) -> LocalCalls:
            return self.calls

        def close(self) -> None:
            pass

    route_methods(monkeypatch)
    monkeypatch.setattr(projects, "load_own_member", member)
    monkeypatch.setattr(pseudonyms, "load_own_member", member)
    monkeypatch.setattr(pseudonyms, "tls_identity", lambda member: member.id)
    monkeypatch.setattr(pseudonyms, "Peers", LocalPeers)
    return found


def refusal(act: Callable[[], object]) -> ConfideError:
    with pytest.raises(ConfideError) as caught:
        act()
    return caught.value


def logged(hospital: Hospital) -> list[tuple[Any, ...]]:
    found = hospital.audit(EntryKind.PSEUDONYMS_EVALUATED)
    return [(entry["project"], entry["rotation"], entry["peer"], entry["count"], entry["left"]) for entry in found]


def test_one_person_has_one_token_at_both_institutions_until_the_next_rotation(world: World) -> None:
    world.open()
    first, second = world.tokens(DIALS), world.tokens(WAITS, ["SUBJECT  7", *PEOPLE[10:]])
    assert set(first) == set(PEOPLE)
    assert second["SUBJECT  7"] == first["Subject 7"]
    assert all(second[name] == first[name] for name in PEOPLE[10:])
    assert world.tokens(DIALS) == first  # again, with other blinds
    world.open(rotation=2)
    assert not set(world.tokens(DIALS).values()) & set(first.values())


def test_evaluations_are_counted_logged_and_limited(world: World) -> None:
    world.open(evaluations=61)
    world.tokens(DIALS)  # thirty, and the check of the key
    assert logged(world.hospitals[WAITS]) == [("heart", 1, DIALS, 31, 30)]
    said = refusal(lambda: world.tokens(DIALS))
    assert said.code is ErrorCode.BUDGET_EXHAUSTED
    assert logged(world.hospitals[WAITS]) == [("heart", 1, DIALS, 31, 30)]
    world.open(evaluations=62, at=[WAITS])
    world.tokens(DIALS)
    ((record, uses),) = list_projects(world.hospitals[WAITS].config)
    assert (record.evaluations, uses) == (62, {DIALS: 62})


def test_same_identifier_in_several_spellings_is_evaluated_once(world: World) -> None:
    world.open()
    found = world.tokens(DIALS, ["a b", "A  B", " a b ", "a b"])
    assert len(set(found.values())) == 1
    assert set(found) == {"a b", "A  B", " a b "}
    assert logged(world.hospitals[WAITS])[0][3] == 2


def test_more_identifiers_than_a_batch_go_in_several(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pseudonyms, "MAX_BATCH", 16)
    world.open()
    assert len(set(world.tokens(DIALS, PEOPLE[:20]).values())) == 20
    assert [entry[3] for entry in logged(world.hospitals[WAITS])] == [16, 6]


def test_project_that_is_not_open_is_refused_alike(world: World) -> None:
    assert refusal(lambda: world.tokens(DIALS)).code is ErrorCode.NOT_READY
    world.open(at=[DIALS])
    unknown = refusal(lambda: world.tokens(DIALS))
    config = world.hospitals[WAITS].config
    open_project(config, "heart", peers=[STRANGER], evaluations=100, rotation=1, now=NOW)
    not_meant = refusal(lambda: world.tokens(DIALS))
    assert unknown.code is not_meant.code is ErrorCode.NOT_AUTHORISED
    assert unknown.what == not_meant.what
    assert "confide dataset project open" in unknown.remedy
    assert logged(world.hospitals[WAITS]) == []


def test_closed_project_is_refused_until_it_is_opened_again(world: World) -> None:
    world.open()
    first = world.tokens(DIALS)
    close_project(world.hospitals[WAITS].config, "heart", now=NOW)
    assert refusal(lambda: world.tokens(DIALS)).code is ErrorCode.NOT_AUTHORISED
    world.open(at=[WAITS])
    assert world.tokens(DIALS) == first


def test_other_rotation_at_the_other_institution_is_named(world: World) -> None:
    world.open()
    world.open(rotation=2, at=[WAITS])
    said = refusal(lambda: world.tokens(DIALS))
    assert (said.code, "rotation 2" in said.what) == (ErrorCode.INVALID_ARGUMENT, True)


def test_rotation_that_was_left_and_other_members_are_refused(world: World) -> None:
    world.open(rotation=2)
    config = world.hospitals[DIALS].config
    assert refusal(lambda: world.open(rotation=1)).code is ErrorCode.JOB_CONFLICT
    more = [WAITS, STRANGER]
    assert (
        refusal(lambda: open_project(config, "heart", peers=more, evaluations=1, rotation=2, now=NOW)).code
        is ErrorCode.JOB_CONFLICT
    )
    assert open_project(config, "heart", peers=more, evaluations=1, rotation=3, now=NOW).members == (DIALS, WAITS, STRANGER)


@pytest.mark.parametrize("peers", [[], [WAITS, WAITS], [DIALS], [DIALS, WAITS], ["nobody"]])
def test_project_needs_other_institutions_of_the_consortium(world: World, peers: list[str]) -> None:
    config = world.hospitals[DIALS].config
    said = refusal(lambda: open_project(config, "heart", peers=peers, evaluations=1, rotation=1, now=NOW))
    assert said.code in (ErrorCode.INVALID_ARGUMENT, ErrorCode.NOT_ENROLLED)
    assert list_projects(config) == ()


def test_other_key_than_before_is_found_and_its_institution_named(world: World) -> None:
    world.open()
    world.tokens(DIALS)
    another = Exponent.from_secret_bytes((7).to_bytes(32, "big"))

    def alter(name: str, reply: Any) -> Any:
        reply.points = b"".join(map(another.power, split_points(reply.points)))
        return reply

    world.calls[DIALS].alter_reply = alter
    said = refusal(lambda: world.tokens(DIALS))
    assert (said.code, said.party) == (ErrorCode.COMMITMENT_DIFFERS, WAITS)


@pytest.mark.parametrize("lost", [DIALS, WAITS])
def test_lost_master_secret_is_found_before_anything_is_asked_or_answered(world: World, lost: str) -> None:
    """A new secret would give tokens that match no earlier one, and nobody would see it at the institution itself."""
    world.open()
    first = world.tokens(DIALS)
    counted = logged(world.hospitals[WAITS])
    path = master_file(world.hospitals[lost].config.folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kept = path.read_bytes()
    write_secret(path, hashlib.sha256(b"another").digest())
    assert refusal(lambda: world.tokens(DIALS)).code is ErrorCode.STATE_DAMAGED
    path.unlink()
    assert refusal(lambda: world.open(at=[lost])).code is ErrorCode.STATE_DAMAGED
    assert logged(world.hospitals[WAITS]) == counted
    write_secret(path, kept)
    assert world.tokens(DIALS) == first


def test_lost_master_secret_is_left_by_the_next_rotation(world: World) -> None:
    world.open()
    first = world.tokens(DIALS)
    master_file(world.hospitals[DIALS].config.folder).unlink()
    world.open(rotation=2)
    assert not set(world.tokens(DIALS).values()) & set(first.values())


def test_opening_changing_and_closing_stand_in_the_audit_log(world: World) -> None:
    world.open(evaluations=50, at=[DIALS])
    world.open(evaluations=60, rotation=2, at=[DIALS])
    config = world.hospitals[DIALS].config
    assert refusal(lambda: world.open(at=[DIALS])).code is ErrorCode.JOB_CONFLICT
    close_project(config, "heart", now=NOW)
    close_project(config, "heart", now=NOW)  # closed already: nothing happens
    found = world.hospitals[DIALS].audit(EntryKind.PSEUDONYM_PROJECT)
    assert [(each["standing"], each["rotation"], each["evaluations"]) for each in found] == [
        ("open", 1, 50),
        ("open", 2, 60),
        ("closed", 2, 60),
    ]
    assert all((each["project"], list(each["members"])) == ("heart", [DIALS, WAITS]) for each in found)  # type: ignore[arg-type]


def test_second_batch_of_one_institution_at_once_is_refused_and_not_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch holds the interpreter: one institution with many at once would stop the party for all others."""
    world.open()
    service, nested = world.service(WAITS), []
    real = linking_service.evaluate

    def evaluate_twice(points: bytes, key: Exponent) -> bytes:
        if not nested:
            nested.append("asked")
            nested.append(refusal(lambda: world.calls[DIALS].call("EvaluatePseudonyms", request)).code.name)
        return real(points, key)

    monkeypatch.setattr(linking_service, "evaluate", evaluate_twice)
    world.calls[DIALS].service = lambda: service
    request = linking_pb2.EvaluatePseudonymsRequest(
        project="heart", rotation=1, members=[DIALS, WAITS], points=hash_to_point(b"a")
    )
    world.calls[DIALS].call("EvaluatePseudonyms", request)
    assert nested == ["asked", "PARTY_BUSY"]
    assert [entry[3] for entry in logged(world.hospitals[WAITS])] == [1]


def test_busy_institution_is_asked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSE_S", 0.0)
    world.open()
    refused: list[str] = []

    def alter(name: str, message: Any) -> Any:
        if len(refused) < 2:
            refused.append(name)
            raise ConfideError(ErrorCode.PARTY_BUSY, "busy")
        return message

    world.calls[DIALS].alter_request = alter
    assert len(world.tokens(DIALS)) == len(PEOPLE)
    assert [entry[3] for entry in logged(world.hospitals[WAITS])] == [31]


def test_number_that_was_lowered_below_what_was_evaluated_leaves_none(world: World) -> None:
    world.open()
    world.tokens(DIALS)
    world.open(evaluations=10, at=[WAITS])
    said = refusal(lambda: world.tokens(DIALS))
    assert said.code is ErrorCode.BUDGET_EXHAUSTED
    assert said.what.startswith("0 evaluations are left")


def test_identifier_that_cannot_be_used_is_named_by_its_number_among_all(world: World) -> None:
    world.open()
    said = refusal(lambda: world.tokens(DIALS, ["a", "a", "a", " "]))
    assert [problem.where for problem in said.problems] == ["identifier 4"]


@pytest.mark.parametrize("wrong", ["no point", "one point for all"])
def test_institution_that_answers_what_are_no_powers_is_the_one_named(world: World, wrong: str) -> None:
    """Whoever is asked next would refuse them, and seem to be at fault."""
    world.open()

    def alter(name: str, reply: Any) -> Any:
        points = list(split_points(reply.points))
        spoilt = [points[0]] * len(points) if wrong == "one point for all" else [*points[:-1], b"\xff" * 32]
        reply.points = b"".join(spoilt)
        return reply

    world.calls[DIALS].alter_reply = alter
    said = refusal(lambda: world.tokens(DIALS))
    assert (said.code, said.party) == (ErrorCode.BAD_FRAME, WAITS)


def test_three_institutions_give_one_token_and_a_changed_key_is_named_among_them(world: World) -> None:
    members = (DIALS, WAITS, STRANGER)
    record = open_project(world.hospitals[DIALS].config, "three", peers=members[1:], evaluations=9, rotation=1, now=NOW)
    masters = {party: SecretBytes(hashlib.sha256(party.encode()).digest()) for party in members}
    context = context_of(CONSORTIUM, record)
    seen: list[str] = []

    def answer(helper: str, points: bytes) -> bytes:
        seen.append(helper)
        return evaluate(points, project_key(masters[helper], context))

    def token(asker: str) -> str:
        drawn = SecretBytes(secrets.token_bytes(2 * SECRET_BYTES))
        blinded = blind(["anna"], context, randomness=drawn)
        helpers = [party for party in members if party != asker]
        database = world.hospitals[DIALS if asker == DIALS else WAITS].database
        points = pseudonyms._through(database, record, helpers, blinded, answer)
        return finish(points, blinded, ["anna"], context=context, key=project_key(masters[asker], context))[0]

    open_project(world.hospitals[WAITS].config, "three", peers=[DIALS, STRANGER], evaluations=9, rotation=1, now=NOW)
    assert token(DIALS) == token(WAITS)
    assert seen == [WAITS, STRANGER, DIALS, STRANGER]
    masters[STRANGER] = SecretBytes(bytes(32))
    said = refusal(lambda: token(DIALS))
    assert (said.code, said.party) == (ErrorCode.COMMITMENT_DIFFERS, STRANGER)


@pytest.mark.parametrize(
    "points",
    [b"", BASE_POINT[:-1], BASE_POINT * 2, bytes(31) + b"\x01", BASE_POINT * (MAX_BATCH + 1)],
    ids=["none", "cut off", "twice", "off the curve", "too many"],
)
def test_wrong_points_are_refused(world: World, points: bytes) -> None:
    world.open()
    request = linking_pb2.EvaluatePseudonymsRequest(project="heart", rotation=1, members=[DIALS, WAITS], points=points)
    assert refusal(lambda: world.calls[DIALS].call("EvaluatePseudonyms", request)).code is ErrorCode.BAD_FRAME


def test_what_is_asked_for_is_counted_even_if_it_is_wrong(world: World) -> None:
    world.open(evaluations=3)
    wrong = hash_to_point(b"x") + bytes(31) + b"\x01"
    request = linking_pb2.EvaluatePseudonymsRequest(project="heart", rotation=1, members=[DIALS, WAITS], points=wrong)
    refusal(lambda: world.calls[DIALS].call("EvaluatePseudonyms", request))
    assert refusal(lambda: world.calls[DIALS].call("EvaluatePseudonyms", request)).code is ErrorCode.BUDGET_EXHAUSTED


def test_no_identifier_and_no_token_is_kept_or_logged(world: World) -> None:
    world.open()
    found = world.tokens(DIALS)
    for hospital in world.hospitals.values():
        kept = b"".join(path.read_bytes() for path in hospital.config.state.glob("confide.db*"))
        assert b"ubject 7" not in kept
        assert not any(token.encode() in kept for token in found.values())
