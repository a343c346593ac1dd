"""Audit logs for tests: a party on disk with witnesses in memory, and an exported log in memory to alter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from governance.audit import merkle
from governance.audit.checkpoints import Checkpoint, check_cosignature, cosign, origin, parse_checkpoint, sign_checkpoint
from governance.audit.entries import EntryKind, Fact
from governance.audit.notes import parse_note
from governance.audit.tiles import bundle_bytes, tile_bytes, tiles
from governance.budget.amounts import Amount
from governance.budget.facts import LOGGED, charge_facts, reservation_facts
from governance.budget.ledger import LedgerEntry, Step
from governance.identity.keys import SigningKey
from governance.policy.budgets import Caps
from parties.auditing.export import copy_log
from parties.config import PartyConfig, write_party_config
from parties.storage.audit_log import CosignatureRecord
from parties.storage.database import Database
from parties.storage.files import write_public, write_secret
from parties.storage.ledger_tables import LedgerRow
from tests.support.databases import a_database
from tests.support.members import NOW, Keys, a_founder, new_keys

PARTIES = ("hospital-a", "hospital-b", "hospital-c")
Said = tuple[EntryKind, Mapping[str, Fact]]


@dataclass
class AuditedParty:
    """Hospital A with a real folder and database, and the keys of the others, who witness."""

    config: PartyConfig
    founder_fingerprint: str
    keys: Mapping[str, Keys]
    database: Database
    now: datetime

    @property
    def origin(self) -> str:
        return origin("cardio", self.config.party)

    def append(self, said: Sequence[Said]) -> None:
        self.now += timedelta(seconds=1)
        with self.database.transaction() as tables:
            tables.audit.append_many(said, now=self.now)

    def append_job(self, number: int) -> None:
        """A job in the log, and its charges in the ledger."""
        said = a_job_in_the_log(number)
        self.append(said)
        steps = {kind: step for step, kind in LOGGED.items()}
        with self.database.transaction() as tables:
            session = tables.ledger._session
            for kind, facts in said:
                if kind in steps:
                    charge = {name: facts[name] for name in ("account", "kind", "epsilon", "delta", "queries", "answers")}
                    session.add(LedgerRow(job_id=facts["job"], step=steps[kind].value, time=self.now, **charge))

    def witnessed(self, witnesses: Sequence[str] = PARTIES[1:]) -> None:
        """Signs a checkpoint over all entries and has it cosigned."""
        with self.database.transaction() as tables:
            size, root = tables.audit.head()
            checkpoint = Checkpoint(self.origin, size, root)
            note = sign_checkpoint(checkpoint, key=self.keys["hospital-a"].signing)
            tables.audit.add_checkpoint(size=size, root=root, note=note.to_bytes(), now=self.now)
            for witness in witnesses:
                key = self.keys[witness].signing
                line = cosign(checkpoint, name=origin("cardio", witness), key=key, now=self.now)
                time = check_cosignature(checkpoint, line, name=origin("cardio", witness), key=key.public)
                tables.audit.add_cosignature(size, CosignatureRecord(witness, line.line, time))

    def files(self) -> dict[str, bytes]:
        """The export, in memory."""
        copy = copy_log(self.database, self.config, now=self.now)
        return {name: copy.read(name) or b"" for name in copy.names()}


def an_audited_party(folder: Path) -> AuditedParty:
    """Makes the party's folder: keys, directory, empty database."""
    founder, keys = a_founder(), {party: new_keys() for party in PARTIES}
    directory = founder.directory(parties=tuple(founder.party(keys[party], party) for party in PARTIES))
    folder.mkdir(parents=True, exist_ok=True)
    config = write_party_config(folder / "party.yaml", party="hospital-a", listen="127.0.0.1:7443")
    member = config.folder.member
    member.signing_key_file.parent.mkdir(parents=True)
    write_secret(member.signing_key_file, keys["hospital-a"].signing.export_secret_pem())
    write_public(member.directory_file, founder.signed(directory).to_bytes())
    write_public(member.founder_file, founder.fingerprint.encode())
    return AuditedParty(config, founder.fingerprint, keys, a_database(config.folder.database_file), NOW)


def a_job_in_the_log(number: int) -> list[Said]:
    """Ten entries: a job from its arrival to its output, and accounts that no other job is charged to."""
    job = f"{number:032x}"
    amount, caps = Amount(None, Decimal(0), 1, 4), Caps()
    accounts = (f"dataset/ward-{number}", f"model/ward-risk@{number:012x}")
    reserved = [LedgerEntry(account, job, Step.RESERVE, amount, NOW, "evaluate") for account in accounts]
    return [
        (EntryKind.JOB_RECEIVED, {"job": job, "querier": "alice", "digest": f"{number:064x}"}),
        (EntryKind.APPROVAL, {"job": job, "person": "dr-nasser", "verdict": "approved", "note": "für Station „Ost“"}),
        *((EntryKind.RESERVED, reservation_facts(entry, [entry], caps)) for entry in reserved),
        (EntryKind.COUNTERSIGNED, {"job": job, "plan": "b" * 64, "grants": [f"{number:032x}", "c" * 32]}),
        (EntryKind.QUERY, {"job": job, "commitment": "d" * 64}),
        *((EntryKind.DEBITED, charge_facts(entry)) for entry in reserved),
        (EntryKind.SESSION_ENDED, {"job": job, "state": "completed", "code": ""}),
        (EntryKind.OUTPUT_RELEASED, {"job": job, "output": "labels", "recipient": "alice"}),
    ]


def rewritten(files: Mapping[str, bytes], bodies: Sequence[bytes], *, key: SigningKey | None) -> dict[str, bytes]:
    """An export with other entries and all hashes to match; signed anew by who has the log's key, else under the old checkpoint.

    Without the key the number of entries cannot change, so the files keep their names and hold what there is.
    """
    changed = {name: data for name, data in files.items() if not name.startswith("tile/")}
    head = parse_checkpoint(parse_note(files["checkpoint"]).text)
    leaves = [merkle.leaf_hash(body) for body in bodies]
    node = node_of(leaves)
    if key is not None:
        head = replace(head, size=len(bodies), root=merkle.root(len(bodies), node))
        changed["checkpoint"] = sign_checkpoint(head, key=key).to_bytes()
    for tile in tiles(head.size):
        stop = tile.start + tile.width if tile.start + tile.width < head.size else None
        if tile.level == 0:
            changed[tile.path] = b"".join(leaves[tile.start : stop])
            changed[tile.entries_path] = bundle_bytes(bodies[tile.start : stop])
        elif len(bodies) >= head.size:
            changed[tile.path] = tile_bytes(tile, node)
        else:
            changed[tile.path] = files[tile.path]
    return changed


def node_of(leaves: Sequence[bytes]) -> merkle.Lookup:
    """All complete subtrees over these leaves."""
    hashes = {(0, index): leaf for index, leaf in enumerate(leaves)}
    for index, leaf in enumerate(leaves):
        for level, place, value in merkle.completed_by(index, leaf, lambda level, place: hashes[level, place]):
            hashes[level, place] = value
    return lambda level, place: hashes[level, place]


def bodies_of(files: Mapping[str, bytes]) -> list[bytes]:
    """The entries of an export."""
    found: list[bytes] = []
    names = sorted((name for name in files if name.startswith("tile/entries/")), key=lambda name: name.split(".p/")[0])
    for name in names:
        data = files[name]
        while data:
            length = int.from_bytes(data[:2], "big")
            found.append(data[2 : 2 + length])
            data = data[2 + length :]
    return found
