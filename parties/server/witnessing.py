"""This party's own checkpoints: signed when the log has grown, and shown to the others, who cosign them.

One thread works in rounds. A round signs the head of the log, if it moved, and asks every party whose cosignature somebody
waits for: at once for a job that is being countersigned, and every `BACKGROUND_S` all parties of the directory. Calls to one
party never wait for another, and a party with a call under way is not asked again. So one checkpoint serves all jobs that were
countersigned meanwhile, and a party that does not answer holds up only those that need it.

A witness that has seen more of this log than this party holds proves, with this party's own signature, that the state was
rolled back: from then on no job is taken, and the party says that it does not serve.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Condition, Thread

import structlog

from governance.audit.checkpoints import Checkpoint, check_cosignature, origin, parse_checkpoint, sign_checkpoint
from governance.audit.notes import parse_note, parse_signature
from parties.server.party import Party
from parties.server.rollback import ask_last_seen, contradiction, log_directory
from parties.server.terms import log_defect
from parties.storage.audit_log import CheckpointRecord, CosignatureRecord
from parties.storage.files import write_public
from parties.transport.peers import Peers
from parties.wire.generated.confide.v1 import audit_pb2
from parties.wire.methods import COSIGN
from protocols.errors import ConfideError, ErrorCode

BACKGROUND_S = 15.0
CALL_TIMEOUT_S = 5.0
# A cosignature that is older, by its witness' clock, is asked for again before the others would refuse it (the manifest's
# MAX_AGE); a witness whose clock is five minutes behind is still heard.
RENEW_AFTER = timedelta(minutes=6)
_FIRST_RETRY_S = 0.25
_LAST_RETRY_S = 5.0
_MAX_CALLS = 64
_log = structlog.get_logger()


class Witnessing:
    """See the module. Public methods may be called from any thread."""

    def __init__(self, party: Party, peers: Peers, *, rolled_back: Callable[[], None]) -> None:
        """Takes the party, its channels, and who is told when the state turns out to be rolled back."""
        self._party = party
        self._peers = peers
        self._rolled_back = rolled_back
        self._calls = ThreadPoolExecutor(_MAX_CALLS, thread_name_prefix="witness")
        self._changed = Condition()
        self._stopped = False
        self._woken = False
        self._wanted: dict[str, frozenset[str]] = {}  # by whom it is waited for
        self._background_at = 0.0
        self._under_way: set[str] = set()
        self._seen: dict[str, int] = {}  # by witness: the size that it has seen, as far as is known here
        self._failures: dict[str, int] = {}
        self._retry_at: dict[str, float] = {}
        self._listeners: list[Callable[[], None]] = []
        self._halted: ConfideError | None = None
        self._directory_version = party.directory.version
        self._thread = Thread(target=self._run, name="witnessing", daemon=True)

    @property
    def halted(self) -> ConfideError | None:
        """Why this party takes no jobs, or None."""
        return self._halted

    def start(self) -> None:
        """Begins to work."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; calls under way are not waited for."""
        with self._changed:
            self._stopped = True
            self._wake()
        if self._thread.is_alive():
            self._thread.join()
        self._calls.shutdown(wait=False, cancel_futures=True)

    def listen(self, listener: Callable[[], None]) -> None:
        """Has a listener called, from a thread of this object, whenever a cosignature has been stored."""
        self._listeners.append(listener)

    def want(self, purpose: str, witnesses: Iterable[str]) -> None:
        """Asks for cosignatures of the newest checkpoint by these parties until `forget` is called for the same purpose."""
        with self._changed:
            needed = frozenset(witnesses) - {self._party.id}
            if self._wanted.get(purpose) != needed:
                self._wanted[purpose] = needed
                self._wake()

    def forget(self, purpose: str) -> None:
        """Ends what `want` began."""
        with self._changed:
            self._wanted.pop(purpose, None)

    def cosigned(self, index: int, witnesses: Iterable[str], *, now: datetime) -> CheckpointRecord | None:
        """Returns a checkpoint over the entry of this index that all these parties cosigned a short while ago, or None."""
        needed = frozenset(witnesses) - {self._party.id}
        with self._party.database.transaction() as tables:
            checkpoints = tables.audit.checkpoints_over(index)
        for checkpoint in checkpoints:
            fresh = {each.witness for each in checkpoint.cosignatures if each.time > now - RENEW_AFTER}
            if needed <= fresh:
                return checkpoint
        return None

    def missing(self, index: int, witnesses: Iterable[str], *, now: datetime) -> tuple[str, ...]:
        """Returns which of these parties have not cosigned the newest checkpoint over the entry of this index."""
        with self._party.database.transaction() as tables:
            latest = tables.audit.latest_checkpoint()
        found: set[str] = set()
        if latest is not None and latest.size > index:
            found = {each.witness for each in latest.cosignatures if each.time > now - RENEW_AFTER}
        return tuple(witness for witness in witnesses if witness not in found and witness != self._party.id)

    # The thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._stopped:
                    return
            try:
                self._round()
            except Exception as error:  # a full disk, or a defect: no new checkpoint now, and the next round tries
                with suppress(OSError):
                    log_defect("", "witnessing", error)
                pause = _LAST_RETRY_S
            else:
                pause = self._pause()
            with self._changed:
                if not self._woken:
                    self._changed.wait(pause)
                self._woken = False

    def _wake(self) -> None:
        # Held by the caller: the lock. The thread may be in the middle of a round, which must not miss this.
        self._woken = True
        self._changed.notify_all()

    def _round(self) -> None:
        version = self._party.directory.version
        if version != self._directory_version:
            log_directory(self._party, version)
            self._directory_version = version
        targets = self._targets()
        if not targets or self._halted is not None:
            return
        checkpoint = self._head()
        if checkpoint is None:
            return
        renew_before = self._party.now() - RENEW_AFTER
        fresh = {each.witness for each in checkpoint.cosignatures if each.time > renew_before}
        for witness in targets - fresh:
            with self._changed:
                if witness in self._under_way or self._stopped:
                    continue
                self._under_way.add(witness)
            self._calls.submit(self._ask, witness, checkpoint.size)

    def _targets(self) -> set[str]:
        now = time.monotonic()
        with self._changed:
            targets = {witness for witnesses in self._wanted.values() for witness in witnesses}
            if now >= self._background_at:
                self._background_at = now + BACKGROUND_S
                targets |= {entry.id for entry in self._party.directory.parties if entry.id != self._party.id}
            return {witness for witness in targets - self._under_way if self._retry_at.get(witness, 0.0) <= now}

    def _pause(self) -> float:
        now = time.monotonic()
        with self._changed:
            waited_for = {witness for witnesses in self._wanted.values() for witness in witnesses} - self._under_way
            times = [self._retry_at[witness] for witness in waited_for if witness in self._retry_at]
            return min(1.0, max(0.01, min((self._background_at, *times)) - now))

    def _head(self) -> CheckpointRecord | None:
        """Returns a checkpoint of the whole log, signed now if there is none."""
        with self._party.database.transaction() as tables:
            size, root = tables.audit.head()
            latest = tables.audit.latest_checkpoint()
            if not size or (latest is not None and latest.size == size):
                return latest
            log = origin(self._party.directory.consortium, self._party.id)
            note = sign_checkpoint(Checkpoint(log, size, root), key=self._party.member.signing_key).to_bytes()
            made = tables.audit.add_checkpoint(size=size, root=root, note=note, now=self._party.now())
            # Before the transaction ends: an export, which is another process, writes it in its turn.
            write_public(self._party.config.folder.log_head_file, note)
        return made

    # Threads of the pool.

    def _ask(self, witness: str, size: int) -> None:
        try:
            stored = self._ask_once(witness, size) or self._ask_once(witness, size)  # the second time from what it has seen
        except Exception as error:
            self._failed(witness, error)
        else:
            with self._changed:
                self._failures.pop(witness, None)
                self._retry_at.pop(witness, None)
                if not stored:  # it has seen a newer checkpoint: the next round asks for that
                    self._retry_at[witness] = time.monotonic() + _FIRST_RETRY_S
        finally:
            with self._changed:
                self._under_way.discard(witness)
                self._wake()
        for listener in self._listeners:
            listener()

    def _ask_once(self, witness: str, size: int) -> bool:
        with self._party.database.transaction() as tables:
            checkpoint = tables.audit.checkpoint(size)
            old = min(self._seen.get(witness, 0), size)
            proof = tables.audit.consistency(old, size)
        request = audit_pb2.CosignRequest(checkpoint=checkpoint.note, old_size=old, proof=proof)
        reply = COSIGN.call(self._peers.channel(witness), request, party=witness, timeout_s=CALL_TIMEOUT_S)
        self._seen[witness] = reply.seen_size
        if not reply.cosignature:
            if reply.seen_size > size:
                self._compare(witness)
            return False
        said = parse_checkpoint(parse_note(checkpoint.note).text)
        line = parse_signature(reply.cosignature.decode("utf-8", "replace"))
        directory = self._party.directory
        name = origin(directory.consortium, witness)
        made = check_cosignature(said, line, name=name, key=directory.signing_key(witness))
        with self._party.database.transaction() as tables:
            tables.audit.add_cosignature(size, CosignatureRecord(witness, line.line, made))
        return True

    def _failed(self, witness: str, error: Exception) -> None:
        if isinstance(error, ConfideError):
            if error.code is ErrorCode.LOG_FORKED:
                with suppress(ConfideError):
                    self._compare(witness)
                _log.error("log_called_forked", peer=witness, what=error.what)
        else:
            log_defect("", "witnessing", error)
        with self._changed:
            failures = self._failures[witness] = self._failures.get(witness, 0) + 1
            self._retry_at[witness] = time.monotonic() + min(_LAST_RETRY_S, _FIRST_RETRY_S * 2 ** min(failures, 10))

    def _compare(self, witness: str) -> None:
        """Looks whether the state was rolled back; what a witness merely says is not believed, only this party's signature."""
        note = ask_last_seen(self._peers, witness, timeout_s=CALL_TIMEOUT_S)
        with self._party.database.transaction() as tables:
            what = contradiction(self._party, tables, note)
        if what is None or self._halted is not None:
            return
        self._halted = ConfideError(ErrorCode.STATE_ROLLED_BACK, f"{witness} has seen more: {what}", party=self._party.id)
        _log.error("state_rolled_back", peer=witness, what=what)
        self._rolled_back()
