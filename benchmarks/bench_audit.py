"""How many entries a second the audit log takes, durably, and what hashing and the disk alone would allow.

    python benchmarks/bench_audit.py --entries 20000

Four figures, the same entries: hashing alone (bodies, chain and Merkle tree in memory); batches of 1,000 in one transaction each,
durable (SQLite, WAL, synchronous = FULL); one entry a transaction, durable; and a bare 300-byte append with fsync, which is what
the disk allows. Proofs and the offline verification of the log that was written stand below. Results: build/bench/audit.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from governance.audit import merkle
from governance.audit.entries import NO_PREVIOUS, entry_body
from parties.auditing.own import verify_own
from parties.auditing.standalone import verify
from tests.support.audit_logs import AuditedParty, Said, a_job_in_the_log, an_audited_party

ROOT = Path(__file__).resolve().parent.parent
BATCH, SINGLES, BARE_BYTES = 1000, 300, 300


def entries(count: int) -> Sequence[Said]:
    """Entries of jobs as they are in a log."""

    def endless() -> Iterator[Said]:
        number = 0
        while True:
            yield from a_job_in_the_log(number)
            number += 1

    return list(islice(endless(), count))


def per_second(count: int, act: Callable[[], object]) -> float:
    """Runs once and returns how many a second."""
    started = time.perf_counter()
    act()
    return count / (time.perf_counter() - started)


def hash_only(said: Sequence[Said], party: AuditedParty) -> None:
    """What an append computes, without a database."""
    previous = NO_PREVIOUS
    hashes: dict[tuple[int, int], bytes] = {}
    for index, (kind, facts) in enumerate(said):
        body = entry_body(index=index, time=party.now, kind=kind, facts=facts, previous=previous)
        leaf = merkle.leaf_hash(body)
        for level, place, value in merkle.completed_by(index, leaf, lambda level, place: hashes[level, place]):
            hashes[level, place] = value
        hashes[0, index] = leaf
        previous = leaf.hex()


def batched(said: Sequence[Said], party: AuditedParty) -> None:
    """Batches, each durable before the next begins."""
    for start in range(0, len(said), BATCH):
        with party.database.transaction() as tables:
            tables.audit.append_many(said[start : start + BATCH], now=party.now)


def one_by_one(said: Sequence[Said], party: AuditedParty) -> None:
    """One durable transaction an entry."""
    for kind, facts in said:
        with party.database.transaction() as tables:
            tables.audit.append(kind, facts, now=party.now)


def bare(path: Path, count: int) -> None:
    """Appends to a file, each synchronised."""
    with path.open("ab") as file:
        for _ in range(count):
            file.write(b"x" * BARE_BYTES)
            file.flush()
            os.fsync(file.fileno())


def main() -> int:
    """Measures, prints and writes the figures; returns the exit status."""
    parser = argparse.ArgumentParser(description="Measure the audit log.")
    parser.add_argument("--entries", type=int, default=20_000)
    asked = parser.parse_args()
    said = entries(asked.entries)
    with tempfile.TemporaryDirectory() as temporary:
        party = an_audited_party(Path(temporary) / "party")
        figures = {
            "hash_only_per_s": per_second(len(said), lambda: hash_only(said, party)),
            "batched_durable_per_s": per_second(len(said), lambda: batched(said, party)),
            "one_by_one_durable_per_s": per_second(SINGLES, lambda: one_by_one(said[:SINGLES], party)),
            "bare_fsync_per_s": per_second(SINGLES, lambda: bare(Path(temporary) / "bare", SINGLES)),
        }
        party.witnessed()
        with party.database.transaction() as tables:
            size = tables.audit.size()
            places = range(0, size, max(1, size // 500))
            figures["inclusion_proofs_per_s"] = per_second(
                len(places), lambda: [tables.audit.inclusion(index, size) for index in places]
            )
        files = party.files()
        figures["verified_offline_per_s"] = per_second(
            size, lambda: verify(files.get, founder_fingerprint=party.founder_fingerprint, witnesses=None)
        )
        figures["verified_in_place_per_s"] = per_second(
            size, lambda: verify_own(party.config, witnesses=2, seen=(), now=party.now)
        )
        figures["export_bytes_per_entry"] = sum(map(len, files.values())) / size
        party.database.close()
    out = ROOT / "build" / "bench" / "audit.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"entries": asked.entries, "batch": BATCH} | figures, indent=2) + "\n", encoding="utf-8")
    for name, value in figures.items():
        print(f"{name:<28}{value:>12,.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
