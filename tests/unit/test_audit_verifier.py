"""The stand-alone verifier: what it shows, what it refuses beside altered bytes, its command, and that it stands alone."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from governance.audit import merkle
from governance.audit.entries import NO_PREVIOUS, EntryKind, Fact, entry_body
from parties.auditing import standalone
from parties.auditing.export import export_log
from parties.auditing.standalone import Report, Wrong, verify
from protocols.canonical import canonical_bytes
from tests.support.audit_logs import AuditedParty, Said, a_job_in_the_log, an_audited_party, rewritten
from tests.support.budget_logs import a_charge, reserved
from tests.support.members import NOW, a_founder

JOB = {"job": "a" * 32}
ENDED = {"job": "a" * 32, "state": "completed"}
OUTPUT = {"job": "a" * 32, "output": "labels"}
ACCOUNT = a_charge("a" * 32, epsilon=None)
ANSWERED = {"enquiry": "b" * 32, "request": "1" * 32, "answers": 4}
ACCEPTED = (EntryKind.ENQUIRY_ACCEPTED, {"enquiry": "b" * 32, "answers": 8})
FINISHED = (EntryKind.ENQUIRY_ENDED, {"enquiry": "b" * 32, "reason": "asked", "requests": 1, "answers": 4})


@pytest.fixture
def party(tmp_path: Path) -> AuditedParty:
    made = an_audited_party(tmp_path / "party")
    made.append([(EntryKind.STARTED, {"version": "0.1.0"})])
    made.append(a_job_in_the_log(1))
    made.witnessed()
    return made


def check(party: AuditedParty, files: Mapping[str, bytes], *, witnesses: int | None = None, seen: Sequence[bytes] = ()) -> Report:
    return verify(files.get, founder_fingerprint=party.founder_fingerprint, witnesses=witnesses, trusted=seen)


def wrong(party: AuditedParty, files: Mapping[str, bytes], *, witnesses: int | None = None, seen: Sequence[bytes] = ()) -> Wrong:
    with pytest.raises(Wrong) as caught:
        check(party, files, witnesses=witnesses, seen=seen)
    return caught.value


def forged(party: AuditedParty, said: Sequence[tuple[EntryKind, Mapping[str, Fact], datetime]]) -> dict[str, bytes]:
    """What a party's own program never writes, but its key can sign."""
    bodies: list[bytes] = []
    for index, (kind, facts, time) in enumerate(said):
        previous = merkle.leaf_hash(bodies[-1]).hex() if bodies else NO_PREVIOUS
        bodies.append(entry_body(index=index, time=time, kind=kind, facts=facts, previous=previous))
    return rewritten(party.files(), bodies, key=party.keys["hospital-a"].signing) | {"history": b""}


def test_kinds_are_those_that_parties_write() -> None:
    assert {kind.value for kind in EntryKind} == standalone.KINDS


@pytest.mark.parametrize(
    ("said", "entry", "what"),
    [
        ([(EntryKind.COUNTERSIGNED, JOB)], 0, "never received"),
        ([(EntryKind.JOB_RECEIVED, JOB), (EntryKind.DEBITED, ACCOUNT)], 1, "without a reservation"),
        ([*reserved("a" * 32), (EntryKind.REFUNDED, ACCOUNT | {"account": "x"})], 1, "without a reservation"),
        ([(EntryKind.OUTPUT_RELEASED, OUTPUT)], 0, "not countersigned and completed"),
        (
            [(EntryKind.JOB_RECEIVED, JOB), (EntryKind.SESSION_ENDED, ENDED), (EntryKind.OUTPUT_RELEASED, OUTPUT)],
            2,
            "not counter",
        ),
        (
            [
                (EntryKind.JOB_RECEIVED, JOB),
                (EntryKind.COUNTERSIGNED, JOB),
                (EntryKind.SESSION_ENDED, ENDED | {"state": "aborted"}),
                (EntryKind.OUTPUT_RELEASED, OUTPUT),
            ],
            3,
            "completed",
        ),
        ([(EntryKind.ANSWERED, ANSWERED)], 0, "was never accepted"),
        ([(EntryKind.ENQUIRY_REFUSED, {"enquiry": "b" * 32}), (EntryKind.ANSWERED, ANSWERED)], 1, "was never accepted"),
        ([ACCEPTED, (EntryKind.ANSWERED, ANSWERED | {"enquiry": "c" * 32})], 1, "was never accepted"),
        ([ACCEPTED, FINISHED, (EntryKind.ANSWERED, ANSWERED)], 2, "had ended"),
        ([ACCEPTED, (EntryKind.ANSWERED, ANSWERED), (EntryKind.ANSWERED, ANSWERED)], 2, "a request of it twice"),
        ([ACCEPTED, (EntryKind.ANSWERED, ANSWERED | {"answers": 9})], 1, "more than it was accepted for"),
        ([ACCEPTED, (EntryKind.ANSWERED, ANSWERED | {"answers": -1})], 1, "how many answers"),
        ([ACCEPTED, (EntryKind.ANSWERED, {"answers": 4})], 1, "of which enquiry"),
        ([ACCEPTED, *[(EntryKind.ANSWERED, ANSWERED | {"request": ["1"]})] * 2], 2, "a request of it twice"),
        ([FINISHED], 0, "was never accepted"),
        ([ACCEPTED, FINISHED, FINISHED], 2, "had ended"),
        ([ACCEPTED, FINISHED, ACCEPTED], 2, "accepted twice"),
        (
            [
                (EntryKind.JOB_RECEIVED, JOB),
                (EntryKind.COUNTERSIGNED, JOB),
                (EntryKind.SESSION_ENDED, ENDED),
                *[(EntryKind.OUTPUT_RELEASED, OUTPUT | {"recipient": name}) for name in ("alice", "bob")],
            ],
            4,
            "released twice",
        ),
    ],
)
def test_entries_that_contradict_each_other_are_found(party: AuditedParty, said: Sequence[Said], entry: int, what: str) -> None:
    found = wrong(party, forged(party, [(kind, facts, NOW) for kind, facts in said]), witnesses=0)
    assert (found.entry, found.before) == (entry, entry + 1)
    assert what in found.what


def test_enquiry_that_is_answered_as_far_as_it_was_accepted_passes(party: AuditedParty) -> None:
    requests = [(EntryKind.ANSWERED, ANSWERED | {"request": digit * 32}) for digit in "12"]
    said = [ACCEPTED, *requests, FINISHED]
    assert check(party, forged(party, [(kind, facts, NOW) for kind, facts in said]), witnesses=0).size == 4


def test_time_that_runs_backwards_is_found_unless_the_party_process_began_anew(party: AuditedParty) -> None:
    earlier = NOW - timedelta(hours=1)
    found = wrong(party, forged(party, [(EntryKind.ALIAS, {}, NOW), (EntryKind.ALIAS, {}, earlier)]), witnesses=0)
    assert (found.entry, str(found)) == (1, "entry 1: its time lies 1:00:00 before that of an entry before it")
    report = check(party, forged(party, [(EntryKind.ALIAS, {}, NOW), (EntryKind.STARTED, {}, earlier)]), witnesses=0)
    assert report.notes == ["before entry 1 the clock of the party was set back by 1:00:00"]
    little = NOW - timedelta(seconds=standalone.MAX_BACKWARDS_S)
    assert check(party, forged(party, [(EntryKind.ALIAS, {}, NOW), (EntryKind.ALIAS, {}, little)]), witnesses=0).notes == []

    # Small steps that add up to a large one are one.
    steps = [NOW - number * timedelta(seconds=standalone.MAX_BACKWARDS_S) for number in range(3)]
    found = wrong(party, forged(party, [(EntryKind.ALIAS, {}, time) for time in steps]), witnesses=0)
    assert (found.entry, "its time lies 0:10:00 before" in found.what) == (2, True)


def test_older_directory_with_fewer_witnesses_is_found(party: AuditedParty) -> None:
    """The founder signed it once, but the log has taken over a later one since."""
    version = json.loads(json.loads(party.files()["directory.json"])["body"])["version"]
    taken = [(EntryKind.DIRECTORY, {"version": version + later}, NOW) for later in (-1, 0, 1)]
    assert check(party, forged(party, taken[:2]), witnesses=0).directory_version == version
    found = wrong(party, forged(party, taken), witnesses=0)
    assert (found.entry, found.what.endswith(f"directory.json is version {version}")) == (2, True)


@pytest.mark.parametrize("change", ["key", "id", "name"])
def test_directory_in_which_one_party_could_count_for_two_is_none(party: AuditedParty, change: str) -> None:
    keys = party.keys["hospital-a"].signing
    document = json.loads(json.loads(party.files()["directory.json"])["body"])
    document["founder_key"] = keys.public.hex
    parties = document["parties"]
    parties[2] |= {"key": {"signing_key": parties[1]["signing_key"]}, "id": {"id": parties[1]["id"]}, "name": {"id": "x\ny"}}[
        change
    ]
    body = canonical_bytes(document).decode()
    message = b"\0".join((b"confide signature 1", b"directory", b"founder", body.encode()))
    envelope = {"body": body, "format": "confide.signed/1", "kind": "directory", "signer": "founder"}
    signed = canonical_bytes(envelope | {"signature": keys.sign(message).hex()})
    assert "is not a signed directory" in str(caught_by(party.files() | {"directory.json": signed}))


def caught_by(files: Mapping[str, bytes]) -> Wrong:
    with pytest.raises(Wrong) as caught:
        verify(files.get, founder_fingerprint=None, witnesses=0)
    return caught.value


def test_pipe_in_an_export_keeps_nobody_waiting(party: AuditedParty, tmp_path: Path) -> None:
    out = tmp_path / "export"
    export_log(party.config, out=out, now=party.now)
    (out / "history").unlink()
    os.mkfifo(out / "history")
    assert standalone.main(["verify", str(out)]) == 7


def test_fork_is_found_by_one_honest_witness(party: AuditedParty) -> None:
    """A party shows the auditor another history than the one that hospital B has cosigned."""
    cosigned = party.files()["checkpoint"]
    other = forged(party, [(EntryKind.STARTED, {"version": "0.1.0"}, NOW), *[(EntryKind.ALIAS, {}, NOW)] * 20])
    assert check(party, other, witnesses=0).witnessed_size == 0
    assert "no checkpoint is cosigned by 1 of the 2 other parties" in str(wrong(party, other, witnesses=1))
    found = wrong(party, other, witnesses=0, seen=[cosigned])
    assert str(found) == ("an entry from 0 on, before 11: the log of 21 entries does not extend a trusted checkpoint of 11")


def test_cosignatures_of_another_history_do_not_pass(party: AuditedParty) -> None:
    honest = party.files()
    other = forged(party, [(EntryKind.STARTED, {"version": "9"}, NOW)])
    lines = honest["checkpoint"].split(b"\n")[5:]
    found = wrong(party, other | {"checkpoint": other["checkpoint"] + b"\n".join(lines)})
    assert "does not verify" in found.what


def test_cosignature_that_was_spoilt_beyond_recognition_is_told(party: AuditedParty) -> None:
    party.append([(EntryKind.ALIAS, {})])
    party.witnessed()
    files = party.files()
    assert check(party, files).notes == []
    for part in ("history", "checkpoint"):
        spoilt = files | {part: files[part].replace(b"hospital-c", b"hospitax-c")}
        report = check(party, spoilt, witnesses=1)
        assert report.notes == ["1 signature line(s) under checkpoints are by no key of the directory and count nothing"]
        assert "note: 1 signature line(s)" in "\n".join(standalone._in_words(report, compare=False))


def test_entries_after_the_last_cosigned_checkpoint_are_counted(party: AuditedParty) -> None:
    party.append([(EntryKind.ALIAS, {}), (EntryKind.ALIAS, {})])
    report = check(party, party.files())
    assert (report.size, report.witnessed_size, len(report.witnesses)) == (13, 11, 2)


def test_too_few_witnesses_are_refused(party: AuditedParty) -> None:
    party.append([(EntryKind.ALIAS, {})])
    party.witnessed(["hospital-b"])
    assert check(party, party.files(), witnesses=1).witnessed_size == 12
    assert check(party, party.files(), witnesses=2).witnessed_size == 11
    assert "cosigned by 3 of the 2" in wrong(party, party.files(), witnesses=3).what


def test_other_founder_or_log_is_refused(party: AuditedParty, tmp_path: Path) -> None:
    files = party.files()
    stranger = an_audited_party(tmp_path / "stranger")
    with pytest.raises(Wrong, match="founder with fingerprint"):
        verify(files.get, founder_fingerprint=a_founder().fingerprint, witnesses=None)
    assert "not signed by" in wrong(party, files, seen=[stranger.files()["checkpoint"]]).what
    swapped = files | {"directory.json": stranger.files()["directory.json"]}
    with pytest.raises(Wrong, match="not signed by"):
        verify(swapped.get, founder_fingerprint=stranger.founder_fingerprint, witnesses=None)


@pytest.mark.parametrize("name", ["checkpoint", "history", "directory.json", "tile/0/000.p/11", "tile/entries/000.p/11"])
def test_file_that_is_missing_is_named(party: AuditedParty, name: str) -> None:
    files = party.files()
    del files[name]
    assert name in wrong(party, files).what


def test_command_verifies_a_folder_and_says_what_to_compare(
    party: AuditedParty, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "export"
    made = export_log(party.config, out=out, now=party.now)
    assert (made.size, made.cosigned_by) == (11, ("hospital-b", "hospital-c"))
    assert standalone.main(["verify", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("VERIFIED: confide/cardio/hospital-a, 11 entries from 2026-03-01T12:00:01Z to 2026-03-01T12:00:02Z")
    assert f"the directory is signed under fingerprint {party.founder_fingerprint}" in said
    spoken = "-".join(party.founder_fingerprint[n : n + 4].upper() for n in range(0, 64, 4))
    older = tmp_path / "older"
    older.write_bytes((out / "checkpoint").read_bytes())
    options = ["--founder-fingerprint", spoken, "--trusted", str(older), "--trusted", str(out), "--json"]
    assert standalone.main(["verify", str(out), *options]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["status"], data["size"], data["trusted"]) == ("ok", 11, 2)


def test_command_names_the_entry_and_exits_with_seven(
    party: AuditedParty, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "export"
    export_log(party.config, out=out, now=party.now)
    bundle = out / "tile" / "entries" / "000.p" / "11"
    bundle.write_bytes(bundle.read_bytes().replace(b"dr-nasser", b"dr-nobody"))
    assert standalone.main(["verify", str(out)]) == 7
    assert capsys.readouterr().out == "WRONG: entry 2: its hash is not the one in tile/0/000.p/11\n"
    assert standalone.main(["verify", str(out), "--json"]) == 7
    assert json.loads(capsys.readouterr().out)["entry"] == 2


def test_what_a_party_wrote_does_not_steer_the_terminal(
    party: AuditedParty, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = {"job": "\x1b[2K\x9b1G\rVERIFIED: all is well\n"}
    for name, data in forged(party, [(EntryKind.COUNTERSIGNED, job, NOW)]).items():
        (tmp_path / "export" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "export" / name).write_bytes(data)
    assert standalone.main(["verify", str(tmp_path / "export")]) == 7
    said = capsys.readouterr().out
    assert said.startswith(r"WRONG: entry 0: job \u001b[2K\u009b1G\rVERIFIED")
    assert said.removesuffix("\n").isprintable()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["verify"],
        ["verify", "nowhere"],
        ["verify", ".", "--trusted", "nowhere"],
        ["verify", ".", "--founder-fingerprint", "ab"],
    ],
)
def test_command_that_cannot_begin_exits_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        standalone.main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().out == ""


def test_verifier_imports_the_standard_library_and_cryptography_alone() -> None:
    tree = ast.parse(Path(standalone.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} - sys.stdlib_module_names == {"cryptography"}


@pytest.mark.outside_world  # it is run as an auditor runs it: one file, in another folder, in its own process
def test_verifier_runs_as_one_file_in_another_folder(party: AuditedParty, tmp_path: Path) -> None:
    out = tmp_path / "export"
    export_log(party.config, out=out, now=party.now)
    alone = tmp_path / "verify.py"
    alone.write_bytes(Path(standalone.__file__).read_bytes())
    command = [sys.executable, "-I", str(alone), "verify", str(out)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("VERIFIED: confide/cardio/hospital-a")
