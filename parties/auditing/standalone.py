"""Verifies an exported audit log: for an auditor with no secrets, no network and no trust in the party that exported it.

    confide-audit verify DIR [--founder-fingerprint F] [--witnesses N] [--trusted OLD]... [--json]

One file; needs Python and the package `cryptography`, and shares no code with Confide, so each checks the other. It checks:

1. the directory, signed by the founder: which parties there are and which keys they have;
2. every entry against its tile of the Merkle tree, its place, the entry that it names before it, and its time;
3. what entries say together: nothing is debited without a reservation, countersigned without having been received, released
   without having been countersigned and completed, or answered beyond what an enquiry was accepted for;
4. the checkpoint: signed by the party, over exactly these entries; so are all older checkpoints that came with them;
5. witnesses: how many other parties cosigned, and up to which entry;
6. older checkpoints or exports that the auditor kept (or got from a witness): this log must extend every one of them.

It stops at the first thing that is wrong and names the first entry that is concerned. It cannot see that an entry was never
written; the log of another party, or a witness, can. Exit status: 0 verified, 7 wrong, 2 cannot be read.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WIDTH = 256
MAX_ENTRY_BYTES = 16 * 1024
MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_BACKWARDS_S = 300  # clocks are corrected; a larger step is only possible where the party process began anew
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
ZEROS = "0" * 64
FORMAT = "confide.log-entry/1"
NAMES = {"facts", "format", "index", "kind", "previous", "time"}
KINDS = frozenset(
    re.findall(
        "[a-z-]+",
        "started configuration policy directory dataset-registered agreement-signed agreement-in-force agreement-revoked "
        "grant-issued grant-revoked authorisation job-received job-refused approval countersigned session-ended reserved "
        "debited refunded model-kept model-marked model-deleted output-committed output-released output-withheld query alias "
        "model-published model-withdrawn enquiry-accepted enquiry-refused enquiry-ended answered "
        "pseudonym-project pseudonyms-evaluated sets-intersected fork-seen "
        "noise-tested canaries-scored risk-assessed standing-assessment evidence-signed release-decided",
    )
)
OF_A_JOB = frozenset({"job-received", "countersigned", "session-ended", "reserved", "debited", "refunded", "output-released"})
OF_AN_ENQUIRY = frozenset({"enquiry-accepted", "enquiry-ended", "answered"})
OK, WRONG = 0, 7  # and 2, by argparse
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_SIGNATURE_LINE = re.compile("\N{EM DASH} ([^\\s+]{1,256}) ([A-Za-z0-9+/]{4,1024}={0,2})")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)
_HEX_KEY = re.compile(r"[0-9a-f]{64}")


def _refuse(_text: str) -> float:
    raise ValueError("no floats")


_DECODER = json.JSONDecoder(parse_float=_refuse, parse_constant=_refuse)
Source = Callable[[str], bytes | None]


class Wrong(Exception):
    """What is wrong with a log.

    Attributes:
        what: in words.
        entry: the first entry that is concerned, or None if no entry is.
        before: the first wrong entry lies before this one: `entry + 1` if it is known exactly, None if nothing is known.
    """

    def __init__(self, what: str, entry: int | None = None, before: int | None = None) -> None:
        self.what, self.entry = what, entry
        self.before = entry + 1 if before is None and entry is not None else before
        super().__init__(what)

    def __str__(self) -> str:
        """What is wrong, after the entry or entries concerned."""
        if self.entry is None:
            return self.what
        exact = f"entry {self.entry}"
        between = f"an entry from {self.entry} on" + ("" if self.before is None else f", before {self.before}")
        return f"{exact if self.before == self.entry + 1 else between}: {self.what}"


@dataclass(frozen=True)
class Signed:
    """A checkpoint as a note: its text, what the text says, and the signature lines (name, value)."""

    text: str
    origin: str
    size: int
    root: bytes
    lines: tuple[tuple[str, bytes], ...]


@dataclass
class Report:
    """What was verified, and what people have to compare themselves."""

    origin: str = ""
    founder_fingerprint: str = ""
    size: int = 0
    root: str = ""
    first_time: datetime = datetime.min
    last_time: datetime = datetime.min
    witnessed_size: int = 0
    witnesses: Mapping[str, str] = field(default_factory=dict)
    older_checkpoints: int = 0
    trusted: int = 0
    notes: list[str] = field(default_factory=list)


def verify(
    read: Source, *, founder_fingerprint: str | None, witnesses: int | None, trusted: Sequence[bytes | Source] = ()
) -> Report:
    """Verifies a log; see the module.

    Args:
        read: returns a file of the export by its relative path, or None.
        founder_fingerprint: 64 hexadecimal digits that the auditor got from the founder, or None to compare it afterwards.
        witnesses: how many other parties must have cosigned; None means all of them.
        trusted: older checkpoints of this log, or older exports of it.

    Raises:
        Wrong: the first thing that is wrong.
    """
    founder, keys = _directory(_file(read, "directory.json"))
    if founder_fingerprint is not None and founder != founder_fingerprint:
        raise Wrong(f"the directory is signed by a founder with fingerprint {founder}")
    head = _note(_file(read, "checkpoint"), "checkpoint")
    party = head.origin
    if party not in keys:
        raise Wrong(f"the checkpoint is of {party[:100]!r}, which is no party of the directory")
    pieces, rest = _pieces(_file(read, "history"))
    if rest:
        raise Wrong("history is cut off")
    history = [_note(data, "history") for data in pieces]
    older = [_trusted(each, head) for each in trusted]
    report = Report(head.origin, founder, head.size, head.root.hex())
    wanted = {head.size, *(each.size for each in history), *(each.size for each, _ in older)}
    roots = _entries(read, head.size, wanted, report, [leaves for _, leaves in older])
    _check_history([*history, head], roots, party, keys[party])
    report.older_checkpoints = len(history)
    for signed, _ in older:
        _check_signed(signed, party, keys[party], "a trusted checkpoint")
        if signed.size > head.size or roots[signed.size] != signed.root:
            known = [*history, *(each for each, _ in older)]
            what = f"the log of {head.size} entries does not extend a trusted checkpoint of {signed.size}"
            raise Wrong(what, *_narrowed(min(signed.size, head.size + 1), known, roots))
    report.trusted = len(older)
    _check_witnesses([*history, head], party, keys, len(keys) - 1 if witnesses is None else witnesses, report)
    return report


def _directory(data: bytes) -> tuple[str, dict[str, str]]:
    # The founder's fingerprint, and for each party the origin of its log and its key.
    try:
        envelope = _DECODER.decode(data.decode())
        body, signer, kind = envelope["body"].encode(), envelope["signer"], envelope["kind"]
        document = _DECODER.decode(envelope["body"])
        founder, consortium = str(document["founder_key"]), str(document["consortium"])
        keys = {f"confide/{consortium}/{entry['id']}": str(entry["signing_key"]) for entry in document["parties"]}
        message = b"\0".join((b"confide signature 1", kind.encode(), signer.encode(), body))
        signature = bytes.fromhex(envelope["signature"])
        # Written back, it is the same: nothing in the file is left unread.
        again = {"body": envelope["body"], "format": "confide.signed/1", "kind": "directory", "signature": signature.hex()}
        is_whole = _ENCODER.encode(again | {"signer": "founder"}).encode() == data
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Wrong("directory.json is not a signed directory") from error
    if not is_whole or not all(_HEX_KEY.fullmatch(key) for key in (founder, *keys.values())):
        raise Wrong("directory.json is not a signed directory")
    if not _is_signed(founder, signature, message):
        raise Wrong("the signature of the directory does not verify")
    return hashlib.sha256(b"confide key fingerprint 1\0" + bytes.fromhex(founder)).hexdigest(), keys


def _note(data: bytes, where: str) -> Signed:
    try:
        text, blank, lines = data.decode().rpartition("\n\n")
        origin, size, root = text.split("\n")
        matches = [_SIGNATURE_LINE.fullmatch(line) for line in lines.removesuffix("\n").split("\n")]
        signatures = tuple((match[1], _base64(match[2])) for match in matches if match is not None)
        signed = Signed(f"{text}\n", origin, int(size), _base64(root), signatures)
    except ValueError as error:
        raise Wrong(f"{where}: not a signed checkpoint") from error
    is_note = blank and lines.endswith("\n") and None not in matches
    if not is_note or str(signed.size) != size or not 0 <= signed.size < 2**53 or len(signed.root) != 32:
        raise Wrong(f"{where}: not a signed checkpoint")
    return signed


def _base64(text: str) -> bytes:
    value = base64.b64decode(text, validate=True)
    if base64.b64encode(value).decode() != text:
        raise ValueError(text)
    return value


def _trusted(source: bytes | Source, head: Signed) -> tuple[Signed, list[bytes]]:
    # A checkpoint; or an export, of which every entry is compared, so that the first that differs can be named.
    signed = _note(source if isinstance(source, bytes) else _file(source, "checkpoint"), "a trusted checkpoint")
    if signed.origin != head.origin:
        raise Wrong(f"a trusted checkpoint is of another log: {signed.origin[:100]!r}")
    if isinstance(source, bytes):
        return signed, []
    leaves = [_leaf(body) for bundle in range(-(-signed.size // WIDTH)) for body in _bundle(source, bundle, signed.size)]
    roots: dict[int, bytes] = {}
    _grow(leaves, {signed.size}, roots, [])
    if roots[signed.size] != signed.root:
        raise Wrong("the entries of a trusted export are not those of its checkpoint")
    return signed, leaves


def _entries(read: Source, size: int, wanted: set[int], report: Report, older: Sequence[Sequence[bytes]]) -> dict[int, bytes]:
    # One pass over all entries; returns the roots of the trees of the wanted sizes.
    known: dict[tuple[object, ...], int] = {}
    roots: dict[int, bytes] = {}
    upper: list[list[bytes]] = []

    def checked() -> Iterator[bytes]:
        previous = ZEROS
        for bundle in range(-(-size // WIDTH)):
            path = _path("0", bundle, min(size - bundle * WIDTH, WIDTH))
            tile = read(path)
            for place, body in enumerate(_bundle(read, bundle, size)):
                index, leaf = bundle * WIDTH + place, _leaf(body)
                if any(index < len(each) and each[index] != leaf for each in older):
                    raise Wrong("it is not the entry that a trusted export has", index)
                if tile is None or tile[32 * place : 32 * place + 32] != leaf:
                    raise Wrong(f"its hash is not the one in {path}", index)
                _check_entry(index, body, previous, known, report)
                previous = leaf.hex()
                yield leaf
            if tile is None or len(tile) != 32 * min(size - bundle * WIDTH, WIDTH):
                raise Wrong(f"{path} holds more hashes than there are entries", min(size, (bundle + 1) * WIDTH))

    _grow(checked(), wanted, roots, upper)
    if any(len(each) > size for each in older):
        raise Wrong("the log ends before it, and a trusted export has it", size)
    for level, hashes in enumerate(upper, start=1):
        for number in range(-(-len(hashes) // WIDTH)):
            expected = hashes[number * WIDTH : (number + 1) * WIDTH]
            path = _path(str(level), number, len(expected))
            if read(path) != b"".join(expected):
                raise Wrong(f"{path} is not the tile of these entries", number * WIDTH ** (level + 1), size)
    return roots


def _grow(leaves: Iterator[bytes] | Sequence[bytes], wanted: set[int], roots: dict[int, bytes], upper: list[list[bytes]]) -> None:
    # The tree grows from the left; the stack holds the complete subtrees that are not part of a larger complete one.
    stack: list[tuple[int, bytes]] = []
    if 0 in wanted:
        roots[0] = hashlib.sha256(b"").digest()
    for size, leaf in enumerate(leaves, start=1):
        level, value = 0, leaf
        while stack and stack[-1][0] == level:
            value = hashlib.sha256(b"\x01" + stack.pop()[1] + value).digest()
            level += 1
            if level % 8 == 0:
                if len(upper) < level // 8:
                    upper.append([])
                upper[level // 8 - 1].append(value)
        stack.append((level, value))
        if size in wanted:
            value = stack[-1][1]
            for _, left in reversed(stack[:-1]):
                value = hashlib.sha256(b"\x01" + left + value).digest()
            roots[size] = value


def _check_entry(index: int, body: bytes, previous: str, known: dict[tuple[object, ...], int], report: Report) -> None:
    # What is known of jobs, budgets and enquiries so far grows with every entry, and so does the report.
    try:
        entry = _DECODER.decode(body.decode())
        is_canonical = _ENCODER.encode(entry).encode() == body
        facts, kind, time = entry["facts"], str(entry["kind"]), _time(entry["time"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Wrong("it is not an entry of an audit log", index) from error
    is_entry = set(entry) == NAMES and entry["format"] == FORMAT and isinstance(facts, dict)
    if not is_canonical or not is_entry or len(body) > MAX_ENTRY_BYTES:
        raise Wrong("it is not an entry of an audit log in its canonical form", index)
    if kind not in KINDS:
        raise Wrong(f"its kind {kind[:50]!r} is unknown; a newer verifier may know it", index)
    if type(entry["index"]) is not int or entry["index"] != index:
        # Where the entry before this one was put in, this one still says the number that it had.
        first = max(index - 1, 0) if entry["index"] == index - 1 else index
        raise Wrong("the entries are not numbered on: one was taken out, put in or moved", first, index + 1)
    if entry["previous"] != previous:
        what = "the entry before it is not the one that it was written after: one of the two was changed"
        raise Wrong(what, max(index - 1, 0), index + 1)
    if index and (back := report.last_time - time).total_seconds() > MAX_BACKWARDS_S:
        if kind != "started":
            raise Wrong(f"its time lies {back} before that of the entry before it", index)
        report.notes.append(f"before entry {index} the clock of the party was set back by {back}")
    report.first_time, report.last_time = report.first_time if index else time, time
    job, account = facts.get("job"), str(facts.get("account"))
    if kind in OF_A_JOB and not isinstance(job, str):
        raise Wrong(f"{kind}, but it does not say of which job", index)
    if kind == "countersigned" and ("job-received", job) not in known:
        raise Wrong(f"job {job} was countersigned, but never received", index)
    if kind in ("debited", "refunded") and ("reserved", job, account) not in known:
        raise Wrong(f"a budget was {kind} for job {job} without a reservation", index)
    if kind == "output-released" and not {("countersigned", job), ("completed", job)} <= known.keys():
        raise Wrong(f"an output of job {job} was released although the job was not countersigned and completed", index)
    if kind in ("job-received", "countersigned"):
        known[kind, job] = 1
    elif kind == "reserved":
        known[kind, job, account] = 1
    elif kind == "session-ended" and facts.get("state") == "completed":
        known["completed", job] = 1
    elif kind in OF_AN_ENQUIRY:
        _check_enquiry(index, kind, facts, known)


def _check_enquiry(index: int, kind: str, facts: Mapping[str, object], known: dict[tuple[object, ...], int]) -> None:
    # Of every enquiry that was accepted what is left of it, -1 once it has ended; and the requests that were answered.
    enquiry, answers, request = facts.get("enquiry"), facts.get("answers"), str(facts.get("request"))
    if not isinstance(enquiry, str) or type(answers) is not int or answers < 0:
        raise Wrong(f"{kind}, but it does not say of which enquiry, or how many answers", index)
    left = known.get(("enquiry", enquiry))
    if kind == "enquiry-accepted" and left is not None:
        raise Wrong(f"the enquiry {enquiry} was accepted twice", index)
    if kind != "enquiry-accepted" and (left is None or left < 0):
        raise Wrong(f"{kind}, but the enquiry {enquiry} {'was never accepted' if left is None else 'had ended'}", index)
    if kind == "answered":
        if answers > (left or 0) or ("answered", enquiry, request) in known:
            raise Wrong(f"the enquiry {enquiry} was answered more than it was accepted for, or a request of it twice", index)
        known["answered", enquiry, request] = 1
    known["enquiry", enquiry] = {"answered": (left or 0) - answers, "enquiry-ended": -1}.get(kind, answers)


def _check_history(checkpoints: Sequence[Signed], roots: Mapping[int, bytes], party: str, key: str) -> None:
    # The last one is the checkpoint itself. An unsigned piece of paper is no evidence, so the signature comes first.
    head = checkpoints[-1]
    for each in sorted(checkpoints, key=lambda signed: signed.size):
        what = f"the checkpoint of {each.size} entries"
        _check_signed(each, party, key, what)
        if each.size > head.size:
            raise Wrong(f"{what} was signed, but here are {head.size}", *_narrowed(head.size + 1, checkpoints[:-1], roots))
        if roots[each.size] != each.root:
            raise Wrong(f"the entries are not those of {what}", *_narrowed(each.size, checkpoints, roots))


def _narrowed(size: int, checkpoints: Sequence[Signed], roots: Mapping[int, bytes]) -> tuple[int, int]:
    # The first wrong entry lies between the largest checkpoint that the entries agree with and the first that they do not.
    return max((each.size for each in checkpoints if each.size < size and roots[each.size] == each.root), default=0), size


def _check_signed(signed: Signed, party: str, key: str, what: str) -> None:
    value = _line_of(signed, party, key, b"\x01")
    if signed.origin != party or value is None or not _is_signed(key, value, signed.text.encode()):
        raise Wrong(f"{what} is not signed by {party}")


def _check_witnesses(checkpoints: Sequence[Signed], party: str, keys: Mapping[str, str], needed: int, report: Report) -> None:
    # The largest checkpoint with enough cosignatures counts; a cosignature that does not verify is never passed over.
    best: tuple[int, dict[str, str]] = (0, {})
    strange = 0
    for signed in checkpoints:
        found: dict[str, str] = {}
        for witness, key in keys.items():
            value = _line_of(signed, witness, key, b"\x04") if witness != party else None
            if value is None:
                continue
            seconds = int.from_bytes(value[:8], "big")
            message = f"cosignature/v1\ntime {seconds}\n{signed.text}".encode()
            if seconds >= 2**35 or not _is_signed(key, value[8:], message):
                raise Wrong(f"the cosignature of {witness} under the checkpoint of {signed.size} entries does not verify")
            found[witness] = datetime.fromtimestamp(seconds, UTC).strftime(TIME_FORMAT)
        strange += len(signed.lines) - len(found) - 1  # the party's own has been checked
        if len(found) >= max(needed, 1) and signed.size >= best[0]:
            best = signed.size, found
    report.witnessed_size, report.witnesses = best
    if strange:  # of a witness that has left or has a new key; or a cosignature that somebody spoilt
        report.notes.append(f"{strange} signature line(s) under checkpoints are by no key of the directory and count nothing")
    if needed > len(best[1]):
        raise Wrong(f"no checkpoint is cosigned by {needed} of the {len(keys) - 1} other parties")


def _line_of(signed: Signed, name: str, key: str, kind: bytes) -> bytes | None:
    key_id = hashlib.sha256(name.encode() + b"\n" + kind + bytes.fromhex(key)).digest()[:4]
    for line_name, value in signed.lines:
        if line_name == name and value[:4] == key_id:
            return value[4:]
    return None


def _is_signed(key: str, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _bundle(read: Source, number: int, size: int) -> Iterator[bytes]:
    start, count = number * WIDTH, min(size - number * WIDTH, WIDTH)
    path = _path("entries", number, count)
    bodies, rest = _pieces(read(path) or b"")
    yield from bodies[:count]
    if len(bodies) < count:
        raise Wrong(f"it is missing from {path}, or cut off", start + len(bodies))
    if len(bodies) > count or rest:
        raise Wrong(f"{path} goes on after its last entry", start + count)


def _pieces(data: bytes) -> tuple[list[bytes], bytes]:
    # Pieces after their lengths; and what is left when the next one is not there as a whole.
    found, place = [], 0
    while 0 < (length := int.from_bytes(data[place : place + 2], "big")) <= len(data) - place - 2:
        found.append(data[place + 2 : place + 2 + length])
        place += 2 + length
    return found, data[place:]


def _file(read: Source, path: str) -> bytes:
    data = read(path)
    if data is None:
        raise Wrong(f"{path} is missing or too large")
    return data


def _path(level: str, number: int, width: int) -> str:
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.insert(0, f"x{number % 1000:03d}")
    return f"tile/{level}/{'/'.join(groups)}" + (f".p/{width}" if width < WIDTH else "")


def _leaf(body: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + body).digest()


def _time(text: str) -> datetime:
    if not _TIME.fullmatch(text):
        raise ValueError(text)
    return datetime.fromisoformat(text)


def folder(path: Path) -> Source:
    """Returns a reader of the files of an export in a folder."""

    def read(name: str) -> bytes | None:
        try:
            with (path / name).open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError:
            return None
        return data if len(data) <= MAX_FILE_BYTES else None

    return read


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; the console script `confide-audit`."""
    parser = argparse.ArgumentParser(prog="confide-audit", description="Verify an exported audit log, offline.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("verify", help="verify an export", description="Verify an exported audit log, offline.")
    verb.add_argument("folder", metavar="DIR", type=Path, help="the export")
    verb.add_argument(
        "--founder-fingerprint", metavar="F", help="what the founder read out; else compare the one that is printed"
    )
    verb.add_argument("--witnesses", metavar="N", type=int, help="how many other parties must have cosigned; else all of them")
    verb.add_argument(
        "--trusted",
        metavar="OLD",
        type=Path,
        action="append",
        default=[],
        help="an older checkpoint or export that you kept; repeatable",
    )
    verb.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args(arguments)
    fingerprint = asked.founder_fingerprint and re.sub("[ :-]", "", asked.founder_fingerprint).lower()
    if fingerprint is not None and not _HEX_KEY.fullmatch(fingerprint):
        parser.error("a fingerprint has 64 hexadecimal digits; give all")
    if not asked.folder.is_dir():
        parser.error(f"{asked.folder} is no folder")
    try:
        trusted = [folder(path) if path.is_dir() else path.read_bytes() for path in asked.trusted]
    except OSError as error:
        parser.error(str(error))
    try:
        report = verify(folder(asked.folder), founder_fingerprint=fingerprint, witnesses=asked.witnesses, trusted=trusted)
    except Wrong as wrong:
        if asked.json:
            print(json.dumps({"status": "wrong", "what": wrong.what, "entry": wrong.entry, "before": wrong.before}))
        else:
            print(_shown(f"WRONG: {wrong}"))
        return WRONG
    print(
        json.dumps({"status": "ok", **vars(report)}, default=lambda time: time.strftime(TIME_FORMAT))
        if asked.json
        else "\n".join(map(_shown, _in_words(report, fingerprint is None)))
    )
    return OK


def _shown(text: str) -> str:
    # What the party wrote must not steer the auditor's terminal, for example to show another verdict or fingerprint.
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text)


def _in_words(report: Report, compare: bool) -> list[str]:
    by = ", ".join(f"{witness} at {time}" for witness, time in report.witnesses.items()) or "nobody"
    times = f"from {report.first_time:{TIME_FORMAT}} to {report.last_time:{TIME_FORMAT}}" if report.size else "no entries"
    lines = [
        f"VERIFIED: {report.origin}, {report.size} entries {times}, root {report.root}",
        f"  the first {report.witnessed_size} are cosigned by {by}; {report.size - report.witnessed_size} came after that",
        f"  it extends {report.older_checkpoints} older checkpoints of its own and {report.trusted} that you trust",
        *(f"  note: {note}" for note in report.notes),
    ]
    if compare:
        lines.append(f"  compare with the founder: the directory is signed under fingerprint {report.founder_fingerprint}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
