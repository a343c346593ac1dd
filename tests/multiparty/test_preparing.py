"""The process that prepares rows can open neither a socket nor a file, and holds none but those it was handed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from governance.audit.entries import EntryKind, read_entry
from governance.documents import DocumentKind, verify
from parties.config import PartyConfig, load_party_config, write_party_config
from parties.preparing.files import new_file
from parties.preparing.preparing import Instructions, prepare_file, prepare_to_file
from parties.preparing.process import PreparingProcess
from parties.preparing.registering import register_prepared, reproduce
from parties.raw_file import raw_source
from parties.registration import open_rows
from parties.storage.database import one_transaction
from parties.worker.channel import Channel
from privacy.preparation.contract import OnViolation
from privacy.preparation.recipes.catalogue import STEPS as STEP_KINDS
from privacy.preparation.rehearsal import RECIPE
from protocols.errors import ConfideError, ErrorCode
from tests.support.command import confide
from tests.support.preparing import CANARY, CONTRACT, HEAD, SEED, STEPS, contract, prepared, recipe, ward_rows
from tests.support.preparing import RECIPE as RECIPE_TEXT

pytestmark = pytest.mark.multiparty

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

_TRIALS = """
import errno, json, os, resource, socket, sys
from parties.worker import preparer
from parties.worker.channel import Channel

endpoint = socket.socket(fileno=os.dup(0))
channel = Channel(endpoint)
parcel = channel.receive()
stray = open(sys.argv[1])
source, sink = preparer._confined(parcel, endpoint)
found = {}

def attempt(name, work):
    try:
        work()
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
    else:
        found[name] = "worked"

attempt("open to read", lambda: open(sys.argv[1]))
attempt("open to write", lambda: open(sys.argv[1] + ".new", "w"))
attempt("open a device", lambda: os.open("/dev/null", os.O_RDONLY))
attempt("open what is open", lambda: os.open(f"/proc/self/fd/{source.fileno()}", os.O_RDONLY))
attempt("open from the root", lambda: os.open("etc/passwd", os.O_RDONLY, dir_fd=source.fileno()))
attempt("list a folder", lambda: os.listdir("/"))
attempt("remove", lambda: os.remove(sys.argv[1]))
attempt("rename", lambda: os.rename(sys.argv[1], sys.argv[1] + ".old"))
attempt("link", lambda: os.link(sys.argv[1], sys.argv[1] + ".link"))
attempt("make a folder", lambda: os.mkdir(sys.argv[1] + ".folder"))
attempt("truncate by name", lambda: os.truncate(sys.argv[1], 0))
attempt("change the mode", lambda: os.chmod(sys.argv[1], 0o777))
attempt("change the folder", lambda: os.chdir("/"))
attempt("signal another process", lambda: os.kill(os.getppid(), 0))
attempt("inet socket", lambda: socket.socket(socket.AF_INET))
attempt("unix socket", lambda: socket.socket(socket.AF_UNIX))
attempt("start a program", lambda: os.execv(sys.executable, [sys.executable, "-c", "pass"]))
attempt("read a stray file", lambda: os.fstat(stray.fileno()))
try:
    bytearray(2 << 30)
except MemoryError:
    found["more memory"] = "refused"
found["processor time"] = resource.getrlimit(resource.RLIMIT_CPU)
found["read"] = source.read().decode()
sink.write(b"written"); sink.flush()
channel.send({"found": found})
os._exit(0)
"""
_DENIED = (
    "open to read",
    "open to write",
    "open a device",
    "open what is open",
    "open from the root",
    "list a folder",
    "remove",
    "rename",
    "link",
    "make a folder",
    "truncate by name",
    "change the mode",
    "change the folder",
    "signal another process",
    "inet socket",
    "unix socket",
    "start a program",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    folder = tmp_path_factory.mktemp("confined")
    (folder / "raw.csv").write_text("rows")
    (folder / "other.csv").write_text("others")
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            command = [sys.executable, "-c", _TRIALS, str(folder / "other.csv")]
            child = subprocess.Popen(command, stdin=theirs.fileno(), cwd=Path(__file__).parents[2], stderr=subprocess.PIPE)
        ours.settimeout(120)
        channel = Channel(ours)
        channel.send({"memory_bytes": 1 << 30, "processor_s": 60, "detector": False, "sink": True})
        with (folder / "raw.csv").open("rb") as source, (folder / "out").open("wb") as sink:
            socket.send_fds(ours, [b"."], [source.fileno(), sink.fileno()])
            try:
                header = channel.receive().header
            finally:
                _, errors = child.communicate(timeout=30)
        assert child.returncode == 0, errors.decode()
        assert (folder / "out").read_bytes() == b"written"
        yield header["found"]


@pytest.mark.parametrize("what", _DENIED)
def test_preparer_is_refused(what: str, found: dict[str, object]) -> None:
    assert found[what] == "EPERM"


def test_preparer_s_memory_and_processor_time_are_bounded(found: dict[str, object]) -> None:
    assert found["more memory"] == "refused"
    assert found["processor time"] == [60, 60]


def test_preparer_has_lost_every_file_but_those_it_was_handed(found: dict[str, object]) -> None:
    assert found["read a stray file"] == "EBADF"
    assert found["read"] == "rows"


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    (tmp_path / "ward.csv").write_text(ward_rows(200))
    return tmp_path / "ward.csv"


INSTRUCTIONS = Instructions(contract(), recipe())
KEYED = Instructions(contract(), recipe(HEAD + "  - {step: pseudonymise, column: patient, project: cohort}\n" + STEPS))


def nobody(_project: str, _identifiers: Sequence[str]) -> dict[str, str]:
    raise AssertionError("this recipe makes no pseudonyms")


def test_confined_process_prepares_what_a_free_one_prepares_and_keeps_dropped_columns_out(ward: Path, tmp_path: Path) -> None:
    asked: list[tuple[str, int]] = []

    def backwards(project: str, identifiers: Sequence[str]) -> dict[str, str]:
        asked.append((project, len(identifiers)))
        return {text: text[::-1] for text in identifiers}

    out = tmp_path / "prepared.parquet"
    with new_file(out) as sink:
        outcome = prepare_file(ward, KEYED, sink=sink, seed=SEED, on_violation=OnViolation.REFUSE, make_pseudonyms=backwards)
    made = {"patient": {f"P{n}": f"P{n}"[::-1] for n in range(1, 201)}}
    expected, free = prepared(ward.read_text(), KEYED.recipe, pseudonyms=made)
    assert pq.read_table(out, use_threads=False).to_pylist() == expected
    assert outcome == free
    assert asked == [("cohort", 200)]
    assert CANARY.encode() in ward.read_bytes()
    assert CANARY.encode() not in out.read_bytes()


_ALL_CONTRACT = """\
api_version: confide/v1
kind: DataContract
name: ward
purpose: predict an illness
columns:
  - {name: note, role: quasi-identifier}
  - {name: born, role: quasi-identifier}
  - {name: town, role: quasi-identifier}
  - {name: dose, role: feature, type: float, range: [0, 10]}
  - {name: outcome, role: label, type: choice, negative: well, positive: ill}
"""
# Together with those of the rehearsal, every kind of step that there is.
_OTHER_STEPS = """\
  - {step: redact-text, columns: [note]}
  - {step: parse-date, columns: [born], format: '%Y-%m-%d'}
  - {step: generalise, column: born, date: year}
  - {step: generalise, column: town, groups: {x: north}, other: south}
  - {step: rename, names: {town: region}}
  - {step: parse-number, columns: [dose]}
  - {step: bottom-code, column: dose, at: 1}
  - {step: suppress-small-groups, columns: [region], k: 2, sensitive: [outcome], l: 2, most: 0.5}
  - {step: drop, columns: [note]}
  - {step: select, columns: [dose, outcome]}
  - {step: augment, technique: mixup, settings: {share: 0.4}, ranges: {dose: [0, 10]}, label: outcome, copies: 2}
"""


def test_every_kind_of_step_works_without_opening_a_file(tmp_path: Path) -> None:
    made_by = recipe(HEAD + _OTHER_STEPS)
    kinds = {step.KIND for step in (*made_by.steps, *recipe(RECIPE.decode()).steps)}
    assert kinds == set(STEP_KINDS)
    rows = [
        f'"Seen by Dr Jane Roe, phone 020 7946 0{number:03d}",19{50 + number}-02-03,{"xy"[number % 2]},{number % 7}.5,'
        f"{'well' if number % 3 else 'ill'}"
        for number in range(40)
    ]
    file, out = tmp_path / "notes.csv", tmp_path / "notes.parquet"
    file.write_text("\n".join(["note,born,town,dose,outcome", *rows]))
    instructions = Instructions(contract(_ALL_CONTRACT), made_by)
    outcome = prepare_to_file(file, instructions, out, on_violation=OnViolation.REFUSE, config=None)
    assert outcome.rows_read == 40
    assert outcome.rows_out == len(pq.read_table(out, use_threads=False)) > 40


def test_refusal_arrives_with_every_problem_and_nothing_is_left(ward: Path, tmp_path: Path) -> None:
    ward.write_text(ward_rows(30).replace("0.007", "much").replace("0.011", "more"))
    with pytest.raises(ConfideError) as caught, new_file(tmp_path / "prepared.parquet") as sink:
        prepare_file(ward, INSTRUCTIONS, sink=sink, seed=SEED, on_violation=OnViolation.REFUSE, make_pseudonyms=nobody)
    assert caught.value.code is ErrorCode.INVALID_DATA
    assert [problem.where for problem in caught.value.problems] == [f"row {n} (line {n + 1}), column dose" for n in (7, 11)]
    assert [path.name for path in tmp_path.iterdir()] == ["ward.csv"]


def test_process_previews_and_its_death_is_reported(ward: Path) -> None:
    with raw_source(ward) as source, PreparingProcess(source, INSTRUCTIONS.contract, INSTRUCTIONS.recipe, sink=None) as process:
        found = process.preview(3, SEED)
        assert len(found["before"]["rows"]) == len(found["after"]["rows"]) == 3
        process._process.kill()
        with pytest.raises(ConfideError) as caught:
            process.preview(3, SEED)
    assert caught.value.code is ErrorCode.WORKER_LOST


@pytest.fixture
def config(tmp_path: Path) -> PartyConfig:
    folder = tmp_path / "party"
    folder.mkdir()
    write_party_config(folder / "party.yaml", party="hospital-a", listen="0.0.0.0:7443")
    config = load_party_config(folder / "party.yaml")
    config.folder.create_storage()
    config.folder.member.create_keys()
    return config


def test_registration_from_a_raw_file_is_signed_logged_and_reproducible(config: PartyConfig, ward: Path) -> None:
    record, outcome = register_prepared(
        config, name="ward", file=ward, instructions=INSTRUCTIONS, on_violation=OnViolation.REFUSE, now=NOW
    )
    assert (record.num_rows, outcome.rows_out) == (200, 200)
    rows = open_rows(config.folder.open_sealed(), record)
    assert rows.features.shape == (200, 4)
    with one_transaction(config.folder.database_file) as tables:
        kept = tables.preparations.find("ward", 1)
        entries = [read_entry(tables.audit.entry(index).body) for index in range(tables.audit.size())]
    assert kept is not None
    key = config.folder.member.load_signing_key().public
    verify(kept.signed, kind=DocumentKind.PREPARATION, signer="hospital-a", key=key)
    made = kept.statement
    assert (made.dataset, made.rows_commitment, made.recipe, made.contract) == ("ward/1", record.commitment, recipe(), contract())
    assert "raw" not in kept.outcome
    (registered,) = [entry for entry in entries if entry.kind is EntryKind.DATASET_REGISTERED]
    assert registered.facts["preparation"] == made.digest

    again = reproduce(config, name="ward", number=None, file=ward)
    assert (again.is_same_file, again.is_same_rows) == (True, True)
    # Another remark is another file; it is dropped, so the rows are the same. Another dose makes other rows.
    ward.write_text(ward.read_text().replace(f"{CANARY} 9\n", "nothing\n"))
    again = reproduce(config, name="ward", number=1, file=ward)
    assert (again.is_same_file, again.is_same_rows) == (False, True)
    ward.write_text(ward.read_text().replace("0.004", "0.005"))
    assert not reproduce(config, name="ward", number=1, file=ward).is_same_rows


def test_rows_left_out_after_the_last_step_stand_in_the_registration(config: PartyConfig, ward: Path) -> None:
    ward.write_text(ward_rows(30).replace(",well,", ",unknown,", 2).replace("1931-02-11", "1831-02-11"))
    record, _ = register_prepared(
        config, name="ward", file=ward, instructions=INSTRUCTIONS, on_violation=OnViolation.LEAVE_OUT, now=NOW
    )
    assert (record.num_rows, dict(record.left_out)) == (27, {"out_of_range": 1, "unknown_label": 2})


def test_nothing_is_registered_of_a_file_that_is_refused(config: PartyConfig, ward: Path) -> None:
    ward.write_text(ward.read_text() + "one field\n")
    with pytest.raises(ConfideError) as caught:
        register_prepared(config, name="ward", file=ward, instructions=INSTRUCTIONS, on_violation=OnViolation.REFUSE, now=NOW)
    assert caught.value.problems[0].where == "row 201 (line 202)"
    assert list(config.folder.sealed_folder.iterdir()) == []
    with pytest.raises(ConfideError) as unknown, one_transaction(config.folder.database_file) as tables:
        tables.datasets.get("ward")
    assert unknown.value.code is ErrorCode.UNKNOWN_DATASET


def test_commands_lead_from_the_first_look_to_a_registered_data_set(config: PartyConfig, ward: Path, tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    (tmp_path / "recipe.yaml").write_text(RECIPE_TEXT)
    given = ("--file", ward, "--contract", tmp_path / "contract.yaml", "--recipe", tmp_path / "recipe.yaml")
    party = ("--config", tmp_path / "party" / "party.yaml", "--format", "json")
    shown = confide("dataset", "preview", *given, "--rows", "2")
    assert "1932-03-12" in shown.out  # a birth date, before
    assert "Dropped while the file was read: name (direct identifier)." in shown.out

    made = confide("dataset", "prepare", *given, "--out", tmp_path / "out.parquet", "--format", "json").data
    assert (made["rows_out"], "raw" in made) == (200, False)
    again = confide("dataset", "prepare", *given, "--out", tmp_path / "out.parquet")
    assert (again.exit_code, "is not overwritten" in again.error) == (2, True)

    registered = confide("dataset", "register", *given, "--name", "ward", *party).data
    assert registered["preparation"]["rows_read"] == 200
    kept = confide("dataset", "show", "ward", *party).data
    assert kept["commitment"] == registered["commitment"]
    assert kept["preparation"]["recipe_digest"] == recipe().digest
    assert confide("dataset", "reproduce", "ward", "--file", ward, *party).data["same_rows"] is True
    assert CANARY not in json.dumps([made, registered, kept])


def test_register_needs_a_schema_or_contract_and_recipe(config: PartyConfig, ward: Path, tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    named = ("--name", "ward", "--file", ward, "--config", tmp_path / "party" / "party.yaml", "--format", "json")
    for given in ((), ("--contract", tmp_path / "contract.yaml")):
        assert confide("dataset", "register", *named, *given).failure["code"] == "INVALID_ARGUMENT"
