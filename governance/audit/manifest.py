"""The manifest of a consent: what a party countersigned a job on, as its audit log holds it.

    {"checkpoint": "<signed note with cosignatures>", "entry": "<body of the COUNTERSIGNED entry>",
     "format": "confide.manifest/1", "index": 41, "proof": ["<hash>", ...], "size": 57}

A countersignature carries this text. Whoever receives it recomputes the entry's leaf hash, checks that the proof leads from it
to the root of the checkpoint, that the sender signed the checkpoint, and that every other participant of the job has cosigned
it a short while ago. So a party cannot consent without leaving an entry that its witnesses hold it to, and cannot show one
participant another log than the rest. Everything here is public to the participants of the job.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from governance.audit.checkpoints import Checkpoint, check_cosignature, find_cosignature, open_checkpoint, origin
from governance.audit.entries import EntryKind, Fact, read_entry
from governance.audit.merkle import is_included, leaf_hash
from governance.audit.notes import Note
from governance.identity.directory import Directory
from governance.identity.fields import Fields, fields_of, finish
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import TIME_FORMAT, Job

FORMAT = "confide.manifest/1"
MAX_TEXT_BYTES = 64 * 1024
MAX_NOTE_TEXT = 48 * 1024
MAX_PROOF_HASHES = 64
# A witness that has vouched for a log this long ago may have seen it contradict itself since.
MAX_AGE = timedelta(minutes=10)
MAX_AHEAD = timedelta(minutes=5)
FACTS = ("job", "job_digest", "party", "plan_digest", "grants", "rule", "approvals")
_GRANT_USE = re.compile(r"[0-9a-f]{32}(?: [0-9TZ:-]{20}){0,2}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_JOB_ID = re.compile(r"[0-9a-f]{32}")


class GrantUse(NamedTuple):
    """One grant that a job uses, as the others need to know it.

    Attributes:
        grant_id: 32 hexadecimal digits.
        derived_until: until when models that come of the job may be used, UTC; None if that is not said.
        covers_until: until when the grant covers the job itself, UTC; None if that is not said.
    """

    grant_id: str
    derived_until: datetime | None = None
    covers_until: datetime | None = None


@dataclass(frozen=True)
class Manifest:
    """What one party's consent to one job rests on; the facts of its COUNTERSIGNED entry.

    Attributes:
        party: who consents.
        job_id: the job, 32 hexadecimal digits.
        job_digest: SHA-256 of the job, 64 hexadecimal digits.
        plan_digest: SHA-256 of the plan that the party derived, 64 hexadecimal digits.
        grants: the party's own grants that the job uses, and until when.
        rule: name of the rule of the party's policy that decided.
        approvals: SHA-256 of the approvals that were counted, 64 hexadecimal digits each.
    """

    party: str
    job_id: str
    job_digest: str
    plan_digest: str
    grants: tuple[GrantUse, ...]
    rule: str
    approvals: tuple[str, ...]

    def to_facts(self) -> dict[str, Fact]:
        """Returns the facts of the entry."""
        return {
            "job": self.job_id,
            "job_digest": self.job_digest,
            "party": self.party,
            "plan_digest": self.plan_digest,
            "grants": [_grant_use(use) for use in self.grants],
            "rule": self.rule,
            "approvals": list(self.approvals),
        }

    @staticmethod
    def from_facts(facts: Mapping[str, Fact]) -> Manifest:
        """Reads the facts of an entry strictly.

        Raises:
            ConfideError: INVALID_DOCUMENT (the party's fault), with every problem.
        """
        problems: list[Problem] = []
        fields = Fields(facts, names=set(FACTS), where="facts", problems=problems)
        manifest = Manifest(
            party=fields.text("party"),
            job_id=_matching(fields.text("job"), _JOB_ID, "job", problems),
            job_digest=_matching(fields.text("job_digest"), _DIGEST, "job_digest", problems),
            plan_digest=_matching(fields.text("plan_digest"), _DIGEST, "plan_digest", problems),
            grants=tuple(_read_grant_use(item, problems) for item in fields.items("grants", most=256)),
            rule=fields.text("rule"),
            approvals=tuple(_matching(item, _DIGEST, "approvals", problems) for item in fields.items("approvals", most=256)),
        )
        finish(problems, what="the manifest of a consent")
        return manifest


@dataclass(frozen=True)
class ManifestProof:
    """A manifest's entry, and what shows that it stands in a cosigned log; public. Nothing is believed before `verify_manifest`.

    Attributes:
        entry: body of the COUNTERSIGNED entry.
        index: its place in the log.
        size: entries of the checkpoint.
        proof: from the entry's leaf hash to the checkpoint's root, 32 bytes each.
        checkpoint: the signed note with its cosignatures.
    """

    entry: bytes
    index: int
    size: int
    proof: tuple[bytes, ...]
    checkpoint: bytes

    def to_text(self) -> str:
        """Returns the canonical JSON text that a countersignature carries."""
        return canonical_bytes(
            {
                "format": FORMAT,
                "entry": self.entry.decode(),
                "index": self.index,
                "size": self.size,
                "proof": [part.hex() for part in self.proof],
                "checkpoint": self.checkpoint.decode(),
            }
        ).decode()

    @staticmethod
    def from_text(text: str) -> ManifestProof:
        """Reads the text strictly.

        Raises:
            ConfideError: INVALID_DOCUMENT (the sender's fault), with every problem.
        """
        data = text.encode()
        if len(data) > MAX_TEXT_BYTES:
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"a manifest of {len(data)} bytes; at most {MAX_TEXT_BYTES} are read")
        problems: list[Problem] = []
        names = {"format", "entry", "index", "size", "proof", "checkpoint"}
        fields = fields_of(parse_canonical(data), names=names, form=FORMAT, problems=problems)
        parts = [_matching(part, _DIGEST, "proof", problems) for part in fields.items("proof", most=MAX_PROOF_HASHES)]
        proof = ManifestProof(
            entry=fields.text("entry", most=MAX_TEXT_BYTES).encode(),
            index=fields.whole("index", least=0),
            size=fields.whole("size", least=1),
            proof=tuple(bytes.fromhex(part) for part in parts),
            checkpoint=fields.text("checkpoint", most=MAX_NOTE_TEXT).encode(),
        )
        finish(problems, what="the proof of a consent")
        return proof


def verify_manifest(
    text: str,
    *,
    party: str,
    job: Job,
    plan_digest: str,
    directory: Directory,
    witnesses: Iterable[str],
    now: datetime,
) -> Manifest:
    """Checks that a party's consent to a job stands in its audit log, as far as its witnesses let it be seen.

    Args:
        text: the manifest as the countersignature carried it.
        party: who countersigned.
        job: the job that is agreed on.
        plan_digest: of the plan that the party countersigned, 64 hexadecimal digits.
        directory: whose keys are believed.
        witnesses: who must have cosigned the checkpoint: every other participant of the job.
        now: the time, UTC.

    Returns:
        What the consent rests on.

    Raises:
        ConfideError: NOT_LOGGED (the party's fault), with every problem; NOT_ENROLLED: a witness is not in the directory.
    """
    try:
        shown = ManifestProof.from_text(text)
    except ConfideError as error:
        raise _refused(party, [_problem("manifest", error)]) from error
    problems: list[Problem] = []
    manifest = _read_manifest(shown, party=party, job=job, plan_digest=plan_digest, problems=problems)
    _check_checkpoint(shown, party=party, directory=directory, witnesses=witnesses, now=now, problems=problems)
    if problems or manifest is None:
        raise _refused(party, problems)
    return manifest


def _read_manifest(shown: ManifestProof, *, party: str, job: Job, plan_digest: str, problems: list[Problem]) -> Manifest | None:
    try:
        entry = read_entry(shown.entry)
        manifest = Manifest.from_facts(entry.facts)
    except ConfideError as error:
        problems.append(_problem("entry", error))
        return None
    wrong = {
        "entry.kind": entry.kind is not EntryKind.COUNTERSIGNED,
        "entry.index": entry.index != shown.index,
        "entry.facts.party": manifest.party != party,
        "entry.facts.job": (manifest.job_id, manifest.job_digest) != (job.job_id, job.digest),
        "entry.facts.plan_digest": manifest.plan_digest != plan_digest,
    }
    what = "not that of this consent"
    problems += [Problem(where, what, f"ask {party} for its log") for where, is_wrong in wrong.items() if is_wrong]
    return manifest


def _check_checkpoint(
    shown: ManifestProof,
    *,
    party: str,
    directory: Directory,
    witnesses: Iterable[str],
    now: datetime,
    problems: list[Problem],
) -> None:
    log = origin(directory.consortium, party)
    try:
        checkpoint, note = open_checkpoint(shown.checkpoint, origin=log, key=directory.signing_key(party))
    except ConfideError as error:
        problems.append(_problem("checkpoint", error))
        return
    if checkpoint.size != shown.size:
        problems.append(Problem("size", f"the checkpoint has {checkpoint.size} entries, not {shown.size}", "ask its author"))
    if not is_included(shown.index, checkpoint.size, leaf=leaf_hash(shown.entry), proof=shown.proof, root=checkpoint.root):
        what = "the entry is not shown to stand in the log of this checkpoint"
        problems.append(Problem("proof", what, f"ask {party} for its log"))
    for witness in dict.fromkeys(witnesses):
        problems += cosignature_problems(checkpoint, note, witness=witness, directory=directory, now=now)


def cosignature_problems(
    checkpoint: Checkpoint, note: Note, *, witness: str, directory: Directory, now: datetime
) -> Sequence[Problem]:
    """Returns what is wrong with a witness' cosignature under a checkpoint; nothing if it is there, valid and fresh.

    Raises:
        ConfideError: NOT_ENROLLED: no such witness.
    """
    name, key = origin(directory.consortium, witness), directory.signing_key(witness)
    where, remedy = f"cosignatures.{witness}", f"see that {witness} can be reached, and that its clock is right"
    line = find_cosignature(note, name=name, key=key)
    if line is None:
        return [Problem(where, f"{witness} has not cosigned the checkpoint", remedy)]
    try:
        made = check_cosignature(checkpoint, line, name=name, key=key)
    except ConfideError as error:
        return [_problem(where, error)]
    if made < now - MAX_AGE:
        return [Problem(where, f"made {int((now - made).total_seconds())} s ago; {int(MAX_AGE.total_seconds())} s count", remedy)]
    if made > now + MAX_AHEAD:
        return [Problem(where, f"made {int((made - now).total_seconds())} s in the future", remedy)]
    return []


def _refused(party: str, problems: Sequence[Problem]) -> ConfideError:
    what = f"the consent of {party} is not shown to stand in its audit log"
    return ConfideError(ErrorCode.NOT_LOGGED, what, problems=problems, party=party)


def _problem(where: str, error: ConfideError) -> Problem:
    return Problem(where, "; ".join([error.what, *(str(problem) for problem in error.problems)]), error.remedy)


def _grant_use(use: GrantUse) -> str:
    times = (use.derived_until,) if use.covers_until is None else (use.derived_until, use.covers_until)
    known = [time.astimezone(UTC).strftime(TIME_FORMAT) for time in times if time is not None]
    if len(known) < len(times) and known:
        raise ValueError("a manifest that says until when a grant covers the job says how long models may be used, too")
    return " ".join((use.grant_id, *known))


def _read_grant_use(item: object, problems: list[Problem]) -> GrantUse:
    grant_id, *times = _matching(item, _GRANT_USE, "grants", problems).split(" ")
    try:
        return GrantUse(grant_id, *(datetime.strptime(time, TIME_FORMAT).replace(tzinfo=UTC) for time in times))
    except ValueError:
        problems.append(Problem("facts.grants", "a time such as 2026-01-31T12:00:00Z is expected", "ask its author"))
        return GrantUse(grant_id)


def _matching(value: object, pattern: re.Pattern[str], name: str, problems: list[Problem]) -> str:
    if isinstance(value, str) and pattern.fullmatch(value):
        return value
    problems.append(Problem(f"facts.{name}", "hexadecimal digits of the right number are expected", "ask its author"))
    return ""
