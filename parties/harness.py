"""A throw-away consortium on this machine: real processes, real certificates, real sockets on loopback, one folder.

    <folder>/harness.json              what was started
    <folder>/consortium/               the founder's folder
    <folder>/<party>/party.yaml ...    one folder a party, as an operator would have it; party.log, state/worker.log
    <folder>/<party>/people/<id>/      its people: operator, steward, officer, auditor
    <folder>/researcher/               a researcher's folder

Everything is made by the same functions as the commands of a real consortium; only the distance between the parties is not real.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from governance.identity.names import Role
from parties import consortium
from parties.config import PartyConfig, load_party_config, load_researcher_config
from parties.enrolment import init_party, init_researcher, join_party, join_researcher
from parties.harness_consent import AGREEMENT as AGREEMENT
from parties.harness_consent import AUDITOR as AUDITOR
from parties.harness_consent import OFFICER as OFFICER
from parties.harness_consent import OPERATOR as OPERATOR
from parties.harness_consent import PEOPLE as PEOPLE
from parties.harness_consent import PURPOSE as PURPOSE
from parties.harness_consent import STEWARD as STEWARD
from parties.harness_consent import Limits as Limits
from parties.harness_consent import agree, make_people
from parties.harness_consent import permit as permit
from parties.harness_consent import person_folder as person_folder
from parties.storage.files import make_folder, read_public, write_public
from protocols.canonical import MAX_DOCUMENT_BYTES
from protocols.errors import ConfideError, ErrorCode

CONSORTIUM = "harness"
RESEARCHER = "researcher"
MAX_PARTIES = 16
START_TIMEOUT_S = 40.0
STOP_TIMEOUT_S = 10.0
STATE_FILE = "harness.json"


@dataclass(frozen=True)
class RunningParty:
    """One party of a harness: its id, configuration file, endpoint and the id of its process."""

    party: str
    config_file: Path
    endpoint: str
    pid: int

    @property
    def config(self) -> PartyConfig:
        """Its configuration."""
        return load_party_config(self.config_file)

    @property
    def log_file(self) -> Path:
        """What its process printed."""
        return self.config_file.parent / "party.log"

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        try:
            status = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            command = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return False
        # A process that has just been started has no command line for a moment.
        return status != "Z" and (not command or str(self.config_file).encode() in command)


@dataclass(frozen=True)
class Harness:
    """A consortium that was started in a folder."""

    folder: Path
    parties: tuple[RunningParty, ...]

    @property
    def researcher_config(self) -> Path:
        """The researcher's configuration file."""
        return self.folder / RESEARCHER / "researcher.yaml"

    def party(self, party: str) -> RunningParty:
        """Returns one party.

        Raises:
            ConfideError: INVALID_ARGUMENT: none of that id.
        """
        for entry in self.parties:
            if entry.party == party:
                return entry
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"the harness has no party {party!r}")


def up(folder: Path, *, parties: Sequence[str]) -> Harness:
    """Founds a consortium with these parties and a researcher, and starts every party's process.

    Raises:
        ConfideError: INVALID_ARGUMENT: too few or many parties, or the folder is in use; SETUP_INCOMPLETE: a party did not
            start (the message says where its log is).
    """
    if not 3 <= len(parties) <= MAX_PARTIES:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"a harness has 3 to {MAX_PARTIES} parties: two compute, one deals")
    folder = folder.absolute()
    if folder.exists() and any(folder.iterdir()):
        raise ConfideError(
            ErrorCode.INVALID_ARGUMENT, f"{folder} is not empty", remedy="Take it down and remove it, or choose another folder."
        )
    make_folder(folder)
    make_consortium(folder, parties)
    started: list[RunningParty] = []
    try:
        for party in parties:
            started.append(start_party(folder / party / "party.yaml"))
            _save(Harness(folder, tuple(started)))
        for running in started:
            _await_health(running)
    except ConfideError:
        down(folder)
        raise
    return Harness(folder, tuple(started))


def make_consortium(folder: Path, parties: Sequence[str], *, institution: str | None = None) -> None:
    """Makes keys and people, enrols everybody, hands out the directory and has all sign one agreement; starts nothing.

    Args:
        folder: of the whole consortium.
        parties: ids.
        institution: the party that the researcher belongs to; None for none.
    """
    now = datetime.now(UTC)
    founder = folder / "consortium"
    fingerprint = consortium.init_consortium(founder, consortium=CONSORTIUM, now=now).founder_key.fingerprint
    enrolments = []
    for party, port in zip(parties, free_ports(len(parties)), strict=True):
        endpoint = f"127.0.0.1:{port}"
        enrolments.append(init_party(folder / party, party=party, endpoint=endpoint, listen=endpoint, roles=tuple(Role)))
    enrolments.append(init_researcher(folder / RESEARCHER, researcher=RESEARCHER, institution=institution))
    for enrolment in enrolments:
        data = read_public(enrolment.request_file, max_bytes=MAX_DOCUMENT_BYTES)
        consortium.approve(founder, data, fingerprint=enrolment.request.fingerprint, roles=None, now=now)
    directory = folder / "directory.json"
    consortium.publish(founder, directory)
    data = read_public(directory, max_bytes=MAX_DOCUMENT_BYTES)
    configs = [load_party_config(folder / party / "party.yaml") for party in parties]
    for config in configs:
        join_party(config, data, founder_fingerprint=fingerprint, now=datetime.now(UTC))
        make_people(config)
    researcher = load_researcher_config(folder / RESEARCHER / "researcher.yaml")
    join_researcher(researcher, data, founder_fingerprint=fingerprint, now=datetime.now(UTC))
    agree(configs, consortium=CONSORTIUM, now=datetime.now(UTC))


def start_party(config_file: Path) -> RunningParty:
    """Starts one party's process in the background; its output goes to party.log beside its configuration."""
    config = load_party_config(config_file)
    command = [sys.executable, "-I", "-m", "parties.cli", "party", "serve", "--config", str(config_file)]
    with (config_file.parent / "party.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  (our own interpreter and command)
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    process.returncode = 0  # it outlives this object on purpose, so nothing may warn of that; `down` knows it by its id
    return RunningParty(config.party, config_file, config.listen, process.pid)


def await_health(running: RunningParty) -> None:
    """Waits until a started party serves.

    Raises:
        ConfideError: SETUP_INCOMPLETE: it ended or is not healthy in time.
    """
    _await_health(running)


def status(folder: Path) -> Harness:
    """Returns what was started in a folder, whether it still runs or not.

    Raises:
        ConfideError: INVALID_ARGUMENT: nothing was.
    """
    try:
        content = json.loads(read_public(folder.absolute() / STATE_FILE, max_bytes=MAX_DOCUMENT_BYTES))
        parties = tuple(
            RunningParty(entry["party"], Path(entry["config"]), entry["endpoint"], int(entry["pid"]))
            for entry in content["parties"]
        )
    except (ConfideError, ValueError, KeyError, TypeError) as error:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"no harness was started in {folder}") from error
    return Harness(folder.absolute(), parties)


def down(folder: Path) -> Harness:
    """Stops every process of a harness: first politely, then for good. The folder stays."""
    harness = status(folder)
    for running in harness.parties:
        if running.is_alive:
            with suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGCONT)
                os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for running in harness.parties:
        while running.is_alive and time.monotonic() < deadline:
            _reap(running.pid)
            time.sleep(0.05)
        if running.is_alive:
            with suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGKILL)
        _reap(running.pid)
    return harness


def replace(harness: Harness, running: RunningParty) -> Harness:
    """Returns the harness with one party's process replaced, for example after it was killed and started again."""
    changed = Harness(harness.folder, tuple(running if p.party == running.party else p for p in harness.parties))
    _save(changed)
    return changed


def free_ports(count: int) -> list[int]:
    """Returns ports of loopback that are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _await_health(running: RunningParty) -> None:
    from parties.client.health import is_healthy

    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        _reap(running.pid)
        if not running.is_alive:
            break
        if is_healthy(running.config, timeout_s=2.0):
            return
        time.sleep(0.1)
    lines = read_public(running.log_file, max_bytes=1 << 24).decode(errors="replace").splitlines()
    raise ConfideError(
        ErrorCode.SETUP_INCOMPLETE,
        f"{running.party} did not start: {' '.join(lines[-3:]) or 'it printed nothing'}",
        remedy=f"Read {running.log_file}.",
    )


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):  # a harness that another command started is not our child
        os.waitpid(pid, os.WNOHANG)


def _save(harness: Harness) -> None:
    parties = [{"party": p.party, "config": str(p.config_file), "endpoint": p.endpoint, "pid": p.pid} for p in harness.parties]
    write_public(harness.folder / STATE_FILE, json.dumps({"parties": parties}, indent=2).encode())
