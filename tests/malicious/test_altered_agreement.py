"""One party with another job, plan, setting or version: refused before any message that depends on a secret.

Promise P7. Every alteration is taken the whole way that a real one goes: reading, admission, and, if both of these take it,
the first frames between two workers. Whatever refuses it, no worker has sent more than its HELLO.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Thread
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from governance.admission import Holdings, admit
from governance.documents import DocumentKind, SignedDocument, sign_bytes
from governance.identity.directory import Directory
from governance.identity.names import Role
from parties.server.intake import read_papers
from parties.transport.frames import FrameKind, decode
from parties.transport.tags import TAG_BYTES
from parties.wire.documents import to_wire
from parties.worker.handshake import shake_hands
from protocols import PROTOCOL_VERSION
from protocols.canonical import canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType
from protocols.model.weights import weights_to_safetensors
from protocols.mpc.planning import derive_plan
from protocols.plan.plan import Plan
from tests.support.consent import ConsentWorld, a_grant, jobs, standing
from tests.support.jobs import CREATED, MODEL, SCHEMA_DIGEST, a_dataset, a_training, an_evaluation
from tests.support.link_pairs import a_link
from tests.support.members import Keys, a_founder, new_keys
from tests.support.mpc_world import a_job
from tests.support.recorded_links import FIRST, PAIR, SECOND, split_frames, tapped

WANTED = 200
Leaf = tuple[str | int, ...]


@dataclass(frozen=True)
class Consortium:
    """A directory of three hospitals and a researcher, and her keys."""

    directory: Directory
    alice: Keys

    def party(self, party: str) -> Any:
        """As much of a party as reads papers."""
        return cast(Any, SimpleNamespace(id=party, directory=self.directory))

    def signed(self, job: bytes) -> SignedDocument:
        return sign_bytes(job, kind=DocumentKind.JOB, signer="alice", key=self.alice.signing)


@pytest.fixture(scope="module")
def consortium() -> Consortium:
    founder, alice = a_founder(), new_keys()
    parties = tuple(founder.party(new_keys(), f"hospital-{letter}", roles=tuple(Role)) for letter in "abc")
    directory = founder.directory(version=3, parties=parties, researchers=(founder.researcher(alice, "alice"),))
    return Consortium(directory, alice)


def holdings(**changes: object) -> Holdings:
    sound = Holdings(
        FIRST,
        {"patients": a_dataset(FIRST)},
        {},
        min_evaluation_rows=50,
        max_rows=1_000,
        max_query_rows=10,
        servings=0,
        max_servings=1,
        min_cell=5,
        resumed=None,
        schemas={},
        prepared={},
        rows_per_person={},
    )
    return replace(sound, **changes)  # type: ignore[arg-type]  # tests name the fields


def greet(*, job: tuple[str, str], plan: tuple[str, str]) -> tuple[list[ConfideError], set[FrameKind]]:
    """Lets two workers shake hands over these digests; returns how each failed, and the kinds of all frames that were sent."""
    heard = {party: bytearray() for party in PAIR}
    errors: list[ConfideError] = []
    with tapped(heard) as endpoints:

        def run(number: int) -> None:
            party, peer = PAIR[number], PAIR[1 - number]
            link = a_link(endpoints[party], peer=peer)
            try:
                shake_hands(party=party, participants=PAIR, links={peer: link}, job_digest=job[number], plan_digest=plan[number])
            except ConfideError as error:
                errors.append(error)
            link.close()

        running = [Thread(target=run, args=(number,)) for number in (0, 1)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(30)
    frames = [frame for data in heard.values() for frame in split_frames(bytes(data))]
    return errors, {decode(memoryview(frame)[:-TAG_BYTES])[0].kind for frame in frames}


def assert_workers_refuse(*, job: tuple[str, str], plan: tuple[str, str]) -> None:
    errors, kinds = greet(job=job, plan=plan)
    assert [error.code for error in errors] == [ErrorCode.PLAN_DIFFERS] * 2
    assert kinds == {FrameKind.HELLO}


def leaves(document: Any, at: Leaf = ()) -> Iterator[Leaf]:
    if isinstance(document, dict):
        for key, value in document.items():
            yield from leaves(value, (*at, key))
    elif isinstance(document, list):
        for number, value in enumerate(document):
            yield from leaves(value, (*at, number))
    else:
        yield at


def altered(document: Any, leaf: Leaf) -> Any:
    """The document with another value of the same type at one place."""
    found = copy.deepcopy(document)
    holder = found
    for step in leaf[:-1]:
        holder = holder[step]
    value = holder[leaf[-1]]
    match value:
        case bool():
            other: object = not value
        case int():
            other = value + 1
        case None:
            other = "x"
        case _:
            other = value[:-1] + ("1" if value[-1:] != "1" else "2")
    holder[leaf[-1]] = other
    return found


def refused(act: Callable[[], object]) -> bool:
    try:
        act()
    except ConfideError:
        return True
    return False


def job_alterations(consortium: Consortium) -> Iterator[str]:
    """Every field of a job, signed again by a researcher who tells two parties different things."""
    for genuine in (a_training(), an_evaluation()):
        document = genuine.to_document()
        for leaf in leaves(document):
            data = canonical_bytes(altered(document, leaf))
            assert sha256_hex(data) != genuine.digest
            if not refused(lambda data=data: Job.from_bytes(data)):  # type: ignore[misc]  # a lambda's default
                # A job of its own, and so another session; and if a worker got it under this session all the same:
                assert_workers_refuse(job=(genuine.digest, Job.from_bytes(data).digest), plan=("b" * 64, "b" * 64))
            yield f"{genuine.job_type.value} {leaf}"


def consent_alterations() -> Iterator[str]:
    """The same altered job for everybody, so that no digest differs: it is inside nobody's consent, and no worker starts."""
    world = ConsentWorld()
    covered = world.consents(standing(a_grant()))
    for genuine in jobs().values():
        assert world.decide(genuine, covered).findings == ()
        expected: list[tuple[Leaf, ErrorCode]] = [
            (("agreement",), ErrorCode.NO_AGREEMENT),
            (("purpose",), ErrorCode.NO_AGREEMENT),
            (("purpose",), ErrorCode.NO_CONSENT),
            (("querier",), ErrorCode.NO_CONSENT),
        ]
        if genuine.datasets:
            expected += [(("datasets", 0, name), ErrorCode.NO_CONSENT) for name in ("version", "commitment")]
        for leaf, code in expected:
            body = altered(genuine.to_document(), leaf)
            for output in body["outputs"]:
                output["recipient"] = body["querier"]
            job = Job.from_bytes(canonical_bytes(body))
            known = covered if job.agreement == genuine.agreement else replace(covered, agreement=None)
            assert code in {finding.code for finding in world.decide(job, known).findings}, (leaf, code)
            yield f"{genuine.job_type.value} {leaf} for all"


def byte_alterations(consortium: Consortium, rng: random.Random) -> Iterator[str]:
    """One byte of a signed job or of its public weights, after the researcher signed it."""
    weights = weights_to_safetensors({p.name: np.full(p.shape, 0.5, np.float32) for p in MODEL.parameters}, MODEL)
    genuine = a_training(initial_weights_sha256=sha256_hex(weights)).to_bytes()
    signed, party = consortium.signed(genuine), consortium.party(FIRST)
    read_papers(party, to_wire(signed), weights)
    for number in range(40):
        body, other = bytearray(genuine), bytearray(weights)
        changed: bytearray = body if number < 30 else other
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        message = to_wire(signed)
        message.body = bytes(body)
        assert refused(lambda message=message, other=other: read_papers(party, message, bytes(other)))  # type: ignore[misc]
        yield f"byte {number}"


def plan_alterations(rng: random.Random) -> Iterator[str]:
    """Fields of a plan, among them the engine's version: contradictory, or of another digest."""
    job = a_job(JobType.TRAIN, rows={"alpha": 20, "beta": 20})
    plan = derive_plan(job)
    document = plan.to_document()
    places = list(leaves(document))
    for leaf in [("engine",), ("format",), ("adversary",), *rng.sample(places, 80)]:
        other = altered(document, leaf)
        if not refused(lambda other=other: Plan.from_document(other)):  # type: ignore[misc]  # a lambda's default
            digest = Plan.from_document(other).digest
            assert digest != plan.digest
            assert_workers_refuse(job=(job.digest, job.digest), plan=(plan.digest, digest))
        yield f"plan {leaf}"


def setting_alterations(consortium: Consortium) -> Iterator[str]:
    """What one party's own settings and files say enters its admission."""
    training, evaluation = a_training(), an_evaluation(computing_parties=(SECOND, "hospital-c"), dealer=FIRST)
    dataset = a_dataset(FIRST)
    cases: Sequence[tuple[Job, Holdings, timedelta]] = [
        (training, holdings(datasets={}), timedelta()),
        *(
            (training, holdings(datasets={"patients": replace(dataset, **change)}), timedelta())
            for change in (
                {"version": 2}, {"num_rows": 101}, {"commitment": "d" * 64}, {"schema_digest": SCHEMA_DIGEST[:-1] + "x"},
                {"name": "others"},
            )
        ),
        (training, holdings(max_rows=299), timedelta()),
        (evaluation, holdings(min_evaluation_rows=301), timedelta()),
        (evaluation, holdings(min_cell=6), timedelta()),
        (training, holdings(), timedelta(minutes=31)),
        (training, holdings(), -timedelta(minutes=6)),
    ]  # fmt: skip
    for job in (training, evaluation):
        admit(job, directory=consortium.directory, holdings=holdings(), now=CREATED)
    for number, (job, held, later) in enumerate(cases):
        with pytest.raises(ConfideError):
            admit(job, directory=consortium.directory, holdings=held, now=CREATED + later)
        yield f"setting {number}"
    for change in ({"version": 4}, {"consortium": "other"}, {"researchers": ()}, {"parties": consortium.directory.parties[:2]}):
        with pytest.raises(ConfideError):
            admit(training, directory=replace(consortium.directory, **change), holdings=holdings(), now=CREATED)
        yield f"directory {list(change)}"


def version_alterations() -> Iterator[str]:
    """Another protocol version of one worker."""
    for other in (PROTOCOL_VERSION + "1", PROTOCOL_VERSION[:-1], "0", "", PROTOCOL_VERSION + ".0"):
        heard = {party: bytearray() for party in PAIR}
        errors: list[ConfideError] = []
        with tapped(heard) as endpoints:
            link, peer = a_link(endpoints[FIRST], peer=SECOND), a_link(endpoints[SECOND], peer=FIRST)
            hello = {"version": other, "job": "a" * 64, "plan": "b" * 64, "nonce": "0f" * 32}
            peer.send_control(FrameKind.HELLO, canonical_bytes(hello))
            try:
                shake_hands(party=FIRST, participants=PAIR, links={SECOND: link}, job_digest="a" * 64, plan_digest="b" * 64)
            except ConfideError as error:
                errors.append(error)
            link.close()
            peer.close()
        assert [error.code for error in errors] == [ErrorCode.VERSION_DIFFERS]
        kinds = [decode(memoryview(frame)[:-TAG_BYTES])[0].kind for frame in split_frames(bytes(heard[FIRST]))]
        assert kinds == [FrameKind.HELLO]
        yield f"version {other}"


def test_workers_that_agree_get_beyond_hello() -> None:
    """Without this the refusals below would prove nothing."""
    errors, kinds = greet(job=("a" * 64,) * 2, plan=("b" * 64,) * 2)
    assert errors == []
    assert kinds == {FrameKind.HELLO, FrameKind.KEY, FrameKind.CONFIRM}


def test_alterations_at_one_party_two_hundred_are_all_refused_before_anything_secret(consortium: Consortium) -> None:
    rng = random.Random(7)
    made = [
        *job_alterations(consortium),
        *consent_alterations(),
        *byte_alterations(consortium, rng),
        *plan_alterations(rng),
        *setting_alterations(consortium),
        *version_alterations(),
    ]
    assert len(made) >= WANTED
