"""The log in the database: appends with the facts they are about, hashes that always fit, and nothing that can be taken back."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from governance.audit import merkle
from governance.audit.entries import NO_PREVIOUS, EntryKind, read_entry
from parties import lineage
from parties.storage.audit_log import CosignatureRecord
from parties.storage.database import Database
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef
from tests.support.audit_logs import a_job_in_the_log, node_of
from tests.support.databases import a_database
from tests.support.members import NOW


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return a_database(tmp_path / "confide.db")


def append_and_fail(database: Database) -> None:
    with database.transaction() as tables:
        tables.audit.append_many(a_job_in_the_log(1), now=NOW)
        raise RuntimeError("lost")


def test_appended_entries_are_numbered_and_chained(database: Database) -> None:
    with database.transaction() as tables:
        first = tables.audit.append(EntryKind.STARTED, {"version": "0.1.0"}, now=NOW)
        rest = tables.audit.append_many(a_job_in_the_log(1), now=NOW + timedelta(seconds=1))
    with database.transaction() as tables:
        last = tables.audit.append(EntryKind.ALIAS, {}, now=NOW)
        entries = tables.audit.entries(0, 100)
    assert entries == (first, *rest, last)
    previous = NO_PREVIOUS
    for index, entry in enumerate(entries):
        read = read_entry(entry.body)
        assert (entry.index, read.index, read.previous) == (index, index, previous)
        assert entry.leaf_hash == merkle.leaf_hash(entry.body)
        previous = entry.leaf_hash.hex()


def test_entry_is_durable_with_its_fact_or_not_at_all(database: Database) -> None:
    with database.transaction() as tables:
        tables.audit.append(EntryKind.STARTED, {}, now=NOW)
    with pytest.raises(RuntimeError, match="lost"):
        append_and_fail(database)
    with database.transaction() as tables:
        assert tables.audit.size() == 1
        tables.audit.append_many(a_job_in_the_log(2), now=NOW)
        assert tables.audit.size() == 11


def test_references_to_a_job_are_found_without_reading_the_rest_of_the_log(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The party can write nothing while its log is read in one transaction, and a log is long."""
    read = []
    monkeypatch.setattr(lineage, "read_entry", lambda body: read.append(body) or read_entry(body))
    with database.transaction() as tables:
        for number in range(1, 4):
            tables.audit.append_many(a_job_in_the_log(number), now=NOW)
        ours = {str(each[1]["job"]) for each in a_job_in_the_log(2) if "job" in each[1]}
        found = lineage.log_references(tables, [ModelRef("diagnosis", "0123456789ab")], ours)
        entries = [(entry.index, read_entry(entry.body)) for entry in tables.audit.entries(0, 30)]
        assert len(tables.audit.naming(f"{number:03}" for number in range(250))) == 30
    expected = [(index, entry.kind.value) for index, entry in entries if entry.facts.get("job") in ours]
    assert [(each.index, each.kind) for each in found] == expected
    assert len(expected) == len(read) > 5


def test_root_and_proofs_are_those_of_the_tree_however_entries_arrived(database: Database) -> None:
    leaves: list[bytes] = []
    roots = {0: merkle.EMPTY_ROOT}
    for count in (1, 2, 5, 8, 1, 3, 16):
        with database.transaction() as tables:
            said = [(EntryKind.QUERY, {"number": len(leaves) + n}) for n in range(count)]
            leaves += [entry.leaf_hash for entry in tables.audit.append_many(said, now=NOW)]
            size, roots[len(leaves)] = tables.audit.head()
            assert size == len(leaves)
    node = node_of(leaves)
    with database.transaction() as tables:
        for old, root in roots.items():
            assert root == merkle.root(old, node) == tables.audit.root(old)
            proof = tables.audit.consistency(old, 36)
            assert merkle.is_consistent(old, 36, old_root=root, new_root=roots[36], proof=proof)
        for index in range(36):
            proof = tables.audit.inclusion(index, 36)
            assert merkle.is_included(index, 36, leaf=leaves[index], proof=proof, root=roots[36])


def test_proof_beyond_the_log_is_refused(database: Database) -> None:
    with database.transaction() as tables:
        tables.audit.append_many(a_job_in_the_log(1), now=NOW)
        for ask in (
            lambda: tables.audit.inclusion(10, 10),
            lambda: tables.audit.inclusion(0, 11),
            lambda: tables.audit.inclusion(-1, 10),
            lambda: tables.audit.consistency(5, 4),
            lambda: tables.audit.consistency(5, 11),
            lambda: tables.audit.root(11),
            lambda: tables.audit.entry(10),
            lambda: tables.audit.entry(-1),
        ):
            with pytest.raises(ConfideError) as caught:
                ask()
            assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log_entries SET body = x'00' WHERE entry_index = 3",
        "DELETE FROM log_entries WHERE entry_index = 9",
        "UPDATE log_nodes SET hash = x'00'",
        "DELETE FROM log_nodes",
    ],
)
def test_change_of_what_was_appended_is_refused_by_the_database(database: Database, statement: str) -> None:
    with database.transaction() as tables:
        tables.audit.append_many(a_job_in_the_log(1), now=NOW)
    with pytest.raises(IntegrityError, match="append-only"), database.transaction() as tables:
        tables.audit._session.execute(text(statement))
    with database.transaction() as tables:
        assert tables.audit.size() == 10


def test_checkpoints_are_kept_with_the_newest_cosignature_of_each_witness(database: Database) -> None:
    with database.transaction() as tables:
        tables.audit.append_many(a_job_in_the_log(1), now=NOW)
        size, root = tables.audit.head()
        made = tables.audit.add_checkpoint(size=size, root=root, note=b"text\n\nown line\n", now=NOW)
        assert tables.audit.add_checkpoint(size=size, root=root, note=b"again", now=NOW) == made
        for witness, line, second in (("b", "first", 1), ("c", "of c", 2), ("b", "newer", 3), ("b", "older", 2)):
            tables.audit.add_cosignature(size, CosignatureRecord(witness, line, NOW + timedelta(seconds=second)))
    with database.transaction() as tables:
        latest = tables.audit.latest_checkpoint()
        assert latest is not None
        assert (latest.size, latest.root, latest.made) == (size, root, NOW)
        assert latest.cosigned_note == b"text\n\nown line\nnewer\nof c\n"
        assert tables.audit.checkpoints(most=5) == (latest,) == tables.audit.checkpoints_over(size - 1)
        assert tables.audit.checkpoints_over(size) == ()
        with pytest.raises(ConfideError, match="no checkpoint of 9"):
            tables.audit.add_cosignature(9, CosignatureRecord("b", "line", NOW))


def test_newest_checkpoints_come_in_the_order_of_their_sizes(database: Database) -> None:
    with database.transaction() as tables:
        assert tables.audit.latest_checkpoint() is None
        assert tables.audit.checkpoints(most=5) == ()
        for number in range(1, 4):
            tables.audit.append_many(a_job_in_the_log(number), now=NOW)
            size, root = tables.audit.head()
            tables.audit.add_checkpoint(size=size, root=root, note=b"note", now=NOW)
        assert [each.size for each in tables.audit.checkpoints(most=2)] == [20, 30]
        assert [each.size for each in tables.audit.checkpoints_over(10)] == [30, 20]


def test_checkpoint_that_contradicts_the_log_or_an_older_one_is_not_kept(database: Database) -> None:
    """A party that signed two roots of one size would have proved a fork of its own log."""
    with database.transaction() as tables:
        tables.audit.append_many(a_job_in_the_log(1), now=NOW)
        size, root = tables.audit.head()
        with pytest.raises(ConfideError) as caught:
            tables.audit.add_checkpoint(size=size, root=bytes(32), note=b"note", now=NOW)
        assert caught.value.code is ErrorCode.LOG_FORKED
        tables.audit.add_checkpoint(size=size, root=root, note=b"note", now=NOW)
        # The log is changed underneath: what is signed next would not extend what was signed before.
        tables.audit._session.execute(text("UPDATE log_heads SET root = x'00'"))
        tables.audit._session.expire_all()
        tables.audit.append(EntryKind.ALIAS, {}, now=NOW)
        size, root = tables.audit.head()
        with pytest.raises(ConfideError, match="contradicts") as caught:
            tables.audit.add_checkpoint(size=size, root=root, note=b"note", now=NOW)
        assert caught.value.code is ErrorCode.LOG_FORKED


def test_missing_hash_is_damage_and_not_a_proof(database: Database) -> None:
    with database.transaction() as tables:
        tables.audit.append_many(a_job_in_the_log(1), now=NOW)
        tables.audit._session.execute(text("DROP TRIGGER log_nodes_delete"))
        tables.audit._session.execute(text("DELETE FROM log_nodes WHERE level = 3"))
        with pytest.raises(ConfideError) as caught:
            tables.audit.head()
        assert caught.value.code is ErrorCode.LOG_DAMAGED
