"""Altered logs: whether the offline verifier finds each, and names the entry, or the few entries that it can be.

Who alters the log can do more each time: only its bytes; also its hashes; also the chain through all later entries; and also
sign the result with the log's own key (a fork), against which only witnesses and older copies help.

`python -m tests.support.log_mutations` alters a log 10,000 times.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from governance.audit import merkle
from governance.audit.entries import NO_PREVIOUS, Entry, EntryKind, entry_body, read_entry
from governance.audit.tiles import bundle_bytes
from parties.auditing.standalone import Report, Wrong, verify
from tests.support.audit_logs import AuditedParty, a_job_in_the_log, an_audited_party, bodies_of, rewritten

T = TypeVar("T")


class Skill(Enum):
    BYTES = "bytes of entries"
    FILES = "bytes of other files"
    HASHES = "entries and hashes"
    CHAIN = "entries, hashes and the chain"
    KEY = "everything, and signs it"


@dataclass(frozen=True)
class Honest:
    """An exported log, an older export of it, and what it is made of."""

    party: AuditedParty
    older: Mapping[str, bytes]
    older_size: int
    files: Mapping[str, bytes]
    bodies: Sequence[bytes]
    entries: Sequence[Entry]
    sizes: Sequence[int]  # of all checkpoints, and 0

    def verify(self, files: Mapping[str, bytes], *, with_older: bool = False, with_seen: bool = False) -> Report:
        trusted = [*([self.older.get] if with_older else []), *([self.files["checkpoint"]] if with_seen else [])]
        return verify(files.get, founder_fingerprint=self.party.founder_fingerprint, witnesses=None, trusted=trusted)


def an_honest_log(folder: Path, *, jobs: int, checkpoint_every: int) -> Honest:
    party = an_audited_party(folder)
    party.append([(EntryKind.STARTED, {"version": "0.1.0"}), (EntryKind.CONFIGURATION, {"digest": "e" * 64})])
    older: Mapping[str, bytes] = {}
    sizes = [0]
    for number in range(jobs):
        party.append(a_job_in_the_log(number))
        if number % checkpoint_every == 0:
            party.witnessed()
            sizes.append(12 + 10 * number)
            older = older or party.files()
    party.append([(EntryKind.ALIAS, {"model": "ward-risk", "alias": "live", "version": "1"})])
    party.witnessed()
    files = party.files()
    party.database.close()
    bodies = bodies_of(files)
    return Honest(party, older, 12, files, bodies, [read_entry(body) for body in bodies], [*sizes, len(bodies)])


# Each alters entries, or their bytes, and returns where it began; what comes before is as it was.


def delete(rng: random.Random, items: list[T]) -> int:
    index = rng.randrange(len(items))
    del items[index]
    return index


def insert(rng: random.Random, items: list[T]) -> int:
    index = rng.randrange(len(items) + 1)
    items.insert(index, rng.choice(items))
    return index


def reorder(rng: random.Random, items: list[T]) -> int:
    first, second = sorted(rng.sample(range(len(items)), 2))
    items[first], items[second] = items[second], items[first]
    return first


def truncate(rng: random.Random, items: list[T]) -> int:
    index = rng.randrange(1, len(items))
    del items[index:]
    return index


def flip(rng: random.Random, bodies: list[bytes]) -> int:
    index = rng.randrange(len(bodies))
    bodies[index] = flipped(rng, bodies[index])
    return index


def say_something_else(rng: random.Random, entries: list[Entry]) -> int:
    index = rng.randrange(len(entries))
    entries[index] = replace(entries[index], facts=dict(entries[index].facts) | {"digest": f"{rng.getrandbits(256):064x}"})
    return index


SHARED: tuple[Callable[[random.Random, list[Any]], int], ...] = (delete, insert, reorder, truncate)


def flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def chained(honest: Honest, entries: Sequence[Entry], start: int) -> list[bytes]:
    """Entries written anew from `start` on, each after the one before it."""
    bodies = list(honest.bodies[:start])
    for index, entry in enumerate(entries[start:], start=start):
        previous = merkle.leaf_hash(bodies[-1]).hex() if bodies else NO_PREVIOUS
        bodies.append(entry_body(index=index, time=entry.time, kind=entry.kind, facts=entry.facts, previous=previous))
    return bodies


def with_bundles(files: Mapping[str, bytes], bodies: Sequence[bytes]) -> dict[str, bytes]:
    """Other entries under the old hashes and names."""
    names = sorted((name for name in files if name.startswith("tile/entries/")), key=lambda name: name.split(".p/")[0])
    starts = range(0, 256 * len(names), 256)
    stops = [*starts[1:], None]
    bundles = {n: bundle_bytes(bodies[a:b]) for n, a, b in zip(names, starts, stops, strict=True)}
    return dict(files) | bundles


def signed_part(note: bytes) -> int:
    """Where the log's own part of a checkpoint ends; lines of others may be taken away by anybody, and then do not count."""
    return note.index(b"\n", note.index(b"\n\n") + 2) + 1


def first_difference(old: Sequence[bytes], new: Sequence[bytes]) -> int:
    return next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))


@dataclass(frozen=True)
class Altered:
    """An altered export; `first` is the first entry that is not what it was, or None if it is another file."""

    skill: Skill
    files: Mapping[str, bytes]
    first: int | None


def altered(honest: Honest, rng: random.Random) -> Altered:
    skill = rng.choice([Skill.BYTES, Skill.FILES, *[Skill.HASHES] * 2, Skill.CHAIN, Skill.KEY])
    bodies, entries = list(honest.bodies), list(honest.entries)
    files: Mapping[str, bytes]
    match skill:
        case Skill.FILES:
            name = rng.choice([n for n in honest.files if n.startswith(("tile/0", "tile/1", "checkpoint", "directory"))])
            data = honest.files[name]
            end = signed_part(data) if name == "checkpoint" else len(data)
            return Altered(skill, dict(honest.files) | {name: flipped(rng, data[:end]) + data[end:]}, None)
        case Skill.BYTES:
            rng.choice((flip, *SHARED))(rng, bodies)
            files = with_bundles(honest.files, bodies)
        case Skill.HASHES:
            rng.choice((flip, *SHARED))(rng, bodies)
            files = rewritten(honest.files, bodies, key=None)
        case Skill.CHAIN:
            start = rng.choice((say_something_else, *SHARED))(rng, entries)
            # The signed checkpoint says how many there are, so whoever cannot sign another one keeps the number.
            entries = [*entries, *[honest.entries[-1]] * len(honest.entries)][: len(honest.entries)]
            bodies = chained(honest, entries, start)
            files = rewritten(honest.files, bodies, key=None)
        case Skill.KEY:
            start = rng.choice((say_something_else, *SHARED))(rng, entries)
            bodies = chained(honest, entries, start)
            files = rewritten(honest.files, bodies, key=honest.party.keys["hospital-a"].signing)
            if rng.random() < 0.5:
                files = dict(files) | {"history": b""}
    first = first_difference(honest.bodies, bodies)
    if bodies == honest.bodies or (skill is Skill.KEY and first == len(honest.bodies)):
        return altered(honest, rng)  # nothing is altered; or the log's party has appended to it, as it may
    return Altered(skill, files, first)


def check_one(honest: Honest, seed: int) -> None:
    rng = random.Random(seed)
    attack = altered(honest, rng)
    with_older = rng.random() < 0.5
    try:
        # Against who holds the key, one honest witness shows the checkpoint that it has seen.
        honest.verify(attack.files, with_older=with_older, with_seen=attack.skill is Skill.KEY)
    except Wrong as found:
        wrong = found
    else:
        raise AssertionError(f"mutation {seed} ({attack.skill.value}) was not found")
    first = attack.first
    if first is None:
        return
    place = f"mutation {seed} ({attack.skill.value}) of entry {first} was said to be: {wrong}"
    if with_older and first < honest.older_size:
        assert (wrong.entry, wrong.before) == (first, first + 1), place
    elif attack.skill in (Skill.BYTES, Skill.HASHES):
        assert wrong.entry is not None, place
        assert wrong.before is not None, place
        assert wrong.entry <= first < wrong.before, place
        # The last entry has no successor that names it: then its checkpoint tells.
        most = 1 if attack.skill is Skill.BYTES else 2
        assert wrong.before - wrong.entry <= most or first == len(honest.bodies) - 1, place
    elif wrong.before == wrong.entry + 1 and "job" in wrong.what:
        assert wrong.entry >= first, place  # where the entries contradict each other
    else:
        agreed = [size for size in honest.sizes if size <= first]
        assert wrong.entry in ({0, honest.older_size, max(agreed)} if attack.skill is Skill.KEY else {max(agreed)}), place
        assert wrong.before is not None, place
        assert first < wrong.before, place


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        honest = an_honest_log(Path(folder), jobs=3, checkpoint_every=1)
    for seed in range(count):
        check_one(honest, seed)
    print(f"{count} altered logs, all of them found and named")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
