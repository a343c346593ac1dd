"""What a job claims of its privacy: refused if too much, charged, stated, previewed; and how a request becomes a claim."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from governance.admission import Holdings, examine
from governance.budget.amounts import Amount, charges
from governance.budget.ledger import shortfalls
from governance.consent.covering import over_epsilon
from governance.consent.limits import ParameterLimits, check_parameter_limits
from governance.policy.budgets import Caps
from governance.policy.conditions import UNBOUNDED
from governance.policy.facts import facts_of
from governance.preview import make_preview
from parties.client.private_request import PrivacyRequest, delta_for, with_privacy
from parties.client.requests import TrainRequest, read_request
from privacy.accounting.jobs import noise_of, sampler_of
from privacy.accounting.samplers import FullBatch, TruncatedPoisson
from privacy.accounting.statement import (
    NO_GUARANTEE,
    PrivacyStatement,
    claim_problems,
    privacy_in_short,
    privacy_in_words,
    read_statement,
    statement_of,
)
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, Task, check
from protocols.mpc.noise_designs import noise_design
from protocols.mpc.noisy_sums_design import design as noisy_sums_design
from protocols.mpc.planning import derive_plan
from protocols.mpc.shared_gradients_design import design as shared_gradients_design
from protocols.plan.estimate import LOOPBACK, estimate
from protocols.private_job_checks import contributors
from protocols.private_training import MAX_PRIVATE_STEPS, Mechanism, PrivateTraining, Unit
from protocols.training import MAX_EPOCHS
from tests.support.jobs import CREATED, a_dataset, a_training, an_evaluation, sgd
from tests.support.members import a_world

SHARED = {"mechanism": "shared_gradients", "colluders": 1, "nominal_rows": 300, "norm_bound": "1"}
SUMS = SHARED | {"mechanism": "noisy_sums"}
DIRECTORY = a_world().directory
ACCOUNT = "dataset/patients"


def a_private_training(**changes: Any) -> Job:
    """Sixty steps over all rows of three hospitals; the noise is what epsilon 1 needs at delta 1e-5, and a little more."""
    given: dict[str, Any] = {
        "mechanism": Mechanism.SHARED_GRADIENTS,
        "noise_multiplier": "29",
        "colluders": 1,
        "nominal_rows": 300,
        "nominal_people": 300,
        "epsilon": "1",
        "delta": "0.00001",
        "unit": Unit.ROW,
        "rows_per_person": 1,
        "norm_bound": "1",
        "canaries": 0,
    }
    terms = PrivateTraining(**given | changes)
    batch = 300 if terms.mechanism is Mechanism.SHARED_GRADIENTS else 30
    return a_training(training=replace(sgd(60, batch, "0.1"), privacy=terms))


def of_noisy_sums(**changes: Any) -> Job:
    return a_private_training(**{"mechanism": Mechanism.NOISY_SUMS, "noise_multiplier": "4"} | changes)


def a_request(**fields: Any) -> PrivacyRequest:
    return PrivacyRequest.model_validate(fields)


def terms_in(job: Job) -> PrivateTraining:
    assert job.training is not None
    assert job.training.privacy is not None
    return job.training.privacy


@pytest.fixture
def holdings() -> Holdings:
    limits: Mapping[str, Any] = {"min_evaluation_rows": 50, "max_rows": 1_000, "max_query_rows": 10, "servings": 0}
    limits = {**limits, "schemas": {}, "prepared": {}, "rows_per_person": {}}
    own = {"patients": a_dataset("hospital-a")}
    return Holdings("hospital-a", own, {}, max_servings=1, min_cell=5, resumed=None, **limits)


@pytest.mark.parametrize("job", [a_private_training(), of_noisy_sums()], ids=["shared gradients", "noisy sums"])
def test_sound_claim_is_a_sound_job_with_a_statement(job: Job) -> None:
    assert tuple(check(job)) == ()
    assert tuple(claim_problems(job)) == ()
    statement = statement_of(job)
    assert statement is not None
    assert (statement.epsilon, statement.delta, statement.relation, statement.unit) == ("1", "0.00001", "zero-out", "row")
    assert (statement.steps, statement.colluders, statement.owners) == (60, 1, 3)
    assert Decimal(statement.accounted_epsilon) <= Decimal(statement.epsilon)
    assert Decimal(statement.accounted_epsilon) < Decimal(statement.rdp_epsilon)
    assert "dp-accounting" in statement.accountant
    assert read_statement(statement.to_document()) == statement
    for word in ("1 at delta 0.00001", "zero-out", "one row", "1 of 3 owners"):
        assert word in statement.in_words()


def test_sampler_follows_from_the_mechanism() -> None:
    assert sampler_of(a_private_training()) == FullBatch(60)
    sampler = sampler_of(of_noisy_sums())
    assert isinstance(sampler, TruncatedPoisson)
    assert (str(sampler.rate), sampler.steps, sampler.overflow) == ("1/10", 60, 60 * 2.0**-60)


def test_training_without_terms_has_no_statement_and_says_so() -> None:
    assert statement_of(a_training()) is None
    assert tuple(claim_problems(a_training())) == ()
    assert privacy_in_words(a_training()) == privacy_in_short(a_training()) == NO_GUARANTEE


@pytest.mark.parametrize("make", [a_private_training, of_noisy_sums])
def test_claim_below_what_the_accountant_gives_is_refused_with_the_right_number(make: Any, holdings: Holdings) -> None:
    job = make(epsilon="0.5")
    (problem,) = claim_problems(job)
    assert problem.where == "training.privacy.epsilon"
    right = problem.remedy.split('"')[1]
    assert tuple(claim_problems(make(epsilon=right))) == ()
    assert len(tuple(claim_problems(make(epsilon=f"{Decimal(right) - Decimal('0.0001')}")))) == 1
    found = list(examine(job, directory=DIRECTORY, holdings=holdings, now=CREATED))
    assert (ErrorCode.INVALID_JOB, problem) in [(finding.code, finding.problem) for finding in found]
    with pytest.raises(ConfideError, match="claims more"):
        statement_of(job)
    assert privacy_in_words(job).startswith(NO_GUARANTEE)


@pytest.mark.parametrize("noise", ["0.1", "1"])
def test_impossible_budget_is_refused_and_not_computed_for_ever(noise: str) -> None:
    before = time.process_time()
    problem = next(iter(claim_problems(a_private_training(noise_multiplier=noise))))
    assert problem.where.startswith("training.privacy.")
    assert time.process_time() - before < 5


def test_claim_is_computed_once_for_all_who_ask() -> None:
    job = of_noisy_sums(noise_multiplier="3.9")
    tuple(claim_problems(job))
    before = time.process_time()
    for _ in range(20):
        tuple(claim_problems(replace(job, nonce="ab" * 16)))
    assert time.process_time() - before < 1


def test_true_numbers_of_rows_change_nothing_that_is_claimed() -> None:
    """A rate or a divisor from the realised number of rows would be another mechanism than the one that is accounted."""
    job = of_noisy_sums()
    sizes = (a_dataset("hospital-a", num_rows=90), a_dataset("hospital-b", num_rows=101), a_dataset("hospital-c", num_rows=77))
    assert statement_of(replace(job, datasets=sizes)) == statement_of(job)


@pytest.mark.parametrize(
    ("unit", "rows", "refused"),
    # 30,000 rows are of 30,000 people, of 10,000, and of 3,334: a tenth of 1 / people is above 0.00001 from 10,000 on.
    [(Unit.ROW, 1, True), (Unit.PERSON, 3, False), (Unit.PERSON, 2, True), (Unit.PERSON_EVERYWHERE, 1, False)],
)
def test_delta_is_refused_for_people_whom_the_agreed_number_leaves_out(unit: Unit, rows: int, refused: bool) -> None:
    job = a_private_training(unit=unit, rows_per_person=rows, nominal_people=100)
    large = replace(job, datasets=tuple(replace(dataset, num_rows=10_000) for dataset in job.datasets))
    assert not any(problem.where == "training.privacy.delta" for problem in check(job))
    found = list(check(large))
    assert [problem.where for problem in found] == (["training.privacy.delta"] if refused else [])
    assert all("training.privacy.nominal_rows and nominal_people say 300 and 100" in problem.what for problem in found)


def test_number_of_rows_of_a_person_is_said_to_be_declared() -> None:
    statement = statement_of(a_private_training(unit=Unit.PERSON))
    assert statement is not None
    assert "as the owners declare" in statement.in_words()


@pytest.mark.parametrize("colluders", [1, 2])
@pytest.mark.parametrize("mechanism", list(Mechanism))
def test_noise_of_who_does_not_collude_has_the_claimed_deviation_alone(mechanism: Mechanism, colluders: int) -> None:
    job = a_private_training(mechanism=mechanism, colluders=colluders)
    job = replace(job, dealer="dealer", computing_parties=("hospital-a", "hospital-b", "hospital-c"))
    drawn = (shared_gradients_design if mechanism is Mechanism.SHARED_GRADIENTS else noisy_sums_design)(job, 0)
    honest = len(contributors(job)) - colluders
    assert honest * drawn.deviation**2 >= (29 * drawn.sensitivity) ** 2
    noise = noise_of(job)
    # What is accounted is below what is drawn, by what rounding costs.
    assert Decimal("28.9999") < Decimal(noise.multiplier) <= Decimal(honest).sqrt() * drawn.deviation / drawn.sensitivity
    assert 0 < noise.distance < 2.0**-100


def test_rows_of_a_person_are_noise_and_not_epsilon() -> None:
    """The multiplier is in units of the sensitivity of the unit: more rows a person mean more noise, at the same epsilon."""
    enough = {"noise_multiplier": "9", "epsilon": "5"}
    people = {"rows_per_person": 3, "nominal_people": 100}
    one, three = a_private_training(**enough), a_private_training(unit=Unit.PERSON, **people, **enough)
    everywhere = a_private_training(unit=Unit.PERSON_EVERYWHERE, **people, **enough)
    noise = [shared_gradients_design(job, 0).deviation for job in (one, three, everywhere)]
    assert [round(each / noise[0]) for each in noise] == [1, 3, 9]
    found = [statement_of(job) for job in (one, three, everywhere)]
    assert len({each.accounted_epsilon for each in found if each is not None}) == 1


def test_noise_for_people_with_many_rows_can_be_drawn() -> None:
    """Twenty rows a person, of norm 1, with noise for epsilon 1: above 2^40 on the grid."""
    job = a_private_training(unit=Unit.PERSON, rows_per_person=20)
    assert shared_gradients_design(job, 0).deviation > 1 << 40
    assert tuple(claim_problems(job)) == ()
    assert noise_design(job).deviation == shared_gradients_design(job, 0).deviation


def test_more_noise_than_can_be_drawn_exactly_is_refused() -> None:
    (problem,) = claim_problems(a_private_training(noise_multiplier="9000", norm_bound="100"))
    assert (problem.where, "drawn exactly" in problem.what) == ("training.privacy.noise_multiplier", True)


@pytest.mark.parametrize("party", ["hospital-a", "hospital-b", "hospital-c"])
def test_private_training_charges_what_it_claims_to_every_owner(party: str) -> None:
    claimed = Amount(Decimal(1), Decimal("0.00001"), queries=1, answers=0)
    assert charges(a_private_training(), party) == {ACCOUNT: claimed}
    assert charges(a_training(), party) == {}


@pytest.mark.parametrize(
    ("caps", "broken"),
    [
        (Caps(epsilon=Decimal(1), delta=Decimal("0.00001")), 0),
        (Caps(epsilon=Decimal("0.99")), 1),
        (Caps(epsilon=Decimal(1), delta=Decimal("0.000001")), 1),
        (Caps(queries=0), 1),
    ],
)
def test_cap_on_epsilon_lets_a_private_training_through_that_fits(caps: Caps, broken: int) -> None:
    charged = charges(a_private_training(), "hospital-a")
    assert len(shortfalls((), job_id="one", kind="train", charges=charged, caps={ACCOUNT: caps})) == broken
    opened = {ACCOUNT: charges(an_evaluation(), "hospital-a")[ACCOUNT]}
    assert (len(shortfalls((), job_id="two", kind="evaluate", charges=opened, caps={ACCOUNT: caps})) > 0) == (caps != Caps())


@pytest.mark.parametrize(
    ("job", "cap", "refused"),
    [
        (a_private_training(), None, False),
        (a_training(), None, False),
        (a_private_training(), "1", False),
        (a_private_training(), "0.9", True),
        (a_training(), "50", True),
    ],
)
def test_cap_of_a_grant_or_agreement_holds_for_trainings(job: Job, cap: str | None, refused: bool) -> None:
    assert [problem.where for problem in over_epsilon(job, cap)] == (["epsilon_cap"] if refused else [])


def test_facts_of_a_private_and_of_a_plain_training() -> None:
    private = facts_of(a_private_training(epsilon="1.0001"), None, directory=DIRECTORY, agreement="")
    assert (private.guarantee, private.milli_epsilon, private.colluders) == ("zero-out", 1_001, 1)
    plain = facts_of(a_training(), None, directory=DIRECTORY, agreement="")
    assert (plain.guarantee, plain.milli_epsilon, plain.colluders) == ("none", UNBOUNDED, 0)
    other = facts_of(an_evaluation(), None, directory=DIRECTORY, agreement="")
    assert (other.guarantee, other.milli_epsilon) == ("", 0)


@pytest.mark.parametrize(("job", "said"), [(a_private_training(), "1 at delta 0.00001"), (a_training(), NO_GUARANTEE)])
def test_preview_says_epsilon_or_that_there_is_no_guarantee(job: Job, said: str) -> None:
    plan = derive_plan(job)
    made = make_preview(
        job,
        plan,
        estimate(plan, LOOPBACK),
        party="hospital-a",
        directory=DIRECTORY,
        agreement="",
        grants=(),
        ranges=(),
        budgets=(),
    )
    assert made.epsilon.startswith(said)
    assert type(made).from_bytes(made.to_bytes()) == made


@pytest.mark.parametrize(
    ("fields", "claimed"),
    [(SHARED | {"epsilon": "2"}, "2"), (SHARED | {"max_tpr": "0.02", "at_fpr": "0.01"}, None), (SUMS | {"epsilon": "1"}, "1")],
    ids=["epsilon", "attack", "noisy sums"],
)
def test_request_with_a_limit_becomes_a_claim_that_holds(fields: dict[str, Any], claimed: str | None) -> None:
    batch = 300 if fields["mechanism"] == "shared_gradients" else 30
    job = with_privacy(a_training(training=sgd(60, batch, "0.1")), a_request(**fields))
    assert tuple(check(job)) == ()
    assert tuple(claim_problems(job)) == ()
    terms, statement = terms_in(job), statement_of(job)
    assert statement is not None
    assert terms.delta == delta_for(300) == "0.00001"
    assert terms.nominal_people == 300
    if claimed is None:
        assert Decimal(statement.tpr_at_1_percent) <= Decimal("0.02")
    else:
        assert terms.epsilon == claimed
    # No more noise than that takes: a hundredth less breaks the limit.
    less = f"{Decimal(terms.noise_multiplier) * Decimal('0.99'):.3f}"
    weaker = with_privacy(job, a_request(**_without_limit(fields), noise_multiplier=less))
    found = statement_of(weaker)
    assert found is not None
    assert (Decimal(found.tpr_at_1_percent) > Decimal("0.02")) if claimed is None else Decimal(found.epsilon) > Decimal(claimed)


def _without_limit(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in ("epsilon", "max_tpr", "at_fpr")}


@pytest.mark.parametrize(
    "fields",
    [
        SHARED,
        SHARED | {"epsilon": "1", "noise_multiplier": "3"},
        SHARED | {"epsilon": "1", "max_tpr": "0.02", "at_fpr": "0.01"},
        SHARED | {"max_tpr": "0.02"},
        SHARED | {"epsilon": "1", "at_fpr": "0.01"},
        SHARED | {"epsilon": 1.0},
        SHARED | {"epsilon": "1", "seed": 3},
        SHARED | {"epsilon": "1", "mechanism": "shuffled"},
    ],
)
def test_request_with_no_limit_several_or_half_a_one_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        a_request(**fields)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"epsilon": "1", "colluders": 3}, "training.privacy.colluders"),
        ({"epsilon": "1", "delta": "0.01"}, "training.privacy.delta"),
        ({"epsilon": "1", "norm_bound": "0"}, "training.privacy.norm_bound"),
        ({"epsilon": "1", "unit": "row", "rows_per_person": 2}, "training.privacy.rows_per_person"),
        ({"noise_multiplier": "0.2"}, "training.privacy.noise_multiplier"),
    ],
)
def test_request_whose_terms_protect_nobody_is_refused_where_it_is_wrong(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfideError) as caught:
        with_privacy(a_training(training=sgd(60, 300, "0.1")), a_request(**SHARED | fields))
    assert where in [problem.where for problem in caught.value.problems]


def test_request_for_one_institution_is_refused() -> None:
    alone = a_training(training=sgd(60, 300, "0.1"), datasets=(a_dataset("hospital-a"),))
    with pytest.raises(ConfideError) as caught:
        with_privacy(alone, a_request(**SHARED, epsilon="1"))
    assert "datasets" in [problem.where for problem in caught.value.problems]


@pytest.mark.parametrize(("people", "delta"), [(2, "0.00001"), (10_000, "0.00001"), (30_000, "0.000003333")])
def test_delta_of_a_request_that_says_nothing_follows_from_the_number_of_people(people: int, delta: str) -> None:
    assert delta_for(people) == delta
    assert Decimal(delta) * people <= Decimal("0.1")


REQUEST = """api_version: confide/v1
type: train
computing_parties: [hospital-a, hospital-b]
dealer: hospital-c
datasets: [hospital-a/train]
model_name: diagnosis
manifest: model.json
weights: model.safetensors
training:
  epochs: 60
  learning_rate: "0.5"
  privacy: {mechanism: shared_gradients, colluders: 1, nominal_rows: 300, norm_bound: "1", max_tpr: "0.02", at_fpr: "0.01"}
"""


def test_request_file_reads_the_block_and_trains_on_all_rows_without_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "request.yaml").write_text(REQUEST)
    request = read_request(tmp_path / "request.yaml")
    assert isinstance(request, TrainRequest)
    training = request.training.training(task=Task.BINARY, shuffle_seed="ab" * 16, steps_before=0)
    assert (training.batch_size, training.epochs, training.checkpoints.every_epochs) == (300, 60, 0)
    assert request.training.privacy is not None


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('max_tpr: "0.02", at_fpr: "0.01"', "", "training.privacy"),
        ('at_fpr: "0.01"', "at_fpr: 0.01", "training.privacy.at_fpr"),
        ("mechanism: shared_gradients", "mechanism: noisy_sums", "training"),
        ('norm_bound: "1"', 'norm_bound: "-1"', "training.privacy.norm_bound"),
        ("nominal_rows: 300", "nominal_rows: 1", "training.privacy.nominal_rows"),
        ("  epochs: 60\n", "  epochs: 60\n  checkpoints: {every_epochs: 1}\n", "training"),
    ],
)
def test_request_file_with_a_faulty_block_is_refused_with_line_and_field(tmp_path: Path, old: str, new: str, where: str) -> None:
    (tmp_path / "request.yaml").write_text(REQUEST.replace(old, new))
    with pytest.raises(ConfideError) as caught:
        read_request(tmp_path / "request.yaml")
    (problem,) = caught.value.problems
    assert problem.where.endswith(f" {where}")
    assert problem.remedy


@pytest.mark.parametrize(
    "change",
    [{"epsilon": 1}, {"steps": "60"}, {"unit": "family"}, {"mechanism": "shuffled"}, {"extra": "x"}, {"relation": "add-remove"}],
)
def test_statement_of_another_form_is_not_read(change: dict[str, Any]) -> None:
    statement = statement_of(a_private_training())
    assert isinstance(statement, PrivacyStatement)
    with pytest.raises(ValueError, match=r"."):
        read_statement(statement.to_document() | change)


def test_private_training_may_have_as_many_steps_as_its_accountant_and_its_plan_take() -> None:
    private = a_private_training()
    assert private.training is not None
    most = replace(private, training=replace(private.training, epochs=MAX_PRIVATE_STEPS))
    assert not [problem for problem in check(most) if problem.where == "training.epochs"]
    assert noise_design(most).steps == MAX_PRIVATE_STEPS
    more = replace(private, training=replace(private.training, epochs=MAX_PRIVATE_STEPS + 1))
    assert [problem.where for problem in check(more)] == ["training.epochs"]
    plain = a_training(training=sgd(MAX_EPOCHS + 1, 30, "0.1"))
    assert [problem.where for problem in check(plain)] == ["training.epochs"]


def test_grant_may_permit_as_many_private_steps_and_no_more() -> None:
    assert not list(check_parameter_limits("", ParameterLimits(max_epochs=MAX_PRIVATE_STEPS)))
    assert list(check_parameter_limits("", ParameterLimits(max_epochs=MAX_PRIVATE_STEPS + 1)))
