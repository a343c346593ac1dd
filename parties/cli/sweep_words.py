"""What `confide privacy sweep` prints: what it will charge, and the front, for people and for the JSON formats."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from parties.cli.output import Json, table

if TYPE_CHECKING:
    from governance.budget.amounts import Amount
    from parties.client.sweep import Charge, SweepEnd, SweepPlan, SweepRequest
    from parties.client.sweep_rows import SweepRow
    from privacy.figures import Figure

NOT_KNOWN = "-"


def charges_in_words(plan: SweepPlan) -> str:
    """Returns what the jobs that are left will charge, for people: a line for each account of each owner."""
    lines = [
        (
            charge.party,
            charge.account,
            _epsilon_in_words(charge),
            f"{charge.total.delta:f}",
            f"{charge.total.queries}",
            f"{charge.total.answers}",
        )
        for charge in plan.charges
    ]
    text = table(("party", "account", "epsilon", "delta", "queries", "answers"), lines)
    parts = [f"This sweep will charge, if all of its jobs are done:\n{text}"]
    if any(charge.outputs.epsilon is None for charge in plan.charges):
        exact = "Evaluations and assessments" if plan.request.evaluation.noise == "0" else "Assessments"
        parts.append(f"{exact} open numbers without noise: accounts with a cap on epsilon refuse them.")
    return "\n".join(parts)


def _epsilon_in_words(charge: Charge) -> str:
    if charge.outputs.epsilon is not None:
        return charge.total.epsilon_in_words
    return f"{charge.trainings.epsilon_in_words} and no bound" if charge.trainings.queries else "no bound"


def sweep_in_words(plan: SweepPlan, end: SweepEnd) -> str:
    """Returns the table of the front for people, and below it what the whole sweep was charged."""
    request = plan.request
    heads = ["", "model", "epsilon", "delta", "noise", "norm bound", request.utility]
    heads += ["TPR at 1 % FPR"] if request.assessment is not None else []
    heads += [request.gap] if request.gap else []
    lines = []
    for row, is_best in zip(end.rows, optimal(request, end.rows), strict=True):
        cells = ["*" if is_best else "", row.model or f"{row.name} (not trained)", row.epsilon, row.delta]
        cells += [row.noise_multiplier, row.norm_bound, _in_words(request.utility_of(row))]
        cells += [_in_words(request.attack_of(row))] if request.assessment is not None else []
        cells += [_in_words(request.gap_of(row))] if request.gap else []
        lines.append(cells)
    made = (*end.rows, *plan.others)
    epsilon, delta = charged(made)
    trainings = sum(row.begun for row in made)
    return "\n".join(
        [
            table(heads, lines),
            "",
            *_protected(request),
            "*: none of the others is as good in every way and better in one, by the estimates, not by their intervals (95 %).",
            f"{NOT_KNOWN}: not measured, or withheld for too few rows; it counts as the worst.",
            f"charged to every owner for all {trainings} trainings of this sweep, at most: epsilon {epsilon:f}, delta {delta:f}.",
            "Whoever chooses a row for its figures has used the whole of that, not the row's epsilon.",
            *_noise_note(request),
        ]
    )


def _protected(request: SweepRequest) -> tuple[str, ...]:
    """Returns for whom the epsilons hold: the same in all trainings, which differ in their limit and norm bound alone."""
    from privacy.accounting.statement import protected_in_words
    from protocols.private_training import Unit

    training = next(iter(request.trainings.values()))
    terms, owners = training.training.privacy, len({name.partition("/")[0] for name in training.datasets})
    if terms is None:
        return ()
    words = protected_in_words(Unit(terms.unit), rows=terms.rows_per_person, colluders=terms.colluders, owners=owners)
    return (f"every epsilon: {words}.",)


def _noise_note(request: SweepRequest) -> tuple[str, ...]:
    noise = request.evaluation.noise
    told = f"Evaluations have noise of deviation {noise} at least on each number; each is charged to the rows held out."
    return () if noise == "0" else (told,)


def describe_sweep(plan: SweepPlan, end: SweepEnd, *, kept_in: str) -> dict[str, Json]:
    """Returns a sweep for the JSON formats."""
    request = plan.request
    made = (*end.rows, *plan.others)
    epsilon, delta = charged(made)
    rows: list[Json] = [
        {
            "name": row.name,
            "model": row.model or None,
            "epsilon": row.epsilon,
            "delta": row.delta,
            "noise_multiplier": row.noise_multiplier,
            "norm_bound": row.norm_bound,
            "utility": _described(request.utility_of(row)),
            "attack": _described(request.attack_of(row)),
            "gap": _described(request.gap_of(row)),
            "pareto_optimal": is_best,
            "jobs": {step.value: job for step, job in row.jobs.items()},
            "done": [step.value for step in row.done],
        }
        for row, is_best in zip(end.rows, optimal(request, end.rows), strict=True)
    ]
    charges: list[Json] = [
        {
            "party": charge.party,
            "account": charge.account,
            "trainings": _amount(charge.trainings),
            "outputs": _amount(charge.outputs),
        }
        for charge in plan.charges
    ]
    return {
        "measures": {"utility": request.utility, "gap": request.gap or None, "attack": _attack(request)},
        "rows": rows,
        "planned_charges": charges,
        "charged_at_most": {"epsilon": f"{epsilon:f}", "delta": f"{delta:f}", "trainings": sum(row.begun for row in made)},
        "kept_in": kept_in,
        "is_complete": end.failure is None,
    }


def optimal(request: SweepRequest, rows: tuple[SweepRow, ...]) -> tuple[bool, ...]:
    """Returns of each row whether it is on the front; a row that is not complete is not, and takes part in no comparison."""
    from privacy.utility.front import Candidate, front

    complete = [row for row in rows if set(request.steps) <= set(row.done)]
    candidates = [
        Candidate(Decimal(row.epsilon), request.utility_of(row), request.attack_of(row), request.gap_of(row)) for row in complete
    ]
    best = {row.name for row, is_best in zip(complete, front(candidates), strict=True) if is_best}
    return tuple(row.name in best for row in rows)


def charged(rows: tuple[SweepRow, ...]) -> tuple[Decimal, Decimal]:
    """Returns the sums of epsilon and delta of all trainings that were submitted."""
    epsilon = sum((row.begun * Decimal(row.epsilon) for row in rows), Decimal(0))
    return epsilon, sum((row.begun * Decimal(row.delta) for row in rows), Decimal(0))


def _in_words(figure: Figure | None) -> str:
    if figure is None:
        return NOT_KNOWN
    interval = f" [{figure.low:.3f}, {figure.high:.3f}]" if figure.low < figure.high else ""
    return f"{figure.value:.3f}{interval}"


def _described(figure: Figure | None) -> Json:
    return None if figure is None else [round(number, 6) for number in (figure.value, figure.low, figure.high)]


def _amount(amount: Amount) -> Json:
    return dict(amount.to_facts())


def _attack(request: SweepRequest) -> Json:
    return None if request.assessment is None else f"membership.{request.assessment.attack}.tpr_at_1_percent"
