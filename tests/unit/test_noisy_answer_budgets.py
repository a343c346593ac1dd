"""What answers with noise spend, of whom, and what owners may demand and cap."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from governance.budget.amounts import Amount, charges, policy_caps, served
from governance.budget.ledger import reserve
from governance.consent.covering import over_epsilon
from governance.consent.limits import OutputRule, check_output_rules, read_output_rule
from governance.policy.budgets import Budgets, Caps, check_budgets
from governance.preview import constraint_in_words
from parties.client.answer_request import AnswerFields, answer_output
from parties.client.requests import InferRequest, ReleaseRequest, SummariseRequest, read_request
from parties.client.warm import _serves
from parties.policy_file import load_policy
from privacy.accounting.noisy_answers import DELTA, least_epsilon, profile, spent_by, spent_in_words
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job, JobType, Output, OutputKind, Task
from protocols.job_parts import Serving
from protocols.model.layers import Linear, Softmax
from protocols.model.spec import ModelSpec
from tests.support.ledgers import NOW
from tests.support.mpc_world import a_job, a_model
from tests.support.released import a_release

KIND = OutputKind
MODEL, ALICE = "model/risk@000000000000", "consumer/researcher/risk@000000000000"


def an_output(kind: OutputKind = KIND.PROBABILITY, **constraint: object) -> Output:
    return Output("answer", kind, "researcher", **constraint)  # type: ignore[arg-type]


def noisy(kind: OutputKind = KIND.PROBABILITY, noise: str = "5", **constraint: object) -> Output:
    return an_output(kind, noise=noise, noise_colluders=1, **constraint)


def an_inference(output: Output, *, rows: int = 10) -> Job:
    return a_job(JobType.INFER, model=a_model(4), query_rows=rows, wanted=(output,))


# The accountant.


@pytest.mark.parametrize(
    ("ratio", "delta", "epsilon"),
    [
        # The first is the usual figure of the normal mechanism of deviation 1 and sensitivity 1.
        (1.0, 1e-5, 4.3772),
        (0.1, 1e-9, 0.5351),
    ],
)
def test_least_epsilon_is_that_of_the_normal_mechanism(ratio: float, delta: float, epsilon: float) -> None:
    found = least_epsilon(ratio, delta)
    assert found is not None
    assert profile(ratio, found) <= delta < profile(ratio, found * (1 - 1e-3))
    assert found == pytest.approx(epsilon, abs=2e-4)


def test_least_epsilon_is_no_more_than_that_of_concentrated_privacy() -> None:
    """rho = u^2 / 2 gives epsilon <= rho + 2 sqrt(rho ln(1 / delta)) (Bun and Steinke 2016), which is less tight."""
    for ratio in (0.01, 0.1, 0.5, 1, 3, 8):
        rho, found = ratio**2 / 2, least_epsilon(ratio, 1e-9)
        assert found is not None
        assert found <= rho + 2 * math.sqrt(rho * math.log(1e9))
    assert least_epsilon(100, 1e-9) is None


def test_answers_of_a_job_compose_as_one_wider_mechanism() -> None:
    one = spent_by(an_inference(noisy(noise="10"), rows=1), noisy(noise="10"))
    hundred = spent_by(an_inference(noisy(noise="100"), rows=100), noisy(noise="100"))
    assert one is not None
    assert hundred is not None
    # sqrt(100) answers at ten times the deviation; rounding up of the deviation and of the last place remain.
    assert abs(one.epsilon - hundred.epsilon) <= Decimal("0.0002")
    ideal = least_epsilon(1 / 10, float(DELTA) / 2)
    assert ideal is not None
    assert 0 <= float(one.epsilon) - ideal < 2e-4


def test_epsilon_counts_every_number_of_a_sample_and_a_mean_once() -> None:
    job = an_inference(noisy(noise="20"), rows=25)
    classes = replace(job, task=Task.CLASSES, model=ModelSpec.chain(4, linear=Linear(4), last=Softmax()))
    several, single = spent_by(classes, noisy(noise="20")), spent_by(job, noisy(noise="20"))
    mean = spent_by(job, noisy(KIND.MEAN, noise="20", min_cell=5))
    assert several is not None
    assert single is not None
    assert mean is not None
    assert mean.epsilon < single.epsilon < several.epsilon
    expected = least_epsilon(math.sqrt(25 * 4) / 20, float(DELTA) / 2)
    assert expected is not None
    assert float(several.epsilon) == pytest.approx(expected, abs=2e-4)


def test_without_noise_or_with_too_little_there_is_no_epsilon() -> None:
    assert spent_by(an_inference(an_output()), an_output()) is None
    assert spent_by(an_inference(noisy(noise="0.01")), noisy(noise="0.01")) is None
    assert spent_in_words(an_inference(an_output())) == ""
    assert "all rows" in spent_in_words(an_inference(noisy()))


# Charges.


def test_noisy_answers_charge_the_model_and_its_consumer() -> None:
    job = an_inference(noisy())
    spent = spent_by(job, job.outputs[0])
    assert spent is not None
    amount = Amount(spent.epsilon.normalize(), DELTA, 1, 10)
    assert charges(job, "alpha") == {ALICE: amount, MODEL: amount}
    assert charges(job, job.dealer) == {}


def test_answers_without_noise_charge_the_consumer_too_and_break_its_cap_on_epsilon() -> None:
    exact = charges(an_inference(an_output()), "alpha")
    assert exact[ALICE] == exact[MODEL] == Amount(None, Decimal(0), 1, 10)
    caps = {ALICE: Caps(epsilon=Decimal(5)), MODEL: Caps()}
    entries = reserve([], job_id="a" * 32, kind="infer", charges=charges(an_inference(noisy()), "alpha"), caps=caps, now=NOW)
    with pytest.raises(ConfideError) as caught:
        reserve(entries, job_id="b" * 32, kind="infer", charges=exact, caps=caps, now=NOW)
    assert caught.value.code is ErrorCode.BUDGET_EXHAUSTED


def test_what_a_serving_has_used_is_part_of_what_it_was_charged() -> None:
    serving = Serving(block_rows=4, max_queries=10, max_rows=40, idle_s=60, lifetime_s=600, rekey_s=600)
    job = a_job(JobType.SERVE, model=a_model(4), serving=serving, wanted=(noisy(),))
    charged, used = charges(job, "alpha"), served(job, "alpha", queries=2, rows=7)
    assert set(charged) == set(used) == {ALICE, MODEL}
    for account, amount in charged.items():
        rest = amount.less(used[account])
        assert rest.answers == 33
        assert rest.epsilon is not None
        assert rest.epsilon > 0
    nothing = served(job, "alpha", queries=0, rows=0)[MODEL]
    assert (nothing.epsilon, nothing.delta, nothing.answers) == (0, 0, 0)


def test_release_charges_every_parameter_without_bound() -> None:
    job = a_release()
    amount = Amount(None, Decimal(0), 1, 5)
    accounts = (f"consumer/{job.querier}/diagnosis@0123456789ab", "model/diagnosis@0123456789ab")
    assert charges(job, "hospital-a") == dict.fromkeys(accounts, amount)
    assert charges(job, "hospital-c") == {}


def test_caps_of_a_consumer_hold_for_each_model() -> None:
    named = Caps(queries=3, answers=9, epsilon=Decimal(2))
    budgets = Budgets(consumers={"alice": named}, default_consumer=Caps(epsilon=Decimal(1)))
    assert policy_caps(budgets, "consumer/alice/risk@000000000000") == named
    assert policy_caps(budgets, "consumer/bob/risk@000000000000").epsilon == 1
    assert Budgets().of_consumer("alice").epsilon is None
    for account in ("consumer/alice", "consumer/alice/risk", "consumer/Al ice/risk@000000000000"):
        with pytest.raises(ConfideError):
            policy_caps(budgets, account)
    assert [p.where for p in check_budgets(Budgets(consumers={"al ice": named}))] == ["budgets.consumers.al ice"]


def test_policy_file_caps_consumers(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        "api_version: confide.policy/1\notherwise: {decision: automatic}\nbudgets:\n"
        '  consumers: {alice: {epsilon: "2.5", delta: "0.000001"}}\n  default_consumer: {queries: 7}\n'
    )
    budgets = load_policy(path).budgets
    assert budgets.of_consumer("alice").epsilon == Decimal("2.5")
    assert budgets.of_consumer("bob").queries == 7


def test_cap_on_epsilon_of_a_permission_counts_noisy_answers() -> None:
    job = an_inference(noisy())
    spent = spent_by(job, job.outputs[0])
    assert spent is not None
    assert not list(over_epsilon(job, format(spent.epsilon, "f")))
    assert [p.where for p in over_epsilon(job, format(spent.epsilon - Decimal("0.0001"), "f"))] == ["epsilon_cap"]
    assert [p.where for p in over_epsilon(an_inference(an_output()), "100")] == ["epsilon_cap"]


# What a grant may demand.


@pytest.mark.parametrize(
    ("rule", "output", "broken"),
    [
        (OutputRule(KIND.LABEL, noise="1", noise_colluders=1), noisy(KIND.LABEL, noise="1.0"), []),
        (OutputRule(KIND.LABEL, noise="1", noise_colluders=1), noisy(KIND.LABEL, noise="0.9"), ["outputs.label.noise"]),
        (OutputRule(KIND.LABEL, noise="1", noise_colluders=2), noisy(KIND.LABEL, noise="9"), ["outputs.label.noise"]),
        (OutputRule(KIND.LABEL, abstain_below="0.7"), an_output(KIND.LABEL, abstain_below="0.7"), []),
        (OutputRule(KIND.LABEL, abstain_below="0.7"), an_output(KIND.LABEL), ["outputs.label.abstain_below"]),
        (OutputRule(KIND.SCORE, abstain_beyond="0.5"), an_output(KIND.SCORE, abstain_beyond="0.50"), []),
        (OutputRule(KIND.SCORE, abstain_beyond="0.5"), an_output(KIND.SCORE, abstain_beyond="0.4"), []),
        (
            OutputRule(KIND.SCORE, abstain_beyond="0.5"),
            an_output(KIND.SCORE, abstain_beyond="0.6"),
            ["outputs.score.abstain_beyond"],
        ),
        (OutputRule(KIND.LABEL, abstain_beyond="0.5"), an_output(KIND.LABEL), ["outputs.label.abstain_beyond"]),
        (OutputRule(KIND.LABEL), an_output(KIND.LABEL, abstain_beyond="0.9"), []),
        (OutputRule(KIND.MEAN, min_cell=30), an_output(KIND.MEAN, min_cell=30), []),
        (OutputRule(KIND.MEAN, min_cell=30), an_output(KIND.MEAN, min_cell=29), ["outputs.mean.min_cell"]),
    ],
)
def test_rule_demands_noise_abstention_and_the_least_group(rule: OutputRule, output: Output, broken: list[str]) -> None:
    assert [problem.where for problem in rule.problems(output)] == broken
    assert not list(check_output_rules("outputs", (rule,)))


def test_rule_without_demands_is_written_as_before_and_others_come_back_whole() -> None:
    plain = OutputRule(KIND.PROBABILITY, decimals=2)
    assert set(plain.to_document()) == {"kind", "min_cell", "top_k", "decimals", "clip"}
    for rule in (
        plain,
        OutputRule(KIND.LABEL, noise="1", noise_colluders=1),
        OutputRule(KIND.LABEL, abstain_below="0.5"),
        OutputRule(KIND.VALUE, abstain_beyond="0.5"),
    ):
        problems: list[Problem] = []
        assert read_output_rule(rule.to_document(), where="outputs.0", problems=problems) == rule
        assert not problems
    half = dict(OutputRule(KIND.LABEL, noise="1", noise_colluders=1).to_document())
    del half["noise_colluders"]
    problems = []
    read_output_rule(half, where="outputs.0", problems=problems)
    assert [problem.where for problem in problems] == ["outputs.0.noise_colluders"]


@pytest.mark.parametrize(
    "rule",
    [
        OutputRule(KIND.SCORE, noise="1", noise_colluders=1),
        OutputRule(KIND.LABEL, noise="1"),
        OutputRule(KIND.LABEL, noise_colluders=1),
        OutputRule(KIND.LABEL, noise="0.00001", noise_colluders=1),
        OutputRule(KIND.SCORE, abstain_below="0.5"),
        OutputRule(KIND.LABEL, abstain_below="2"),
        OutputRule(KIND.LABEL, abstain_beyond="1.5"),
        OutputRule(KIND.LABEL, abstain_beyond="near"),
        OutputRule(KIND.MEAN, abstain_beyond="0.5"),
    ],
)
def test_rule_that_means_nothing_is_refused(rule: OutputRule) -> None:
    assert list(check_output_rules("outputs", (rule,)))


# What a researcher writes, and what people read.


def test_requests_ask_for_noise_against_all_but_one_unless_they_say_otherwise(tmp_path: Path) -> None:
    head = "api_version: confide/v1\ncomputing_parties: [a, b, c]\ndealer: d\n"
    path = tmp_path / "job.yaml"
    path.write_text(head + 'type: infer\nmodel: m@live\nsamples: s.csv\noutput: mean\nnoise: "2"\nmin_cell: 30\n')
    request = read_request(path)
    assert isinstance(request, InferRequest)
    names = dict.fromkeys(KIND, "prediction")
    output = answer_output(request, task=Task.BINARY, names=names, recipient="alice", computing=3)
    assert (output.kind, output.noise, output.noise_colluders, output.min_cell) == (KIND.MEAN, "2", 2, 30)
    plain = answer_output(AnswerFields(), task=Task.REAL, names=names, recipient="alice", computing=3)
    assert plain == Output("prediction", KIND.VALUE, "alice")
    path.write_text(head + "type: release\nmodel: m@0123456789ab\n")
    assert isinstance(read_request(path), ReleaseRequest)
    path.write_text(head + 'type: summarise\ndatasets: [a/x]\ngroups: labels\nnoise: "3"\nnoise_colluders: 1\n')
    summary = read_request(path)
    assert isinstance(summary, SummariseRequest)
    assert (summary.noise, summary.noise_colluders) == ("3", 1)
    path.write_text(head + "type: nothing\n")
    with pytest.raises(ConfideError) as caught:
        read_request(path)
    assert caught.value.code is ErrorCode.INVALID_JOB
    assert "release" in caught.value.problems[0].remedy


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (noisy(KIND.LABEL), "the class only; noise of deviation 5 on each number, against 1 who pool"),
        (an_output(KIND.LABEL, abstain_below="0.7"), "the class only; no answer for samples below 0.7"),
        (
            an_output(KIND.LABEL, abstain_beyond="0.5"),
            "the class only; no answer for samples farther than 0.5 from the middle of their ranges",
        ),
        (an_output(KIND.MEAN, min_cell=30), "the mean over the query's samples only, of at least 30"),
        (Output("w", KIND.WEIGHTS, "alice"), "every parameter of the model, for good"),
        (
            noisy(KIND.GROUP_MEANS, min_cell=5),
            "sums and sizes of groups; none with a noisy size below 5; "
            "noise of the rows' owners of deviation 5 on each number, against 1 who pool",
        ),
        (
            noisy(KIND.CONFUSION, min_cell=5),
            "no count that is below 5 with its noise; "
            "noise of the rows' owners of deviation 5 on each number, against 1 who pool",
        ),
        (
            noisy(KIND.CORRECT_COUNT, min_cell=1),
            "all counts; noise of the rows' owners of deviation 5 on each number, against 1 who pool",
        ),
    ],
)
def test_preview_says_what_noise_and_abstention_leave(output: Output, words: str) -> None:
    assert constraint_in_words(output) == words


def test_question_without_noise_is_not_put_to_a_serving_with_noise() -> None:
    serving = Serving(block_rows=4, max_queries=10, max_rows=40, idle_s=60, lifetime_s=600, rekey_s=600)
    job = a_job(JobType.SERVE, model=a_model(4), serving=serving, wanted=(noisy(KIND.LABEL),))
    model = "risk@000000000000"
    assert _serves(job, model, noisy(KIND.LABEL, noise="5.0"))
    others = (
        an_output(KIND.LABEL),
        noisy(KIND.LABEL, noise="4"),
        noisy(KIND.LABEL, abstain_below="0.7"),
        noisy(KIND.LABEL, abstain_beyond="0.7"),
    )
    for other in others:
        assert not _serves(job, model, other)
