"""Verifies an exported audit log: for an auditor with no secrets, no network and no trust in the party that exported it.

    confide-audit verify DIR [--founder-fingerprint F] [--witnesses N] [--trusted OLD]... [--json]

One file; needs Python and the package `cryptography`, and shares no code with Confide, so each checks the other. It checks:

1. the directory, signed by the founder: which parties there are and which keys they have; it is no older than what the log took
   over last, for an older one may name fewer witnesses;
2. every entry against its tile of the Merkle tree, its place, the entry that it names before it, and its time;
3. what entries say together: nothing is debited without a reservation, countersigned without having been received, released
   without having been countersigned, completed and debited, or answered beyond what an enquiry was accepted for; and where every
   account of a budget stands: worked out again from all charges, it is what the entries say, never above the caps of its time,
   and whatever was refused would have been;
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
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WIDTH = 256
MAX_ENTRY_BYTES = 16 * 1024
MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_BACKWARDS_S = 300  # clocks are corrected; a larger step is only possible where the party process began anew
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
ZEROS = "0" * 64
FORMAT = "confide.log-entry/2"
NAMES = {"facts", "format", "index", "kind", "previous", "time"}
KINDS = frozenset(
    re.findall(
        "[a-z-]+",
        "started configuration policy directory dataset-registered agreement-signed agreement-in-force agreement-revoked "
        "grant-issued grant-revoked authorisation job-received job-refused approval countersigned session-ended reserved "
        "debited refunded budget-refused model-kept model-marked model-deleted output-committed output-released output-withheld "
        "query alias "
        "model-published model-withdrawn enquiry-accepted enquiry-refused enquiry-ended answered "
        "pseudonym-project pseudonyms-evaluated sets-intersected fork-seen "
        "noise-tested canaries-scored risk-assessed standing-assessment evidence-signed release-decided",
    )
)
OF_A_JOB = frozenset({"job-received", "countersigned", "session-ended", "output-released"})
OF_A_BUDGET = frozenset({"reserved", "debited", "refunded", "budget-refused"})
OF_AN_ENQUIRY = frozenset({"enquiry-accepted", "enquiry-ended", "answered"})
METERED = frozenset({"serve", "enquiry"})  # of what was reserved, as much is spent as was answered; of other jobs, all
OK, WRONG = 0, 7  # and 2, by argparse
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_SIGNATURE_LINE = re.compile("\N{EM DASH} ([^\\s+]{1,256}) ([A-Za-z0-9+/]{4,1024}={0,2})")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)
_HEX_KEY = re.compile(r"[0-9a-f]{64}")
_ORIGIN = re.compile(r"confide(/[a-z0-9][a-z0-9-]{0,62}){2}")


def _refuse(_text: str) -> float:
    raise ValueError("no floats")


_DECODER = json.JSONDecoder(parse_float=_refuse, parse_constant=_refuse)
Source = Callable[[str], bytes | None]
Caps = tuple[Decimal | None, Decimal | None, int, int, frozenset[str]]  # epsilon, delta, queries, answers, permitted kinds
_EXACT = Context(prec=80, rounding=ROUND_CEILING)
# Of an epsilon, for each unit and power of ten of delta: parties round up what composes, and never down. Whoever asks decides how
# many units there are, so what a party may say too little of each is no more than the error of the arithmetic here.
_ROUNDING, _ERROR = Decimal("0.001"), Decimal("0.00001")
_DECIMAL = re.compile(r"[0-9]{1,60}(\.[0-9]{1,40})?", re.ASCII)
_SUBJECT = re.compile(
    r"(?P<account>\S+) queries (?P<queries>[0-9]{1,12}) answers (?P<answers>[0-9]{1,12}) "
    r"epsilon (?P<epsilon>none|[0-9]+(\.[0-9]+)?) delta (?P<delta>none|[0-9]+(\.[0-9]+)?)( permit (?P<permits>[a-z,-]+))?",
    re.ASCII,
)


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
    latest_time: datetime = datetime.min
    directory_version: int = 0
    parties: int = 0
    witnessed_size: int = 0
    witnesses: Mapping[str, str] = field(default_factory=dict)
    accounts: Mapping[str, Mapping[str, str | int | Sequence[str]]] = field(default_factory=dict)
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
    founder, version, keys = _directory(_file(read, "directory.json"))
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
    report = Report(head.origin, founder, head.size, head.root.hex(), directory_version=version, parties=len(keys))
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


def _directory(data: bytes) -> tuple[str, int, dict[str, str]]:
    # The founder's fingerprint, the version, and for each party the origin of its log and its key.
    try:
        envelope = _DECODER.decode(data.decode())
        body, signer, kind = envelope["body"].encode(), envelope["signer"], envelope["kind"]
        document = _DECODER.decode(envelope["body"])
        founder, consortium, version = str(document["founder_key"]), str(document["consortium"]), _whole(document["version"])
        listed = [(f"confide/{consortium}/{entry['id']}", str(entry["signing_key"])) for entry in document["parties"]]
        keys = dict(listed)
        message = b"\0".join((b"confide signature 1", kind.encode(), signer.encode(), body))
        signature = bytes.fromhex(envelope["signature"])
        # Written back, it is the same: nothing in the file is left unread.
        again = {"body": envelope["body"], "format": "confide.signed/1", "kind": "directory", "signature": signature.hex()}
        is_whole = _ENCODER.encode(again | {"signer": "founder"}).encode() == data
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Wrong("directory.json is not a signed directory") from error
    are_keys = all(_HEX_KEY.fullmatch(key) for key in (founder, *keys.values())) and all(map(_ORIGIN.fullmatch, keys))
    # Two parties under one key would be one witness that counts for two.
    if not is_whole or not are_keys or len(set(keys.values())) < len(listed) or len(keys) < len(listed):
        raise Wrong("directory.json is not a signed directory")
    if not _is_signed(founder, signature, message):
        raise Wrong("the signature of the directory does not verify")
    return hashlib.sha256(b"confide key fingerprint 1\0" + bytes.fromhex(founder)).hexdigest(), version, keys


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
    budgets = Budgets()
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
                _check_entry(index, body, previous, known, budgets, report)
                previous = leaf.hex()
                yield leaf
            if tile is None or len(tile) != 32 * min(size - bundle * WIDTH, WIDTH):
                raise Wrong(f"{path} holds more hashes than there are entries", min(size, (bundle + 1) * WIDTH))

    _grow(checked(), wanted, roots, upper)
    report.accounts = budgets.shown()
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


def _check_entry(
    index: int, body: bytes, previous: str, known: dict[tuple[object, ...], int], budgets: Budgets, report: Report
) -> None:
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
    # Against the latest time so far, and not that of the entry before: by many small steps a clock would go back as far.
    if index and (back := report.latest_time - time).total_seconds() > MAX_BACKWARDS_S:
        if kind != "started":
            raise Wrong(f"its time lies {back} before that of an entry before it", index)
        report.notes.append(f"before entry {index} the clock of the party was set back by {back}")
        report.latest_time = time
    report.first_time, report.last_time = report.first_time if index else time, time
    report.latest_time = max(report.latest_time, time) if index else time
    if kind == "directory" and type(taken := facts.get("version")) is int and taken > report.directory_version:
        what = f"it took over version {taken} of the directory, and directory.json is version {report.directory_version}"
        raise Wrong(what, index)
    job = facts.get("job")
    if kind in OF_A_JOB | OF_A_BUDGET and not isinstance(job, str):
        raise Wrong(f"{kind}, but it does not say of which job", index)
    if kind == "countersigned" and ("job-received", job) not in known:
        raise Wrong(f"job {job} was countersigned, but never received", index)
    if kind == "output-released" and not {("countersigned", job), ("completed", job)} <= known.keys():
        raise Wrong(f"an output of job {job} was released although the job was not countersigned and completed", index)
    if kind == "output-released" and budgets.unpaid[str(job)]:
        raise Wrong(f"an output of job {job} was released although a budget that was reserved for it was not debited", index)
    is_of_another = kind in ("countersigned", "model-kept") and budgets.types.get(str(job)) != "serve"
    if str(job) in budgets.metered and (kind == "output-released" or is_of_another):
        raise Wrong(f"{kind} of job {job}, which was charged by what it answers, as a serving", index)
    if kind == "output-released" and known.setdefault((kind, job, str(facts.get("output"))), index) != index:
        raise Wrong(f"an output of job {job} was released twice", index)
    if kind in ("job-received", "countersigned"):
        budgets.types.setdefault(str(job), facts.get("job_type"))
        known[kind, job] = 1
    elif kind in OF_A_BUDGET:
        budgets.check(index, kind, facts)
    elif kind == "authorisation" and facts.get("action") == "set-budget":
        budgets.set_caps(index, facts)
    elif kind == "session-ended" and facts.get("state") == "completed":
        known["completed", job] = 1
    elif kind in OF_AN_ENQUIRY:
        _check_enquiry(index, kind, facts, known)


@dataclass(frozen=True)
class Charge:
    """What a job takes of an account.

    Attributes:
        kind: of the job.
        epsilon: None if something is opened without noise.
        delta: spent.
        queries: likewise.
        answers: likewise.
        unit: of privacy; None if it only adds up.
        bound: mu squared, and the probabilities of telling everything and of being something else (docs/budgets.md).
        at: the delta at which it composes, also of what remains when a part is given back.
    """

    kind: str
    epsilon: Decimal | None
    delta: Decimal
    queries: int
    answers: int
    unit: str | None
    bound: tuple[Decimal, Decimal, Decimal]
    at: Decimal

    def less(self, part: Charge) -> Charge:
        """Returns what remains without a part."""
        epsilon = None if self.epsilon is None or part.epsilon is None else self.epsilon - part.epsilon
        bound = (self.bound[0] - part.bound[0], self.bound[1] - part.bound[1], self.bound[2] - part.bound[2])
        rest = (self.delta - part.delta, self.queries - part.queries, self.answers - part.answers)
        return Charge(self.kind, epsilon, *rest, self.unit, bound, self.at)

    @property
    def numbers(self) -> tuple[Decimal | None, Decimal, int, int]:
        """What it takes."""
        return self.epsilon, self.delta, self.queries, self.answers


_NOTHING = Charge("", Decimal(0), Decimal(0), 0, 0, None, (Decimal(0), Decimal(0), Decimal(0)), Decimal(0))


@dataclass
class Level:
    """Charges of one unit whose deltas have one power of ten: what they add up to, and how many have which delta."""

    sums: list[Decimal]  # epsilon, delta, and the three numbers of the bound
    deltas: Counter[Decimal] = field(default_factory=Counter)


@dataclass
class Account:
    """Where an account stands: the charges, and sums over them that are kept with every charge."""

    charges: dict[str, Charge] = field(default_factory=dict)
    debited: dict[str, Charge] = field(default_factory=dict)
    refunded: set[str] = field(default_factory=set)
    sums: list[Decimal] = field(default_factory=lambda: [Decimal(0)] * 4)  # epsilon with a bound, delta, queries, answers
    unbounded: Counter[str] = field(default_factory=Counter)
    units: dict[str, dict[int, Level]] = field(default_factory=dict)
    epsilons: dict[str, Counter[Decimal]] = field(default_factory=dict)
    saved: dict[str, Decimal] = field(default_factory=dict)  # by unit, by how much it composes to less than it adds up to

    def put(self, charge: Charge, sign: int) -> None:
        """Adds a charge to the sums, or takes it out."""
        values = (charge.epsilon or Decimal(0), charge.delta, Decimal(charge.queries), Decimal(charge.answers))
        self.sums = [_EXACT.add(kept, sign * value) for kept, value in zip(self.sums, values, strict=True)]
        if charge.epsilon is None:
            self.unbounded[charge.kind] += sign
        elif charge.unit is not None:
            level = self.units.setdefault(charge.unit, {}).setdefault(charge.at.adjusted(), Level([Decimal(0)] * 5))
            parts = (charge.epsilon, charge.at, *charge.bound)
            level.sums = [_EXACT.add(kept, sign * part) for kept, part in zip(level.sums, parts, strict=True)]
            level.deltas[charge.at] += sign
            self.epsilons.setdefault(charge.unit, Counter())[charge.epsilon] += sign
            self.saved.pop(charge.unit, None)

    def _saved(self, unit: str) -> Decimal:
        powers = self.units[unit]
        levels = [powers[power] for power in sorted(powers, reverse=True) if +powers[power].deltas]
        if not levels:
            return Decimal(0)
        added = sum((level.sums[0] for level in levels), Decimal(0))
        return added - max(max(+self.epsilons[unit]), _least_of_all_cuts(levels))

    @property
    def epsilon(self) -> Decimal:
        """Of all charges that have a bound: by units composed where that is less than added up."""
        self.saved |= {unit: self._saved(unit) for unit in self.units if unit not in self.saved}
        return self.sums[0] - sum(self.saved.values(), Decimal(0))

    @property
    def figures(self) -> int:
        """How many figures a party rounds up."""
        return max(1, sum(bool(+level.deltas) for powers in self.units.values() for level in powers.values()))

    @property
    def kinds(self) -> list[str]:
        """Of the jobs that have opened something without noise."""
        return sorted(+self.unbounded)

    def over(self, caps: Caps, slack: Decimal) -> set[str]:
        """In which ways it is above its caps, that of epsilon with so much more."""
        epsilon, delta, queries, answers, permits = caps
        found = {
            "epsilon": epsilon is not None and (bool(set(self.kinds) - permits) or self.epsilon > epsilon + slack),
            "delta": delta is not None and self.sums[1] > delta,
            "queries": self.sums[2] > queries,
            "answers": self.sums[3] > answers,
        }
        return {measure for measure, is_over in found.items() if is_over}


def _least_of_all_cuts(levels: Sequence[Level]) -> Decimal:
    # Levels in falling powers are cut into runs; each run composes at the least of its deltas, or adds up.
    best = [Decimal(0)]
    for end in range(1, len(levels) + 1):
        best.append(min(best[start] + _run(levels[start:end]) for start in range(end)))
    return best[-1]


def _run(levels: Sequence[Level]) -> Decimal:
    sums = [sum(parts, Decimal(0)) for parts in zip(*(level.sums for level in levels), strict=True)]
    epsilon, _, squared, excess, distance = sums
    delta = min(min(+level.deltas) for level in levels)
    composed = _composed(math.sqrt(squared), float(excess), float(distance), float(delta))
    return epsilon if composed is None else min(epsilon, Decimal(composed))


def _composed(mu: float, excess: float, distance: float, delta: float) -> float | None:
    # The least epsilon at delta of a normal mechanism that moves by mu deviations, which tells everything with probability
    # `excess` and is off by `distance`; what that takes of delta grows with epsilon, so it is looked for again.
    epsilon = -1.0
    while True:
        left = delta - excess - (1 + math.exp(max(epsilon, 0.0))) * distance
        if left <= 1e-10 or _tail(mu, 100.0) > left:
            return None
        low, high = 0.0, 100.0
        while high - low > 1e-7:
            middle = (low + high) / 2
            low, high = (low, middle) if _tail(mu, middle) <= left else (middle, high)
        if high <= epsilon + 1e-6:
            return epsilon
        epsilon = high


def _tail(mu: float, epsilon: float) -> float:
    # delta(epsilon) of the normal mechanism: Balle and Wang 2018, theorem 8.
    if mu <= 0:
        return 0.0
    first, second = epsilon / mu - mu / 2, epsilon / mu + mu / 2
    return (math.erfc(first / math.sqrt(2)) - math.exp(epsilon) * math.erfc(second / math.sqrt(2))) / 2


class Budgets:
    """All accounts, worked out from what the entries say was charged; see step 3 of the module."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.unpaid: Counter[str] = Counter()  # by job: accounts on which it reserved, and debited nothing
        self.metered: set[str] = set()
        self.types: dict[str, object] = {}  # by job: as what it was received
        self._set: dict[str, Caps] = {}

    def set_caps(self, index: int, facts: Mapping[str, object]) -> None:
        """Notes the caps that an officer has set: from here on they are those of the account."""
        found = _SUBJECT.fullmatch(str(facts.get("subject")))
        if found is None:
            raise Wrong("caps of a budget were set, but it does not say which", index)
        epsilon, delta = (None if found[name] == "none" else Decimal(found[name]) for name in ("epsilon", "delta"))
        permits = frozenset(filter(None, (found["permits"] or "").split(",")))
        self._set[found["account"]] = epsilon, delta, int(found["queries"]), int(found["answers"]), permits

    def check(self, index: int, kind: str, facts: Mapping[str, object]) -> None:
        """Checks an entry about a budget, and takes its charge in."""
        name, job = facts.get("account"), str(facts["job"])
        try:
            charge = _charge(facts)
            caps = _caps(facts) if kind in ("reserved", "budget-refused") else None
        except (KeyError, TypeError, ValueError, InvalidOperation) as error:
            raise Wrong(f"{kind}, but it does not say what of which account", index) from error
        if not isinstance(name, str):
            raise Wrong(f"{kind}, but it does not say of which account", index)
        if charge.kind != (self.types.get(job) or charge.kind):
            raise Wrong(f"job {job} was charged as {charge.kind[:50]!r}, and received as {str(self.types[job])[:50]!r}", index)
        account = self.accounts.setdefault(name, Account())
        if caps is None:
            _settle(index, kind, account, job, charge)
            self.unpaid[job] -= kind == "debited"
            return
        if caps != self._set.get(name, caps):
            raise Wrong(f"{name} was held to other caps than an officer had set for it", index)
        if kind == "reserved":
            if job in account.charges:
                raise Wrong(f"a budget was reserved twice for job {job}", index)
            account.charges[job] = charge
            self.metered |= {job} if charge.kind in METERED else set()
            self.unpaid[job] += 1
            account.put(charge, 1)
            stands = _compare(index, name, account, facts)
            if account.over(caps, _ERROR * account.figures) or (caps[0] is not None and stands > caps[0]):
                raise Wrong(f"with job {job} the account {name} stands above its caps", index)
            return
        held = account.charges.get(job, _NOTHING)
        account.put(held, -1)
        _compare(index, name, account, facts)
        account.put(charge, 1)
        over, said = account.over(caps, -_ROUNDING * account.figures), facts.get("over")
        account.put(charge, -1)
        account.put(held, 1)
        if not isinstance(said, list) or not said or not all(isinstance(measure, str) and measure in over for measure in said):
            raise Wrong(f"job {job} was refused for a budget, {name}, that would have sufficed", index)

    def shown(self) -> Mapping[str, Mapping[str, str | int | Sequence[str]]]:
        """Returns where every account stands; decimals are texts."""
        return {
            name: {
                "epsilon": f"{account.epsilon:.4f}",
                "delta": f"{account.sums[1]:f}",
                "queries": int(account.sums[2]),
                "answers": int(account.sums[3]),
                "without_noise": account.kinds,
            }
            for name, account in sorted(self.accounts.items())
        }


def _settle(index: int, kind: str, account: Account, job: str, charge: Charge) -> None:
    held = account.charges.get(job)
    if held is None:
        raise Wrong(f"a budget was {kind} for job {job} without a reservation", index)
    # What was debited stays so: neither it nor what was given back is there to be debited or given back again.
    left = held.less(account.debited[job]) if job in account.debited else held
    within = charge.queries <= left.queries and charge.answers <= left.answers and charge.delta <= left.delta
    within &= (charge.epsilon or 0) <= (left.epsilon or 0) and all(map(Decimal.__le__, charge.bound, left.bound))
    if not within or (held.epsilon is None) != (charge.epsilon is None) or (kind == "debited" and job in account.debited):
        raise Wrong(f"more was {kind} for job {job} than was reserved", index)
    if kind == "debited":
        if job in account.refunded or (held.kind not in METERED and charge != held):
            raise Wrong(f"less was debited for job {job} than was reserved", index)
        account.debited[job] = charge
    else:
        account.refunded.add(job)
        account.put(held, -1)
        account.charges[job] = _NOTHING if held.numbers == charge.numbers else held.less(charge)
        account.put(account.charges[job], 1)


def _compare(index: int, name: str, account: Account, facts: Mapping[str, object]) -> Decimal:
    # What an entry says of where the account stands against what the entries before it add up to; returns its epsilon.
    try:
        epsilon, added, delta = (_decimal(facts[f"stands_{name}"]) for name in ("epsilon", "added", "delta"))
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise Wrong(f"it does not say where the account {name} stands", index) from error
    said = [added, delta, facts.get("stands_queries"), facts.get("stands_answers"), facts.get("stands_unbounded")]
    too_much = epsilon - account.epsilon
    if said != [*account.sums, account.kinds] or not -_ERROR * account.figures <= too_much <= _ROUNDING * account.figures:
        what = f"epsilon {account.epsilon:.4f}, delta {account.sums[1]:f}, {account.sums[2]} queries, {account.sums[3]} answers"
        raise Wrong(f"the account {name} does not stand where it says, but at {what}", index)
    return epsilon


def _charge(facts: Mapping[str, object]) -> Charge:
    epsilon = None if facts["epsilon"] is None else _decimal(facts["epsilon"])
    unit, delta = facts["unit"], _decimal(facts["delta"])
    if not isinstance(facts["kind"], str) or not (unit is None or isinstance(unit, str)):
        raise TypeError("kind and unit are texts")
    counts = _whole(facts["queries"]), _whole(facts["answers"])
    if unit is None:
        return Charge(facts["kind"], epsilon, delta, *counts, None, _NOTHING.bound, delta)
    bound = _decimal(facts["squared"]), _decimal(facts["excess"]), _decimal(facts["distance"])
    return Charge(facts["kind"], epsilon, delta, *counts, unit, bound, delta)


def _caps(facts: Mapping[str, object]) -> Caps:
    epsilon, delta = (None if facts[name] is None else _decimal(facts[name]) for name in ("cap_epsilon", "cap_delta"))
    permits = facts["permits"]
    if not isinstance(permits, list):
        raise TypeError("permits are a list")
    return epsilon, delta, _whole(facts["cap_queries"]), _whole(facts["cap_answers"]), frozenset(permits)


def _decimal(value: object) -> Decimal:
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise TypeError("no decimal")
    return Decimal(value)


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("no count")
    return value


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
            if not (path / name).is_file():  # a pipe would keep the auditor waiting for ever
                return None
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
        f"  {len(report.accounts)} account(s) of budgets add up to what it says, and none was charged above its caps",
        f"  the directory is version {report.directory_version}, of {report.parties} parties",
        f"  it extends {report.older_checkpoints} older checkpoints of its own and {report.trusted} that you trust",
        *(f"  note: {note}" for note in report.notes),
    ]
    if compare:
        lines.append(f"  compare with the founder: the directory is signed under fingerprint {report.founder_fingerprint}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
