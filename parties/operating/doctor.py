"""Whether a party's set-up is sound, without serving: every check on its own, each with what to do."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from governance.admission import CLOCK_SKEW
from governance.identity.certificates import parse_certificate
from parties.config import PartyConfig
from parties.operating.clocks import ClockReading, read_clocks
from parties.operating.finding import Finding, Verdict, checked
from parties.operating.own import PeerAnswer, ask_peers, is_serving, load_own_member, local_endpoint, own_channel
from parties.own_evidence import Standing, own_standings
from parties.policy_file import load_policy
from parties.standing_assessments import standing_assessments
from parties.standing_releases import standing_releases
from parties.storage.assessments import RunState
from parties.storage.database import one_transaction, open_database
from parties.storage.files import exclusive_lock, read_secret
from parties.storage.sealed import Purpose
from parties.storage.state import Member
from protocols import PROTOCOL_VERSION
from protocols.errors import ConfideError, ErrorCode

MIN_CERTIFICATE = timedelta(days=14)
MIN_FREE_BYTES, LOW_FREE_BYTES = 256 << 20, 2 << 30
MIN_MEMORY_MIB = 1024
TIMEOUT_S = 5.0
_WORKER_TIMEOUT_S = 120.0
# In a process of its own: a confined process stays confined, and CrypTen's state is global to a process.
_WORKER_CHECK = """
import protocols.mpc.tensor
print("crypten", flush=True)
from parties.worker.confinement import confine
confine()
print("confined", flush=True)
"""


def examine(config: PartyConfig, *, now: datetime) -> Iterator[Finding]:
    """Yields every finding, in the order in which a person would mend them; asks the peers last.

    Args:
        config: of the party.
        now: the time, UTC.
    """
    yield checked("secret files", lambda: _file_modes(config))
    yield checked("directory", lambda: _directory(config))
    yield checked("keys and certificate", lambda: _certificate(config, now))
    yield checked("database", lambda: _database(config))
    yield checked("releases", lambda: _releases(config, now))
    yield checked("published models", lambda: _own_models(config, now))
    yield checked("assessments", lambda: _assessments(config, now))
    yield checked("sealed files", lambda: _sealed(config))
    yield checked("disk", lambda: _disk(config))
    yield checked("memory", lambda: _memory(config))
    yield checked("port", lambda: _port(config, now))
    yield from _worker()
    try:
        member = load_own_member(config, now)
    except ConfideError:
        yield Finding("peers", Verdict.WARN, "not asked, since this party cannot show who it is", "Mend the findings above.")
        return
    answers = ask_peers(member, timeout_s=TIMEOUT_S)
    yield from (_peer(answer, member) for answer in answers)
    reachable = [answer.party for answer in answers if answer.failure is None]
    yield from (_clock(reading) for reading in read_clocks(member, reachable, timeout_s=TIMEOUT_S))


def _file_modes(config: PartyConfig) -> Finding:
    folder = config.folder
    files = (folder.member.signing_key_file, folder.member.tls_key_file, folder.storage_key_file)
    for file in files:
        read_secret(file)
    mode = stat.S_IMODE(config.state.stat().st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return Finding("secret files", Verdict.FAIL, f"others may write to {config.state}", f"chmod 0700 {config.state}")
    if config.state.stat().st_uid != os.geteuid():
        what = f"{config.state} belongs to another user than the one who runs this"
        return Finding("secret files", Verdict.WARN, what, "Run this as the user who serves the party.")
    return Finding("secret files", Verdict.PASS, f"{len(files)} keys, readable by their owner alone")


def _directory(config: PartyConfig) -> Finding:
    directory = config.folder.member.load_directory()
    what = f"version {directory.version} of {directory.consortium}, signed by the founder pinned here"
    return Finding("directory", Verdict.PASS, what)


def _certificate(config: PartyConfig, now: datetime) -> Finding:
    until = parse_certificate(load_own_member(config, now).certificate).not_after
    what = f"fit together and stand in the directory; valid for {(until - now).days} more days"
    if until - now < MIN_CERTIFICATE:
        return Finding("keys and certificate", Verdict.WARN, what, "Ask the founder to approve the same request again.")
    return Finding("keys and certificate", Verdict.PASS, what)


def _database(config: PartyConfig) -> Finding:
    if not config.folder.database_file.exists():
        return Finding("database", Verdict.PASS, "none yet; the first start makes it")
    open_database(config.folder.database_file).close()
    return Finding("database", Verdict.PASS, "of this version")


def _releases(config: PartyConfig, now: datetime) -> Finding:
    if not config.folder.database_file.exists():
        return Finding("releases", Verdict.PASS, "none yet")
    with one_transaction(config.folder.database_file) as tables:
        standing = standing_releases(tables, load_policy(config.policy))
    due = [each.in_words(now) for each in standing if each.is_due(now)]
    if due:
        remedy = "Have the owners assess it anew, then `confide model evidence make`."
        return Finding("releases", Verdict.WARN, "; ".join(due), remedy)
    return Finding("releases", Verdict.PASS, f"{len(standing)} stand(s); no assessment is nearly too old")


def _own_models(config: PartyConfig, now: datetime) -> Finding:
    if not config.folder.database_file.exists():
        return Finding("published models", Verdict.PASS, "none yet")
    member = load_own_member(config, now)
    with one_transaction(config.folder.database_file) as tables:
        asked = Standing(config.party, load_policy(config.policy), member.directory)
        standing = own_standings(tables, asked, now=now)
    silent = [f"{ref.label} answers nothing: its evidence does not pass" for ref, each in standing.items() if not each.answers]
    due = [
        f"{ref.label} answers until {each.renewal.ends:%Y-%m-%d %H:%M} UTC: its evidence is too old then"
        for ref, each in standing.items()
        if each.answers and each.renewal is not None and each.renewal.due <= now
    ]
    if silent or due:
        remedy = "Attack them anew with `confide model evidence own --published`; `confide model evidence show` says why."
        return Finding("published models", Verdict.WARN, "; ".join([*silent, *due]), remedy)
    return Finding("published models", Verdict.PASS, f"{len(standing)} of this party's own; no evidence is nearly too old")


def _assessments(config: PartyConfig, now: datetime) -> Finding:
    if not config.folder.database_file.exists():
        return Finding("assessments", Verdict.PASS, "none is repeated yet")
    standing = [each for each in standing_assessments(config, now=now) if each.record.ended is None]
    said = [f"{each.record.order.ref.label}: {each.unknown}" for each in standing if each.unknown]
    stuck = [each for each in standing if each.runs and each.runs[-1].state in (RunState.REFUSED, RunState.FAILED)]
    said += [f"{each.record.order.ref.label}: {each.runs[-1].state.value}: {each.runs[-1].what}" for each in stuck]
    if said:
        what = "; ".join(said)
        return Finding("assessments", Verdict.WARN, what, "Mend what it says; it is tried again by itself after some hours.")
    return Finding("assessments", Verdict.PASS, f"{len(standing)} repeated by this party; none is stuck")


def _sealed(config: PartyConfig) -> Finding:
    sealed = config.folder.open_sealed()
    if not config.folder.database_file.exists():
        return Finding("sealed files", Verdict.PASS, "none yet; their key has the right form")
    database = open_database(config.folder.database_file)
    try:
        with database.transaction() as tables:
            known = [(Purpose.DATASET, record.object_id, record.sealed_name) for record in tables.datasets.latest()]
            known += [(Purpose.MODEL_SHARE, record.object_id, record.sealed_name) for record in tables.models.usable()]
    finally:
        database.close()
    missing = [object_id for _, object_id, name in known if not (config.folder.sealed_folder / name).is_file()]
    if missing:
        what = f"{len(missing)} of {len(known)} are missing: {', '.join(missing[:3])}"
        return Finding("sealed files", Verdict.FAIL, what, "Restore them and their key from the same backup.")
    if not known:
        return Finding("sealed files", Verdict.PASS, "none yet; their key has the right form")
    smallest = min(known, key=lambda entry: (config.folder.sealed_folder / entry[2]).stat().st_size)
    sealed.read(*smallest)
    return Finding("sealed files", Verdict.PASS, f"{len(known)} there; the smallest opens with this party's key")


def _disk(config: PartyConfig) -> Finding:
    free = shutil.disk_usage(config.state).free
    what = f"{free / 1e9:,.1f} GB free where {config.state} lies"
    if free < MIN_FREE_BYTES:
        return Finding("disk", Verdict.FAIL, what, "Free space: a party that cannot store refuses every job.")
    return Finding("disk", Verdict.WARN if free < LOW_FREE_BYTES else Verdict.PASS, what)


def _memory(config: PartyConfig) -> Finding:
    facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line)
    total, available = (int(facts[name].split()[0]) // 1024 for name in ("MemTotal", "MemAvailable"))
    what = f"{available:,} of {total:,} MiB available"
    if config.memory_mib is not None and config.memory_mib > total:
        return Finding("memory", Verdict.FAIL, f"{what}; memory_mib is {config.memory_mib:,}", "Lower memory_mib.")
    wanted = max(MIN_MEMORY_MIB, config.memory_mib or 0)
    if available < wanted:
        return Finding("memory", Verdict.WARN, f"{what}; sessions may use {wanted:,}", "Free memory, or lower memory_mib.")
    return Finding("memory", Verdict.PASS, what)


def _port(config: PartyConfig, now: datetime) -> Finding:
    try:
        with exclusive_lock(config.state / "lock", busy=""):
            pass
    except ConfideError as error:
        if error.code is not ErrorCode.STATE_LOCKED:
            raise
        with own_channel(config, load_own_member(config, now)) as channel:
            if is_serving(channel, timeout_s=TIMEOUT_S):
                return Finding("port", Verdict.PASS, f"served by this party at {config.listen}")
        what = f"a process holds {config.state} and does not serve at {config.listen}"
        return Finding("port", Verdict.FAIL, what, "Look at its log, or stop it.")
    host, _, port = local_endpoint(config).rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host.strip("[]"), int(port)))
        except OSError as error:
            what = f"{config.listen} cannot be bound: {error.strerror}"
            return Finding("port", Verdict.FAIL, what, "Stop what uses the port, or change `listen`.")
    return Finding("port", Verdict.PASS, f"{config.listen} is free; nobody serves this party now")


def _worker() -> Iterator[Finding]:
    command = [sys.executable, "-I", "-c", _WORKER_CHECK]
    try:
        done = subprocess.run(  # noqa: S603  (our own interpreter and text)
            command, capture_output=True, text=True, timeout=_WORKER_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL, cwd="/"
        )
    except subprocess.TimeoutExpired:
        yield Finding("CrypTen", Verdict.FAIL, f"did not start within {_WORKER_TIMEOUT_S:.0f} s", "Run this on a quiet machine.")
        return
    said = set(done.stdout.split())
    last = (done.stderr.strip().splitlines() or ["no message"])[-1][:300]
    if "crypten" not in said:
        yield Finding("CrypTen", Verdict.FAIL, f"does not start: {last}", "Run `make setup`.")
        return
    yield Finding("CrypTen", Verdict.PASS, "starts, and is sealed")
    if "confined" not in said:
        yield Finding("confinement of workers", Verdict.FAIL, last, "Allow seccomp filters (Linux, x86-64 or arm64).")
        return
    yield Finding("confinement of workers", Verdict.PASS, "possible: no sockets, no programs, no tracing")


def _peer(answer: PeerAnswer, member: Member) -> Finding:
    check = f"peer {answer.party}"
    if answer.failure is not None:
        what = f"{answer.endpoint}: {answer.failure.code.name}: {answer.failure.what}"
        return Finding(check, Verdict.WARN, what, "Find out why with `confide net diagnose`.")
    what = f"answers in {answer.round_trip_s * 1e3:.1f} ms, Confide {answer.software_version}"
    if answer.protocol_version != int(PROTOCOL_VERSION):
        what = f"speaks protocol {answer.protocol_version}, this party {PROTOCOL_VERSION}"
        return Finding(check, Verdict.FAIL, what, "Upgrade the older one.")
    if answer.directory_version != member.directory.version:
        what = f"holds version {answer.directory_version} of the directory, this party {member.directory.version}"
        return Finding(check, Verdict.WARN, what, "Import the newest directory everywhere.")
    return Finding(check, Verdict.PASS, what)


def _clock(reading: ClockReading) -> Finding:
    check = f"clock against {reading.party}"
    if reading.failure is not None:
        return Finding(check, Verdict.WARN, f"not read: {reading.failure.what}")
    what = f"{reading.offset_s:+.3f} s, within {reading.error_s:.3f} s"
    bound = CLOCK_SKEW.total_seconds()
    if abs(reading.offset_s) - reading.error_s > bound:
        return Finding(check, Verdict.FAIL, f"{what}; at most {bound:.0f} s is permitted", "Set both clocks by NTP.")
    if abs(reading.offset_s) - reading.error_s > bound / 10:
        return Finding(check, Verdict.WARN, what, "Set both clocks by NTP.")
    return Finding(check, Verdict.PASS, what)
