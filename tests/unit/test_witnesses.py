"""Parties as witnesses of each other's logs, in one process: what is cosigned, what is found, what is kept as evidence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from governance.audit.checkpoints import Checkpoint, origin, sign_checkpoint
from governance.audit.entries import EntryKind
from parties.server.rollback import START_TIMEOUT_S, check_state, contradiction, log_start
from parties.storage.files import read_public, write_public
from parties.wire.generated.confide.v1 import audit_pb2
from parties.wire.methods import COSIGN, LAST_SEEN
from protocols.errors import ConfideError, ErrorCode
from tests.support.consent import HOSPITALS
from tests.support.witness_world import Hospital, WitnessWorld, a_witness_world, await_true

A, B, C = HOSPITALS


@pytest.fixture
def world(tmp_path: Path) -> Iterator[WitnessWorld]:
    with a_witness_world(tmp_path) as world:
        yield world


def head_of(hospital: Hospital) -> tuple[int, bytes, bytes]:
    """Size, root and signed note over the whole log of a party."""
    with hospital.tables() as tables:
        size, root = tables.audit.head()
    return size, root, note_of(hospital, size, root)


def note_of(hospital: Hospital, size: int, root: bytes) -> bytes:
    checkpoint = Checkpoint(origin("cardio", hospital.id), size, root)
    return sign_checkpoint(checkpoint, key=hospital.party.member.signing_key).to_bytes()


def cosign(hospital: Hospital, note: bytes, *, old: int, proof: tuple[bytes, ...] = (), by: str = B) -> audit_pb2.CosignReply:
    request = audit_pb2.CosignRequest(checkpoint=note, old_size=old, proof=proof)
    return COSIGN.call(hospital.peers.channel(by), request, party=by, timeout_s=1.0)


def shown(world: WitnessWorld, *, entries: int) -> Hospital:
    """Hospital A after B has cosigned a checkpoint over so many entries."""
    hospital = world[A]
    hospital.append(entries)
    assert cosign(hospital, head_of(hospital)[2], old=0).cosignature
    return hospital


def test_checkpoint_that_extends_what_was_seen_is_cosigned(world: WitnessWorld) -> None:
    hospital = shown(world, entries=3)
    hospital.append(4)
    with hospital.tables() as tables:
        proof = tables.audit.consistency(3, 7)
    reply = cosign(hospital, head_of(hospital)[2], old=3, proof=proof)
    assert reply.cosignature
    assert reply.seen_size == 7
    seen = LAST_SEEN.call(hospital.peers.channel(B), audit_pb2.LastSeenRequest(), party=B, timeout_s=1.0)
    assert seen.checkpoint == head_of(hospital)[2]


def test_checkpoint_shown_from_the_wrong_size_is_answered_with_the_right_one(world: WitnessWorld) -> None:
    hospital = shown(world, entries=3)
    hospital.append(4)
    reply = cosign(hospital, head_of(hospital)[2], old=0)
    assert (reply.cosignature, reply.seen_size) == (b"", 3)


def test_checkpoint_of_a_smaller_log_is_not_cosigned(world: WitnessWorld) -> None:
    hospital = shown(world, entries=3)
    with hospital.tables() as tables:
        root = tables.audit.root(2)
    reply = cosign(hospital, note_of(hospital, 2, root), old=2)
    assert (reply.cosignature, reply.seen_size) == (b"", 3)


@pytest.mark.parametrize("size", [3, 5])
def test_log_that_contradicts_itself_is_refused_and_the_evidence_kept(world: WitnessWorld, size: int) -> None:
    hospital = shown(world, entries=3)
    first, second = head_of(hospital)[2], note_of(hospital, size, b"f" * 32)
    for _ in range(2):  # the second time it is known
        with pytest.raises(ConfideError) as caught:
            cosign(hospital, second, old=3, proof=(b"p" * 32,) if size > 3 else ())
        assert (caught.value.code, caught.value.party) == (ErrorCode.LOG_FORKED, A)
    with world[B].tables() as tables:
        assert [(fork.party, fork.first, fork.second) for fork in tables.witness.forks()] == [(A, first, second)]
        seen = tables.witness.last_seen(A)
        assert seen is not None
        assert seen.note == first
    assert world[B].kinds() == [EntryKind.FORK_SEEN]
    assert cosign(hospital, first, old=3).cosignature  # the log that it has vouched for stays that


def test_checkpoint_of_another_s_log_is_refused(world: WitnessWorld) -> None:
    world[C].append(1)
    with pytest.raises(ConfideError) as caught:
        cosign(world[A], head_of(world[C])[2], old=0)
    assert caught.value.code is ErrorCode.BAD_SIGNATURE


def test_proof_that_holds_no_hashes_is_refused(world: WitnessWorld) -> None:
    hospital = shown(world, entries=1)
    hospital.append(1)
    with pytest.raises(ConfideError) as caught:
        cosign(hospital, head_of(hospital)[2], old=1, proof=(b"short",))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_growing_log_is_cosigned_by_all_parties_that_answer(world: WitnessWorld) -> None:
    world.cut.add((A, C))
    hospital = world[A]
    hospital.append(3)
    hospital.witnessing.start()
    await_true(lambda: hospital.witnessing.cosigned(2, [B], now=hospital.party.now()) is not None)
    assert hospital.witnessing.cosigned(2, [B, C], now=hospital.party.now()) is None
    assert hospital.witnessing.missing(2, [B, C], now=hospital.party.now()) == (C,)
    assert read_public(hospital.party.config.folder.log_head_file, max_bytes=10_000) == head_of(hospital)[2]


def test_cosignatures_for_a_purpose_come_when_the_missing_party_answers_again(world: WitnessWorld) -> None:
    world.cut |= {(A, B), (A, C)}
    hospital = world[A]
    hospital.append(3)
    hospital.witnessing.start()
    hospital.witnessing.want("job", [B, C])
    world.cut.clear()
    await_true(lambda: hospital.witnessing.cosigned(2, [B, C], now=hospital.party.now()) is not None)
    hospital.append(2)
    await_true(lambda: hospital.witnessing.cosigned(4, [B, C], now=hospital.party.now()) is not None)
    with hospital.tables() as tables:
        latest = tables.audit.latest_checkpoint()
    assert latest is not None
    assert [cosignature.witness for cosignature in latest.cosignatures] == [B, C]


def restored(world: WitnessWorld, *, with_head: bool) -> Hospital:
    """Hospital A from a backup: 3 entries, where B and C have cosigned 5."""
    hospital = world[A]
    hospital.append(3)
    backup = world.copy(A, "backup")
    hospital.append(2)
    hospital.witnessing.start()
    await_true(lambda: hospital.witnessing.cosigned(4, [B, C], now=hospital.party.now()) is not None)
    if with_head:
        write_public(backup / "log-head", read_public(hospital.party.config.folder.log_head_file, max_bytes=10_000))
    hospital.stop()
    hospital.party.database.close()
    world.hospitals[A] = world.open(A, backup)
    return world.hospitals[A]


def refusal_at_start(hospital: Hospital) -> ConfideError:
    with pytest.raises(ConfideError) as caught:
        check_state(hospital.party, hospital.peers)
    assert caught.value.code is ErrorCode.STATE_ROLLED_BACK
    return caught.value


def test_backup_of_the_whole_state_is_refused_at_start_by_what_the_others_have_seen(world: WitnessWorld) -> None:
    hospital = restored(world, with_head=False)
    assert [problem.where for problem in refusal_at_start(hospital).problems] == [B, C]


def test_backup_of_the_database_alone_is_refused_at_start_with_nobody_in_reach(world: WitnessWorld) -> None:
    hospital = restored(world, with_head=True)
    world.cut |= {(A, B), (A, C)}
    assert [problem.where for problem in refusal_at_start(hospital).problems] == [str(hospital.party.config.folder.log_head_file)]


def test_backup_that_went_on_by_itself_is_refused_although_its_log_is_longer(world: WitnessWorld) -> None:
    hospital = restored(world, with_head=False)
    hospital.append(9, tag=1)
    assert [problem.where for problem in refusal_at_start(hospital).problems] == [B, C]


def test_state_that_is_the_newest_serves_with_and_without_the_others(world: WitnessWorld) -> None:
    hospital = shown(world, entries=3)
    check_state(hospital.party, hospital.peers)
    world.cut |= {(A, B), (A, C)}
    check_state(hospital.party, hospital.peers)
    log_start(hospital.party, software_version="0.1.0")
    kinds = hospital.kinds()[3:]
    assert kinds == [EntryKind.STARTED, EntryKind.CONFIGURATION, EntryKind.DIRECTORY, EntryKind.POLICY]


def test_witness_cannot_stop_a_party_with_a_checkpoint_that_it_made_up(world: WitnessWorld) -> None:
    hospital = shown(world, entries=3)
    log = origin("cardio", A)
    forged = sign_checkpoint(Checkpoint(log, 99, b"f" * 32), key=world[B].party.member.signing_key).to_bytes()
    with hospital.tables() as tables:
        assert contradiction(hospital.party, tables, forged) is None
        assert contradiction(hospital.party, tables, b"nonsense") is None
        assert contradiction(hospital.party, tables, b"") is None


def test_two_copies_of_a_party_are_found_by_their_witness(world: WitnessWorld) -> None:
    """The state was copied and both copies go on: whoever comes second learns it, and takes no jobs any more."""
    first = world[A]
    first.append(3)
    copy = world.open(A, world.copy(A, "copy"))
    for hospital in (first, copy):
        log_start(hospital.party, software_version="0.1.0")  # same length, other entries
    with copy.tables() as tables:
        tables.audit.append(EntryKind.ALIAS, {"number": 77}, now=copy.party.now())
    with first.tables() as tables:
        tables.audit.append(EntryKind.ALIAS, {"number": 78}, now=first.party.now())
    first.witnessing.start()
    await_true(lambda: first.witnessing.cosigned(7, [B, C], now=first.party.now()) is not None)
    copy.witnessing.start()
    await_true(lambda: copy.witnessing.halted is not None)
    assert copy.witnessing.halted is not None
    assert copy.witnessing.halted.code is ErrorCode.STATE_ROLLED_BACK
    assert first.witnessing.halted is None
    with world[B].tables() as tables:
        forks = tables.witness.forks()
    assert [fork.party for fork in forks] == [A]
    assert EntryKind.FORK_SEEN in world[B].kinds()
    copy.stop()
    copy.party.database.close()


def test_start_waits_no_longer_for_silent_parties_than_it_says() -> None:
    assert START_TIMEOUT_S <= 5.0
