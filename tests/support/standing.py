"""A party that repeats assessments by itself: its researcher is enrolled, and a test plays the network and the other parties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from governance.consent.reading import time_text
from governance.documents import DocumentKind, sign
from governance.evidence.standing import StandingAssessment
from parties import consortium
from parties.client.opening import Opened
from parties.config import load_party_config, load_researcher_config
from parties.enrolment import init_researcher, join_party, join_researcher
from parties.server.party import Party
from parties.storage.files import read_public
from parties.storage.jobs import JobRecord
from protocols.canonical import MAX_DOCUMENT_BYTES
from protocols.errors import ConfideError
from protocols.job import Assessment, Job, JobType, Output, OutputKind
from protocols.session.endings import Ending
from protocols.session.states import State
from tests.support.jobs import a_dataset, an_evaluation
from tests.support.opened_counts import commitments_to, shares_of

ASSESSOR = "assessor"
MEMBERS, OTHERS = "patients", "strangers"
# Of 100 members and 100 others, at three thresholds: told apart no better than by chance; and nearly all members told.
UNTOLD, TOLD = np.array([[80, 80], [50, 50], [20, 20]]), np.array([[100, 40], [98, 5], [96, 0]])


def enrol_assessor(folder: Path, party: str, parties: Sequence[str], *, name: str = ASSESSOR) -> None:
    """Enrols a researcher of a party in a consortium that `make_consortium` made, and names her in the party's configuration."""
    founder = folder / "consortium"
    enrolment = init_researcher(folder / name, researcher=name, institution=party)
    request = read_public(enrolment.request_file, max_bytes=MAX_DOCUMENT_BYTES)
    fingerprint = enrolment.request.fingerprint
    founded = consortium.approve(founder, request, fingerprint=fingerprint, roles=None, now=datetime.now(UTC))
    consortium.publish(founder, folder / "directory.json")
    directory = read_public(folder / "directory.json", max_bytes=MAX_DOCUMENT_BYTES)
    for path in folder.glob("*/researcher.yaml"):
        config = load_researcher_config(path)
        pinned = None if config.folder.pinned_founder() else founded.founder_key.fingerprint
        join_researcher(config, directory, founder_fingerprint=pinned, now=datetime.now(UTC))
    for each in parties:
        own = load_party_config(folder / each / "party.yaml")
        join_party(own, directory, founder_fingerprint=None, now=datetime.now(UTC))
    file = folder / party / "party.yaml"
    file.write_text(f"{file.read_text()}assessor: ../{name}/researcher.yaml\n")


def an_assessment(order: StandingAssessment, *, created: datetime, nonce: str, version: int = 1, querier: str = ASSESSOR) -> Job:
    """The job of one repetition; members are of this version of their data sets."""
    rows = [replace(a_dataset(*name.split("/")), version=version if name in order.members else 1) for name in order.datasets]
    places = tuple(place for place, name in enumerate(order.datasets) if name in order.members)
    return an_evaluation(
        consortium=order.consortium,
        agreement=order.agreement,
        purpose=order.purpose,
        computing_parties=order.computing_parties,
        dealer=order.dealer,
        job_type=JobType.ASSESS,
        querier=querier,
        model_ref=order.ref,
        datasets=tuple(rows),
        outputs=(Output("attack-counts", OutputKind.ATTACK_COUNTS, querier, order.min_cell),),
        assessment=Assessment(places, order.thresholds, order.attack, order.shadows),
        created=created,
        agree_by=created + timedelta(minutes=2),
        expires=created + timedelta(minutes=30),
        nonce=nonce,
    )


class Network:
    """What a standing assessment asks for, and what becomes of it: as the test says.

    Attributes:
        unprepared: what the preparation of a job meets with; None if nothing.
        refusal: likewise its submission.
        lost: likewise the question for what it opened.
        opened: what a completed job opened.
        version: of the data set with members, as its owner describes it.
        unreached: what handing over meets with; None if nothing.
        handed: to which owner which opened assessment was handed.
        submitted: jobs, each time that one was given to everybody.
        cancelled: their ids.
    """

    def __init__(self, party: Party) -> None:
        self._party = party
        self.unprepared: ConfideError | None = None
        self.refusal: ConfideError | None = None
        self.lost: ConfideError | None = None
        self.opened = UNTOLD
        self.unreached: ConfideError | None = None
        self.handed: list[tuple[str, bytes]] = []
        self.version = 1
        self.submitted: list[Job] = []
        self.cancelled: list[str] = []
        self._prepared = 0

    def prepare(self, order: StandingAssessment, now: datetime) -> Job:
        if self.unprepared is not None:
            raise self.unprepared
        self._prepared += 1
        return an_assessment(order, created=now.replace(microsecond=0), nonce=f"{self._prepared:032x}", version=self.version)

    def submit(self, job: Job) -> None:
        self.submitted.append(job)
        if self.refusal is not None:
            raise self.refusal
        with self._party.database.transaction() as tables:
            if tables.jobs.find(job.job_id) is None:
                now = self._party.now()
                state = State.PROPOSED.value
                kept = JobRecord(job.job_id, job.querier, job.to_bytes(), bytes(64), None, "{}", state, now, now)
                tables.jobs.add(kept)

    def counts(self, job: Job) -> Opened:
        if self.lost is not None:
            raise self.lost
        return Opened(self.opened, shares_of(job, self.opened))

    def hand_over(self, owner: str, opened: bytes) -> bool:
        if self.unreached is not None:
            raise self.unreached
        self.handed.append((owner, opened))
        return True

    def cancel(self, job: Job) -> None:
        self.cancelled.append(job.job_id)

    def end(self, job: Job, state: State = State.COMPLETED, *, code: str = "", cause: str = "") -> None:
        """Has a job end at this party, with the commitments to what it opened."""
        committed = commitments_to(shares_of(job, self.opened)) if state is State.COMPLETED else {}
        ending = Ending(
            job.job_id, 1, state, code, State.RELEASING, "", cause, "", job.lead, time_text(self._party.now()), True, committed
        )
        signed = sign(ending.to_document(), kind=DocumentKind.ENDING, signer=self._party.id, key=self._party.member.signing_key)
        with self._party.database.transaction() as tables:
            tables.jobs.put_ending(job.job_id, signed.to_bytes(), measured="{}")
