"""`confide audit`: what its commands print, and a database that was changed underneath."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from governance.audit import merkle
from governance.audit.checkpoints import open_checkpoint
from governance.audit.entries import EntryKind
from parties.auditing import standalone
from parties.auditing.own import verify_own
from parties.cli.main import app
from parties.storage.files import write_public
from parties.storage.witness import ForkRecord, WitnessedRecord
from protocols.errors import ConfideError, ErrorCode
from tests.support.audit_logs import AuditedParty, a_job_in_the_log, an_audited_party
from tests.support.members import NOW

Run = Callable[..., Result]


@pytest.fixture
def party(tmp_path: Path) -> Iterator[AuditedParty]:
    made = an_audited_party(tmp_path / "party")
    made.append([(EntryKind.STARTED, {"version": "0.1.0"})])
    made.append_job(1)
    made.witnessed()
    made.append([(EntryKind.ALIAS, {"model": "ward-risk", "alias": "live", "version": "1"})])
    yield made
    made.database.close()


@pytest.fixture
def run(party: AuditedParty, tmp_path: Path) -> Run:
    runner = CliRunner()
    config = str(tmp_path / "party" / "party.yaml")
    return lambda *arguments: runner.invoke(app, ["audit", *arguments, "--config", config])


def data(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout)["data"])


def changed(party: AuditedParty, *statements: str) -> None:
    """Changes the database as someone who can write the file."""
    with party.database.transaction() as tables:
        for trigger in ("log_entries_update", "log_entries_delete", "log_nodes_update", "log_nodes_delete"):
            tables.audit._session.execute(text(f"DROP TRIGGER {trigger}"))
        for statement in statements:
            tables.audit._session.execute(text(statement))


def test_tail_shows_the_last_entries(run: Run) -> None:
    lines = run("tail", "-n", "2").stdout.splitlines()
    assert lines == [
        f"    10  2026-03-01T12:00:02Z  output-released     job={'0' * 12}.. output=labels recipient=alice",
        "    11  2026-03-01T12:00:03Z  alias               alias=live model=ward-risk version=1",
        "12 entries in all",
    ]
    shown = data(run("tail", "-n", "3", "--format", "json"))
    assert [entry["kind"] for entry in shown["entries"]] == ["session-ended", "output-released", "alias"]
    records = [json.loads(line) for line in run("tail", "--format", "jsonl").stdout.splitlines()]
    assert [record["terminal"] for record in records] == [False] * 12 + [True]
    assert run("tail", "--follow", "--format", "json").exit_code == 2


def test_proof_verifies_against_the_cosigned_checkpoint(run: Run, party: AuditedParty) -> None:
    shown = data(run("prove", "4", "--format", "json"))
    checkpoint, _ = open_checkpoint(
        shown["checkpoint"].encode(), origin=party.origin, key=party.keys["hospital-a"].signing.public
    )
    leaf = merkle.leaf_hash(shown["entry"].encode())
    proof = [bytes.fromhex(part) for part in shown["proof"]]
    assert merkle.is_included(4, checkpoint.size, leaf=leaf, proof=proof, root=checkpoint.root)
    assert shown["checkpoint"].count("— confide/cardio/hospital-") == 3
    assert "checkpoint:\nconfide/cardio/hospital-a\n11\n" in run("prove", "4").stdout


def test_proof_of_an_entry_that_no_checkpoint_covers_has_to_wait(run: Run) -> None:
    assert run("prove", "11").exit_code == 8
    assert run("prove", "12").exit_code == 2


def test_export_is_verified_by_the_stand_alone_program(run: Run, tmp_path: Path) -> None:
    shown = data(run("export", "--out", str(tmp_path / "log"), "--format", "json"))
    assert (shown["size"], shown["cosigned_by"]) == (12, [])
    assert standalone.main(["verify", str(tmp_path / "log")]) == 0
    assert "confide-audit verify ." in (tmp_path / "log" / "README.txt").read_text(encoding="utf-8")
    assert run("export", "--out", str(tmp_path / "log")).exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "party"]


def test_export_holds_what_this_party_has_seen_of_others(party: AuditedParty) -> None:
    with party.database.transaction() as tables:
        tables.witness.put(WitnessedRecord("hospital-b", 7, "ab" * 32, b"its checkpoint", NOW))
    files = party.files()
    assert files["seen/hospital-b"] == b"its checkpoint"
    assert "seen/hospital-c" not in files


def test_own_log_verifies_without_signing_anything(run: Run, party: AuditedParty) -> None:
    shown = data(run("verify", "--witnesses", "2", "--format", "json"))
    (log,) = shown["logs"]
    assert (log["log"], log["size"], log["witnessed_size"]) == (party.origin, 12, 11)
    assert "confide/cardio/hospital-a  12       11 by 2" in run("verify").stdout
    with party.database.transaction() as tables:
        latest = tables.audit.latest_checkpoint()
    assert latest is not None
    assert latest.size == 11


@pytest.mark.parametrize(
    ("statements", "what"),
    [
        (
            ("UPDATE log_entries SET body = CAST(replace(body, 'dr-nasser', 'dr-nobody') AS BLOB) WHERE entry_index = 2",),
            "entry 2: it does not stand",
        ),
        (("UPDATE log_entries SET body = 'a text' WHERE entry_index = 2",), "entry 2 of the audit log is not bytes"),
        (("DELETE FROM log_entries WHERE entry_index = 5",), "entry 5: it is missing"),
        (("DELETE FROM log_entries WHERE entry_index >= 10",), "an entry from 0 on, before 11: the checkpoint of 11"),
        (("UPDATE log_nodes SET hash = zeroblob(32) WHERE level = 3",), "entry 7: the hash of the 8 entries that end with it"),
        (
            ("DELETE FROM log_nodes WHERE level = 2 AND node_index = 1",),
            "entry 7: the hash of the 4 entries that end with it is not",
        ),
    ],
)
def test_changed_database_is_found_and_the_entry_named(
    run: Run, party: AuditedParty, statements: tuple[str, ...], what: str
) -> None:
    changed(party, *statements)
    result = run("verify", "--format", "json")
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["code"]) == (7, "LOG_DAMAGED")
    assert what in error["what"]


def test_restored_database_is_found_by_the_checkpoint_beside_it(party: AuditedParty) -> None:
    """What was shown to others lies outside the database, so a database from a backup does not take it back."""
    party.append_job(2)
    newer = party.files()["checkpoint"]
    later = "DELETE FROM ledger WHERE job_id LIKE '%2'"
    changed(party, "DELETE FROM log_entries WHERE entry_index >= 12", "DELETE FROM log_heads WHERE size > 11", later)
    with pytest.raises(ConfideError, match="does not extend a trusted checkpoint of 22"):  # an export has shown it
        verify_own(party.config, witnesses=2, seen=(), now=NOW)
    party.config.folder.log_head_file.unlink()
    assert verify_own(party.config, witnesses=2, seen=(), now=NOW).size == 12
    with pytest.raises(ConfideError, match="does not extend a trusted checkpoint of 22") as caught:
        verify_own(party.config, witnesses=2, seen=[newer], now=NOW)
    assert caught.value.code is ErrorCode.LOG_DAMAGED
    write_public(party.config.folder.log_head_file, newer)
    with pytest.raises(ConfideError, match="does not extend a trusted checkpoint of 22"):
        verify_own(party.config, witnesses=2, seen=(), now=NOW)


def test_export_of_a_restored_database_signs_no_second_history(run: Run, party: AuditedParty, tmp_path: Path) -> None:
    party.append_job(2)
    shown = party.files()["checkpoint"]
    later_nodes = "DELETE FROM log_nodes WHERE ((node_index + 1) << level) > 12"
    changed(party, "DELETE FROM log_entries WHERE entry_index >= 12", later_nodes, "DELETE FROM log_heads WHERE size > 11")
    for other in ([], a_job_in_the_log(3), a_job_in_the_log(4)):  # shorter than what was shown, as long, longer
        party.append(other)
        result = run("export", "--out", str(tmp_path / "log"), "--format", "json")
        assert (result.exit_code, json.loads(result.stdout)["error"]["code"]) == (7, "STATE_ROLLED_BACK")
    assert party.config.folder.log_head_file.read_bytes() in shown
    assert not (tmp_path / "log").exists()


def test_witness_shows_both_directions_and_forks(run: Run, party: AuditedParty) -> None:
    with party.database.transaction() as tables:
        tables.witness.put(WitnessedRecord("hospital-c", 7, "ab" * 32, b"its checkpoint", NOW))
        tables.witness.add_fork(ForkRecord("hospital-c", b"one", b"two", NOW))
    shown = data(run("witness", "--format", "json"))
    assert (shown["size"], shown["checkpoint"]) == (12, 11)
    assert [(p["party"], p["cosigned_size"], p["seen_size"]) for p in shown["parties"]] == [
        ("hospital-b", 11, 0),
        ("hospital-c", 11, 7),
    ]
    assert shown["forks"] == [{"party": "hospital-c", "first": "one", "second": "two", "seen": "2026-03-01T12:00:00Z"}]
    assert "FORK: hospital-c" in run("witness").stdout


def test_verify_needs_one_of_config_and_harness() -> None:
    assert CliRunner().invoke(app, ["audit", "verify"]).exit_code == 2
