"""The end of enquiries: by the clock, or because consent covers them no more; once a second, if anything may have changed."""

from __future__ import annotations

from datetime import datetime, timedelta
from threading import Event, Thread

from parties.server.encrypted.desk import EnquiryDesk
from parties.server.party import Party
from parties.server.terms import log_defect
from parties.storage.changes import ChangeWatch

PAUSE_S = 1.0
# A clock that was set, or a document that reads differently under a new directory, is noticed after this at the latest.
_AT_LEAST_EVERY = timedelta(seconds=15)


class EnquiryWatch:
    """Looks after a party's enquiries, on a thread of its own."""

    def __init__(self, party: Party, desk: EnquiryDesk, *, pause_s: float = PAUSE_S) -> None:
        self._party = party
        self._desk = desk
        self._pause_s = pause_s
        self._changes = ChangeWatch(party.config.folder.database_file)
        self._next: datetime | None = None
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="enquiries", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._changes.close()

    def look(self) -> None:
        """Looks once."""
        now = self._party.now()
        self._desk.sweep()
        changed = self._changes.has_changed()
        latest = now + _AT_LEAST_EVERY  # beyond it lies the next look only where the clock was set back
        if not changed and self._next is not None and now < self._next <= latest:
            return
        expiry = self._desk.look_after()
        self._next = latest if expiry is None else min(expiry, latest)

    def _run(self) -> None:
        while not self._stopping.wait(self._pause_s):
            try:
                self.look()
            except Exception as error:  # enquiries must be looked after as long as the party serves
                self._next = None
                log_defect("", "enquiries", error)
