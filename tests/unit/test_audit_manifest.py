"""The proof that a consent stands in its party's cosigned log: every defect is found, all of them at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from governance.audit import merkle
from governance.audit.checkpoints import Checkpoint, cosign, origin, sign_checkpoint
from governance.audit.entries import EntryKind, entry_body
from governance.audit.manifest import MAX_AGE, MAX_AHEAD, GrantUse, Manifest, ManifestProof, verify_manifest
from governance.identity.directory import Directory
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from tests.support.audit_logs import node_of
from tests.support.consent import HOSPITALS, ConsentWorld
from tests.support.jobs import a_training
from tests.support.members import NOW

PARTY, WITNESSES = HOSPITALS[0], HOSPITALS[1:]
PLAN = "b" * 64
JOB = a_training()
MANIFEST = Manifest(
    PARTY, JOB.job_id, JOB.digest, PLAN, (GrantUse("0f" * 16, NOW, NOW), GrantUse("1f" * 16)), "officers", ("c" * 64,)
)
Bodies = list[bytes]


@dataclass
class Shown:
    """A proof in the making: change a field, then ask for the text."""

    world: ConsentWorld
    manifest: Manifest = MANIFEST
    kind: EntryKind = EntryKind.COUNTERSIGNED
    index: int = 5
    size: int = 9
    log: str = PARTY
    signed_by: str = PARTY
    witnesses: tuple[str, ...] = WITNESSES
    cosigned_at: datetime = NOW
    written: int = 5
    others: Bodies = field(default_factory=lambda: [b"entry %d" % n for n in range(9)])

    def proof(self) -> ManifestProof:
        facts = self.manifest.to_facts()
        entry = entry_body(index=self.written, time=NOW, kind=self.kind, facts=facts, previous="a" * 64)
        bodies = [*self.others]
        bodies[5] = entry
        node = node_of([merkle.leaf_hash(body) for body in bodies])
        checkpoint = Checkpoint(origin("cardio", self.log), 9, merkle.root(9, node))
        note = sign_checkpoint(checkpoint, key=self.world.keys[self.signed_by].signing)
        lines = [
            cosign(checkpoint, name=origin("cardio", w), key=self.world.keys[w].signing, now=self.cosigned_at)
            for w in self.witnesses
        ]
        note = replace(note, signatures=(*note.signatures, *lines))
        return ManifestProof(entry, self.index, self.size, merkle.inclusion_proof(5, 9, node), note.to_bytes())


@pytest.fixture(scope="module")
def world() -> ConsentWorld:
    return ConsentWorld()


def verified(directory: Directory, text: str, *, job: Job = JOB, plan: str = PLAN, now: datetime = NOW) -> Manifest:
    return verify_manifest(text, party=PARTY, job=job, plan_digest=plan, directory=directory, witnesses=WITNESSES, now=now)


def where_refused(world: ConsentWorld, text: str, **changes: Any) -> list[str]:
    with pytest.raises(ConfideError) as caught:
        verified(world.directory, text, **changes)
    assert (caught.value.code, caught.value.party) == (ErrorCode.NOT_LOGGED, PARTY)
    return [problem.where for problem in caught.value.problems]


def test_manifest_that_stands_in_a_cosigned_log_is_accepted(world: ConsentWorld) -> None:
    assert verified(world.directory, Shown(world).proof().to_text()) == MANIFEST


def test_manifest_facts_are_read_back_as_they_were_written() -> None:
    assert Manifest.from_facts(MANIFEST.to_facts()) == MANIFEST
    with pytest.raises(ConfideError) as caught:
        Manifest.from_facts({**MANIFEST.to_facts(), "grants": ["0f" * 16 + " 2026-02-31T00:00:00Z"], "approvals": ["x"]})
    assert [problem.where for problem in caught.value.problems] == ["facts.grants", "facts.approvals"]


DEFECTS: dict[str, tuple[Callable[[Shown], Shown], list[str]]] = {
    "another kind of entry": (lambda s: replace(s, kind=EntryKind.JOB_RECEIVED), ["entry.kind"]),
    "another party's consent": (lambda s: replace(s, manifest=replace(MANIFEST, party="hospital-b")), ["entry.facts.party"]),
    "another job": (lambda s: replace(s, manifest=replace(MANIFEST, job_digest="d" * 64)), ["entry.facts.job"]),
    "another plan": (lambda s: replace(s, manifest=replace(MANIFEST, plan_digest="d" * 64)), ["entry.facts.plan_digest"]),
    "another index": (lambda s: replace(s, index=4), ["entry.index", "proof"]),
    "another size": (lambda s: replace(s, size=8), ["size"]),
    "another log": (lambda s: replace(s, log="hospital-b"), ["checkpoint"]),
    "another key": (lambda s: replace(s, signed_by="hospital-b"), ["checkpoint"]),
    "a missing witness": (lambda s: replace(s, witnesses=WITNESSES[:1]), ["cosignatures.hospital-c"]),
    "no witness": (lambda s: replace(s, witnesses=()), [f"cosignatures.{w}" for w in WITNESSES]),
    "old cosignatures": (
        lambda s: replace(s, cosigned_at=NOW - MAX_AGE - timedelta(seconds=1)), [f"cosignatures.{w}" for w in WITNESSES],
    ),
    "cosignatures from the future": (
        lambda s: replace(s, cosigned_at=NOW + MAX_AHEAD + timedelta(seconds=1)), [f"cosignatures.{w}" for w in WITNESSES],
    ),
    "several at once": (
        lambda s: replace(s, kind=EntryKind.ALIAS, manifest=replace(MANIFEST, plan_digest="d" * 64), witnesses=WITNESSES[1:]),
        ["entry.kind", "entry.facts.plan_digest", "cosignatures.hospital-b"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_manifest_with_a_defect_is_refused_with_what_is_wrong(world: ConsentWorld, defect: str) -> None:
    spoil, expected = DEFECTS[defect]
    assert where_refused(world, spoil(Shown(world)).proof().to_text()) == expected


def test_manifest_whose_log_was_altered_is_refused(world: ConsentWorld) -> None:
    """The entry is swapped under the checkpoint that the witnesses have cosigned."""
    swapped = replace(
        Shown(world, manifest=replace(MANIFEST, rule="otherwise")).proof(), checkpoint=Shown(world).proof().checkpoint
    )
    assert where_refused(world, swapped.to_text()) == ["proof"]


def test_manifest_whose_cosignature_was_made_over_another_checkpoint_is_refused(world: ConsentWorld) -> None:
    one, other = Shown(world).proof(), Shown(world, others=[b"other %d" % n for n in range(9)]).proof()
    head, tail = other.checkpoint.split(b"\n\n"), one.checkpoint.split(b"\n\n")[1]
    own = head[1].split(b"\n")[0]
    mixed = head[0] + b"\n\n" + own + b"\n" + b"\n".join(tail.split(b"\n")[1:])
    assert where_refused(world, replace(other, checkpoint=mixed).to_text()) == [f"cosignatures.{w}" for w in WITNESSES]


def test_manifest_of_another_job_or_plan_is_refused(world: ConsentWorld) -> None:
    text = Shown(world).proof().to_text()
    assert where_refused(world, text, job=a_training(nonce="aa" * 16)) == ["entry.facts.job"]
    assert where_refused(world, text, plan="e" * 64) == ["entry.facts.plan_digest"]


def test_manifest_that_is_kept_too_long_is_refused(world: ConsentWorld) -> None:
    text = Shown(world).proof().to_text()
    assert verified(world.directory, text, now=NOW + MAX_AGE) == MANIFEST
    assert len(where_refused(world, text, now=NOW + MAX_AGE + timedelta(seconds=1))) == len(WITNESSES)


@pytest.mark.parametrize(
    "text", ["", "{}", "null", "{" * 70_000, '{"format":"confide.manifest/1"}'], ids=["empty", "object", "null", "long", "bare"]
)
def test_manifest_that_is_none_is_refused(world: ConsentWorld, text: str) -> None:
    assert where_refused(world, text) == ["manifest"]


def test_manifest_with_an_unknown_field_or_format_is_refused(world: ConsentWorld) -> None:
    document = json.loads(Shown(world).proof().to_text())
    for change in ({"more": 1}, {"format": "confide.manifest/2"}, {"proof": ["00"]}, {"index": -1}):
        assert where_refused(world, canonical_bytes({**document, **change}).decode()) == ["manifest"]
