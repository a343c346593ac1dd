"""What a training was prepared with: named in its job, compared by owners, and part of what is said of its privacy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from governance.commitments import CommittedShare, commitment_of
from governance.lineage.graph import ModelRecords, lineage_of, lineage_text
from governance.lineage.standing import TrainingFacts
from governance.opening import open_committed
from governance.prepared_with import PastPreparation, preparation_of, preparation_problems, preparations_in_words
from governance.preview_learns import who_learns_what
from governance.privacy_claims import claim_of
from parties.client.calls import PreparedJob
from parties.client.client import Client
from parties.client.preparations import preparations_of
from parties.client.released_moments import keep_released, released_by
from parties.prepared_jobs import preparation_findings
from parties.storage.database import Tables, open_database
from parties.storage.jobs import JobRecord
from privacy.accounting.noisy_answers import spent_together
from privacy.accounting.statement import statement_of
from privacy.preparation.standardised import claimed_job, released_schema
from protocols.canonical import canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, Output, OutputKind, Preparation, Summary, check
from protocols.job_parts import PreparedOpening
from protocols.model.layers import Flatten
from protocols.model.spec import ModelSpec
from protocols.mpc.planning import derive_plan
from protocols.mpc.shared_gradients_design import unit_rows
from protocols.private_training import Unit
from protocols.session.states import State
from tests.support.jobs import CLAIMED, CREATED, SCHEMA, TRAINING, a_training, an_evaluation
from tests.support.parts import in_parts
from tests.unit.test_private_claims import a_private_training as a_claimed_training

OWNER = frozenset({"patients"})
GRID = 1 << 32


def a_release(**changes: Any) -> Job:
    """A summary that opens means and deviations of 300 rows with noise."""
    output = Output("moments", OutputKind.MOMENTS, "alice", 5, noise="5", noise_colluders=1)
    model = ModelSpec.chain(3, rows=Flatten())
    fields: dict[str, Any] = {"model": model, "model_ref": None, "outputs": (output,), "summary": Summary(1, 1, 0, "")}
    job = replace(an_evaluation(), job_type=JobType.SUMMARISE, **fields | changes)
    assert list(check(job)) == []
    return job


def shares_of(job: Job) -> tuple[CommittedShare, ...]:
    """Shares of sums with which all three ranges become narrower."""
    sums = np.array([[-60.0, 3.0, 150.0], [-280.0, -295.0, -200.0]])
    whole = np.rint(sums * GRID).astype(np.int64)
    masks = np.random.default_rng(8).integers(-(2**62), 2**62, whole.shape)
    parts = (masks, whole - masks)
    return tuple(
        CommittedShare(job.job_id, 1, "moments", party, whole.shape, 32, part.astype("<i8").tobytes(), bytes([number]) * 32)
        for number, (party, part) in enumerate(zip(job.computing_parties, parts, strict=True))
    )


def openings_of(job: Job) -> tuple[PreparedOpening, ...]:
    return tuple(PreparedOpening(each.party, each.share.hex(), each.nonce.hex()) for each in shares_of(job))


def as_known(job: Job, *, state: State = State.COMPLETED, people: frozenset[str] = OWNER) -> PastPreparation:
    commitments = {each.party: {"moments": commitment_of(each)} for each in shares_of(job)} if job.summary else {}
    return PastPreparation(job, state, commitments, people)


def made_schema(job: Job) -> dict[str, Any]:
    known = as_known(job)
    return dict(
        released_schema(job, open_committed(job, job.outputs[0], shares_of(job), commitments=known.commitments)).to_document()
    )


def standardised(job: Job, **changes: Any) -> Job:
    """A training under the schema that a release gives, prepared with it."""
    schema = made_schema(job)
    digest = sha256_hex(canonical_bytes(schema))
    plain = a_training(schema=schema, prepared_with=(preparation_of(job, openings_of(job)),))
    made = replace(plain, **{"datasets": tuple(replace(each, schema_digest=digest) for each in plain.datasets)} | changes)
    assert list(check(made)) == []
    return made


def problems(job: Job, *known: PastPreparation, people: frozenset[str] = OWNER) -> list[str]:
    return [problem.where for problem in preparation_problems(job, {each.job.job_id: each for each in known}, people=people)]


def test_training_under_released_ranges_is_believed_by_who_knows_the_release() -> None:
    release = a_release()
    job = standardised(release)
    assert Job.from_bytes(job.to_bytes()) == job
    assert claimed_job(str(job.schema["name"])) == release.job_id[:12]
    narrowed = [column["range"] != ["0", "10"] for column in job.schema["columns"][:3]]
    assert narrowed == [True, True, True]
    assert problems(job, as_known(release)) == []
    # A party without rows need not know what owners know; what it knows it compares.
    assert problems(job, people=frozenset()) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda known: replace(known, state=State.ABORTED), ""),
        (lambda known: replace(known, people=frozenset({"others"})), ""),
        (lambda known: replace(known, commitments=as_known(a_release(nonce="ab" * 16)).commitments), ".openings"),
    ],
)
def test_job_that_is_not_what_it_was_here_is_refused(change: Callable[[PastPreparation], PastPreparation], where: str) -> None:
    release = a_release()
    assert problems(standardised(release), change(as_known(release))) == [f"prepared_with.{release.job_id[:12]}{where}"]


def test_job_that_an_owner_does_not_know_is_refused() -> None:
    release = a_release()
    assert problems(standardised(release)) == [f"prepared_with.{release.job_id[:12]}"]


def test_ranges_that_claim_a_job_and_are_not_those_that_follow_are_refused() -> None:
    release = a_release()
    job = standardised(release)
    columns = [dict(column) for column in job.schema["columns"]]
    columns[1]["range"] = ["0.5", "9"]
    changed = replace(job, schema={**job.schema, "columns": columns})
    (found,) = preparation_problems(changed, {release.job_id: as_known(release)}, people=OWNER)
    assert found.where == "schema"
    assert found.what.endswith(": texture")
    # A signed schema may be of any form; what is wrong with it is told, not fallen over.
    for columns_of_no_form in (5, None, ["radius"]):
        formless = replace(job, schema={**job.schema, "columns": columns_of_no_form})
        assert problems(formless, as_known(release)) == ["schema"]
    unopened = replace(job, prepared_with=(preparation_of(release),))
    assert problems(unopened, as_known(release)) == [f"prepared_with.{release.job_id[:12]}.openings"]
    # Another share of one party that adds up to the same is none that it committed to.
    opening = openings_of(release)
    swapped = (replace(opening[0], share=opening[1].share), replace(opening[1], share=opening[0].share))
    forged = replace(job, prepared_with=(preparation_of(release, swapped),))
    assert problems(forged, as_known(release)) == [f"prepared_with.{release.job_id[:12]}.openings"]


def test_schema_that_claims_a_known_job_which_is_not_named_is_refused() -> None:
    release = a_release()
    assert problems(standardised(release, prepared_with=()), as_known(release)) == ["prepared_with"]
    assert problems(a_training(), as_known(release)) == []


def test_openings_beside_a_schema_that_claims_nothing_are_refused() -> None:
    release = a_release()
    job = a_training(prepared_with=(preparation_of(release, openings_of(release)),))
    assert problems(job, as_known(release)) == [f"prepared_with.{release.job_id[:12]}.openings"]
    assert problems(a_training(prepared_with=(preparation_of(release),)), as_known(release)) == []


def test_claim_of_less_than_the_job_spent_is_refused_with_what_it_was() -> None:
    release = a_release()
    true = preparation_of(release)
    spent = spent_together(release)
    assert spent is not None
    assert (Decimal(true.epsilon), Decimal(true.delta), true.rows) == (spent.epsilon, spent.delta, 1)
    for false in (
        replace(true, epsilon="0.5"),
        replace(true, rows=3),
        replace(true, delta="0.0000000001"),
        replace(true, colluders=2),
    ):
        (found,) = preparation_problems(a_training(prepared_with=(false,)), {release.job_id: as_known(release)}, people=OWNER)
        assert true.epsilon in found.what


def test_figures_by_which_a_setting_was_chosen_fit_the_same_field() -> None:
    evaluation, plain = an_evaluation(), a_training(model_name="first")
    private = a_claimed_training()
    assert private.training is not None
    terms = private.training.privacy
    assert terms is not None
    found = [preparation_of(job) for job in (evaluation, plain, private)]
    spent = [(each.epsilon, each.delta, each.rows, each.colluders) for each in found]
    assert spent == [("", "0", 0, 0), ("", "0", 0, 0), (terms.epsilon, terms.delta, 1, terms.colluders)]
    job = a_training(prepared_with=tuple(sorted(found, key=lambda each: each.job)))
    assert list(check(job)) == []
    assert problems(job, *(as_known(each) for each in (evaluation, plain, private))) == []
    assert len(preparations_in_words(job)) == 3


def test_private_training_says_what_it_spends_with_what_it_was_prepared_with() -> None:
    release, plain = a_release(), a_claimed_training()
    preparation = preparation_of(release)
    job = replace(plain, prepared_with=(preparation,))
    assert list(check(job)) == []
    alone, statement = statement_of(plain), statement_of(job)
    assert alone is not None
    assert statement is not None
    assert (alone.prepared_with, alone.whole_epsilon, alone.whole_delta) == (0, alone.epsilon, alone.delta)
    whole = Decimal(statement.epsilon) + Decimal(preparation.epsilon)
    assert (statement.epsilon, Decimal(statement.whole_epsilon), statement.prepared_with) == (alone.epsilon, whole, 1)
    assert f"with the 1 job(s) that it was prepared with epsilon {whole} at delta" in statement.in_words()
    assert Decimal(claim_of(job).epsilon) == whole
    assert Decimal(claim_of(job).delta) == Decimal(statement.whole_delta) == Decimal(alone.delta) + Decimal(preparation.delta)
    # So does a training that was prepared with this one.
    assert Decimal(preparation_of(job).epsilon) == whole


@pytest.mark.parametrize(
    ("preparation", "unit", "where"),
    [
        (Preparation("ab" * 16, JobType.EVALUATE, "", "0", 0, 0), Unit.ROW, "prepared_with.abababababab"),
        (Preparation("ab" * 16, JobType.EVALUATE, "1", "0.000000001", 1, 1), Unit.PERSON, "prepared_with.abababababab"),
        (
            Preparation("ab" * 16, JobType.EVALUATE, "1", "0.000000001", 2, 1),
            Unit.PERSON_EVERYWHERE,
            "prepared_with.abababababab",
        ),
        (Preparation("ab" * 16, JobType.EVALUATE, "1", "0.000000001", 1, 0), Unit.ROW, "prepared_with.abababababab.colluders"),
        (Preparation("ab" * 16, JobType.EVALUATE, "", "0", 0, 1), Unit.ROW, "prepared_with.abababababab"),
        (Preparation("ab" * 16, JobType.EVALUATE, "", "0.1", 0, 0), Unit.ROW, "prepared_with.abababababab"),
        (Preparation("ab" * 16, JobType.INFER, "1", "0.1", 1, 1), Unit.ROW, "prepared_with.abababababab.job_type"),
        (Preparation("ab", JobType.EVALUATE, "1", "0.1", 1, 1), Unit.ROW, "prepared_with.ab.job"),
        (Preparation("ab" * 16, JobType.EVALUATE, "many", "0.1", 1, 1), Unit.ROW, "prepared_with.abababababab.epsilon"),
    ],
)
def test_preparation_without_which_a_guarantee_would_be_none_is_refused(preparation: Preparation, unit: Unit, where: str) -> None:
    terms = replace(CLAIMED, unit=unit, rows_per_person=1 if unit is Unit.ROW else 2)
    job = a_training(training=replace(TRAINING, privacy=terms), prepared_with=(preparation,))
    if "epsilon" in where:  # a decimal is compared with nothing before it is one
        job = replace(job, training=TRAINING)
    assert where in [problem.where for problem in check(job)]


def test_preparation_must_hold_against_as_many_who_pool_as_the_training() -> None:
    """Two owners who take their own noise away from a release against one leave less of it than its epsilon is for."""
    preparation = preparation_of(a_release())
    plain = a_claimed_training()
    assert plain.training is not None
    assert preparation.colluders == 1
    for colluders, expected in ((1, []), (2, [f"prepared_with.{preparation.job[:12]}"])):
        terms = replace(CLAIMED, colluders=colluders)
        job = replace(plain, training=replace(plain.training, privacy=terms), prepared_with=(preparation,))
        assert [problem.where for problem in check(job) if problem.where.startswith("prepared_with")] == expected


def test_owners_who_pool_are_not_those_that_dealt_and_computed_the_preparation() -> None:
    """A dealer that brought no rows to the release, and none of its noise, brings some to the training: it may pool there."""
    plain = a_claimed_training()
    owners = ("hospital-a", "hospital-b")
    release = a_release(datasets=tuple(each for each in an_evaluation().datasets if each.party in owners))
    assert (release.dealer in owners, release.dealer in {each.party for each in plain.datasets}) == (False, True)
    assert plain.training is not None
    for colluders, expected in ((1, []), (2, [f"prepared_with.{release.job_id[:12]}"])):
        terms = replace(CLAIMED, colluders=colluders)
        job = replace(plain, training=replace(plain.training, privacy=terms), prepared_with=(preparation_of(release),))
        assert problems(job, as_known(release)) == expected


def test_training_over_joined_columns_hides_no_more_rows_than_one_table_has() -> None:
    """Its noise is for `rows_per_person` joint rows, so rows at several owners, below each other, are not hidden by it."""
    terms = replace(CLAIMED, unit=Unit.PERSON_EVERYWHERE, rows_per_person=2, nominal_people=100)
    training = replace(TRAINING, privacy=terms)
    below, joined = a_training(training=training), in_parts(a_training(training=training))
    for job in (below, joined):
        assert preparation_of(job).rows == unit_rows(job)
    assert preparation_of(joined).rows == 2 < preparation_of(below).rows
    later = replace(below, prepared_with=(preparation_of(joined),))
    assert [problem.where for problem in check(later) if problem.where.startswith("prepared_with")] != []


def keep(tables: Tables, job: Job) -> None:
    record = JobRecord(job.job_id, "alice", job.to_bytes(), bytes(64), None, "{}", State.COMPLETED.value, CREATED, CREATED)
    tables.jobs.add(record)


def test_figures_of_a_model_rest_on_what_its_training_spent_of_the_same_people(tmp_path: Path) -> None:
    """A model without terms of privacy that is evaluated with noise tells of the rows that it was trained on nevertheless."""
    behind = a_training(model_name="first")
    output = Output("correct", OutputKind.CORRECT_COUNT, "alice", 5, noise="5", noise_colluders=1)
    evaluation = an_evaluation(model_ref=behind.produced_model, outputs=(output,))
    private, plain = a_claimed_training(), a_training(prepared_with=(preparation_of(evaluation),))
    job = replace(private, prepared_with=(preparation_of(evaluation),))
    assert list(check(job)) == []
    database = open_database(tmp_path / "party.db")
    with database.transaction() as tables:
        keep(tables, behind)
        keep(tables, evaluation)
        (found,) = preparation_findings(tables, job, party="hospital-a")
        assert found.problem.remedy == f"add {behind.job_id}"
        # Who has no rows in it, and a training that promises nothing, need not.
        assert list(preparation_findings(tables, job, party="hospital-z")) == []
        assert list(preparation_findings(tables, plain, party="hospital-a")) == []
        named = sorted((preparation_of(behind), preparation_of(evaluation)), key=lambda each: each.job)
        both = replace(job, prepared_with=tuple(named))
        assert list(preparation_findings(tables, both, party="hospital-a")) == []
    database.close()
    # Named, it has no bound, and neither has the training.
    assert [problem.where for problem in check(both)] == [f"prepared_with.{behind.job_id[:12]}"]


def test_ranges_that_were_narrowed_twice_rest_on_both_releases(tmp_path: Path) -> None:
    first = a_release()
    schema = made_schema(first)
    digest = sha256_hex(canonical_bytes(schema))
    datasets = tuple(replace(each, schema_digest=digest) for each in first.datasets)
    second = a_release(schema=schema, datasets=datasets, nonce="5e" * 16)
    job = replace(a_claimed_training(), prepared_with=(preparation_of(second),))
    both = sorted((preparation_of(first), preparation_of(second)), key=lambda each: each.job)
    database = open_database(tmp_path / "party.db")
    with database.transaction() as tables:
        keep(tables, first)
        keep(tables, second)
        (found,) = preparation_findings(tables, job, party="hospital-a")
        assert found.problem.remedy == f"add {first.job_id}"
        assert list(preparation_findings(tables, replace(job, prepared_with=tuple(both)), party="hospital-a")) == []
    database.close()


def test_preparations_whose_epsilons_add_up_beyond_a_training_s_can_be_named() -> None:
    first = a_training(training=replace(TRAINING, privacy=replace(CLAIMED, epsilon="60")), model_name="first")
    second = a_training(
        training=replace(TRAINING, privacy=replace(CLAIMED, epsilon="60")), prepared_with=(preparation_of(first),)
    )
    third = a_training(prepared_with=(preparation_of(second),))
    assert third.prepared_with[0].epsilon == "120"
    assert [problem.where for problem in check(third) if problem.where.startswith("prepared_with")] == []


def test_only_trainings_are_prepared_and_each_job_is_named_once() -> None:
    preparation = preparation_of(a_release())
    assert [p.where for p in check(replace(an_evaluation(), prepared_with=(preparation,)))] == ["prepared_with"]
    assert [p.where for p in check(a_training(prepared_with=(preparation,) * 2))] == ["prepared_with"]
    document = a_training(prepared_with=(preparation,)).to_document()
    document["prepared_with"][0]["note"] = "x"
    with pytest.raises(ConfideError) as caught:
        Job.from_bytes(canonical_bytes(document))
    assert caught.value.code is ErrorCode.INVALID_JOB


def test_openings_of_many_features_fit_and_of_too_many_are_not_read() -> None:
    release = a_release()
    openings = tuple(replace(each, share="ab" * 8 * 2 * 1_000) for each in openings_of(release))
    job = a_training(prepared_with=(preparation_of(release, openings),))
    assert Job.from_bytes(job.to_bytes()) == job
    document = job.to_document()
    document["prepared_with"][0]["openings"][0]["share"] = "ab" * 8 * 2 * 5_000
    with pytest.raises(ConfideError) as caught:
        Job.from_bytes(canonical_bytes(document))
    assert caught.value.code is ErrorCode.INVALID_JOB


def test_lineage_shows_what_a_model_was_prepared_with() -> None:
    release = a_release()
    job = standardised(release)
    facts = TrainingFacts(job, (), State.COMPLETED.value)
    records = ModelRecords({job.job_id: facts}, (), (), {}, ())
    ref = job.produced_model
    assert ref is not None
    edges = {(edge.source, edge.target): edge.relation for edge in lineage_of(ref, records).edges}
    assert edges[f"job:{release.job_id}", f"job:{job.job_id}"] == "prepared"
    assert f"prepared with summarise job {release.job_id[:12]}: epsilon" in lineage_text(ref, records)


def test_training_that_another_one_was_prepared_with_keeps_its_facts_in_the_lineage() -> None:
    first = a_training(model_name="first")
    assert first.produced_model is not None
    second = a_training(initial_weights_sha256=None, model_ref=first.produced_model, prepared_with=(preparation_of(first),))
    trainings = {job.job_id: TrainingFacts(job, (), State.COMPLETED.value) for job in (first, second)}
    ref = second.produced_model
    assert ref is not None
    nodes = {node.id: node.facts for node in lineage_of(ref, ModelRecords(trainings, (), (), {}, ())).nodes}
    told = nodes[f"job:{first.job_id}"]
    assert (told["state"], told["purpose"], told["epsilon"]) == (State.COMPLETED.value, first.purpose, None)


def test_preview_says_what_a_training_is_prepared_with_and_who_learns_its_figures() -> None:
    release = a_release()
    job = standardised(release)
    plan = derive_plan(job)
    assert ("everybody", "the noisy means and deviations that the schema's ranges follow from") in who_learns_what(job, plan)
    assert not [what for _, what in who_learns_what(a_training(), plan) if "deviations" in what]
    (line,) = preparations_in_words(job)
    assert line.startswith(f"summarise job {release.job_id[:12]}: epsilon ")
    assert line.endswith(", by whose means and deviations features are standardised")


def test_researcher_keeps_what_was_released_for_the_schema_that_claims_it(tmp_path: Path) -> None:
    release = a_release()
    keep_released(tmp_path, release.job_id, shares_of(release))
    (file,) = (tmp_path / "released").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert released_by(tmp_path, str(made_schema(release)["name"])) == {release.job_id: openings_of(release)}
    assert released_by(tmp_path, str(SCHEMA["name"])) == {}
    file.write_bytes(b'{"openings": [{"party": "a"}]}')
    with pytest.raises(ConfideError) as caught:
        released_by(tmp_path, str(made_schema(release)["name"]))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@dataclass(frozen=True)
class Kept:
    """What a researcher's client has in its folder."""

    folder: Path
    submitted: tuple[Job, ...]

    def job(self, beginning: str) -> Job:
        found = [job for job in self.submitted if job.job_id.startswith(beginning)]
        if not found:
            raise ConfideError(ErrorCode.UNKNOWN_JOB, f"no job begins with {beginning}")
        return found[0]


def asked(kept: Kept, job: Job, *named: str) -> tuple[Preparation, ...]:
    return preparations_of(cast(Client, kept), named, schema_name=str(job.schema["name"]), rows=job.datasets)


def test_client_names_what_every_owner_of_the_rows_can_believe(tmp_path: Path) -> None:
    release = a_release()
    job, kept = standardised(release), Kept(tmp_path, (release,))
    keep_released(tmp_path, release.job_id, shares_of(release))
    assert asked(kept, job) == job.prepared_with
    assert asked(kept, job, release.job_id) == job.prepared_with
    assert asked(Kept(tmp_path / "elsewhere", ()), job) == ()  # of a release that is not hers the owners know


def test_client_refuses_a_claim_that_it_cannot_prove_and_says_which_command_mends_it(tmp_path: Path) -> None:
    release = a_release()
    with pytest.raises(ConfideError) as caught:
        asked(Kept(tmp_path, (release,)), standardised(release))
    (problem,) = caught.value.problems
    assert (caught.value.code, problem.where) == (ErrorCode.INVALID_JOB, "schema")
    assert problem.remedy == f"fetch them: `confide job result {release.job_id} --schema FILE`"


def test_client_refuses_to_name_a_job_in_which_an_owner_had_no_rows(tmp_path: Path) -> None:
    release = a_release()
    keep_released(tmp_path, release.job_id, shares_of(release))
    alone = replace(release, datasets=release.datasets[:1])
    others = sorted({each.party for each in release.datasets[1:]})
    with pytest.raises(ConfideError) as caught:
        asked(Kept(tmp_path, (alone,)), a_training(), alone.job_id)
    (problem,) = caught.value.problems
    assert (caught.value.code, problem.where) == (ErrorCode.INVALID_JOB, f"prepared_with.{alone.job_id[:12]}")
    assert problem.what == f"{' and '.join(others)} had no rows in it, and refuses a training that names it"


def test_release_says_before_it_is_submitted_who_can_be_prepared_with_it(tmp_path: Path) -> None:
    release = a_release()
    (note,) = PreparedJob(release).warnings
    assert f"only if all owners of its rows bring rows here: {', '.join(sorted({d.party for d in release.datasets}))}" in note
    assert f"`confide job result {release.job_id} --schema FILE`" in note
    assert PreparedJob(a_training()).warnings == ()
