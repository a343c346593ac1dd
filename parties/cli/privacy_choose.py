"""`confide privacy choose` and `account`: noise from a limit, and what noise gives; both in the terms of a request."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported
from protocols.errors import ConfideError, ErrorCode

if TYPE_CHECKING:
    from privacy.accounting.accountant import Guarantee
    from privacy.accounting.samplers import Sampler


class MechanismName(Enum):
    """The mechanisms of a request."""

    SHARED_GRADIENTS = "shared_gradients"
    NOISY_SUMS = "noisy_sums"


MechanismOption = Annotated[
    MechanismName, typer.Option("--mechanism", help="All rows in every step, or private samples of them.")
]
StepsOption = Annotated[int, typer.Option("--steps", min=1, max=10_000, help="Of the training.")]
RowsOption = Annotated[
    int | None, typer.Option("--nominal-rows", min=2, help="Agreed rows over all owners; noisy_sums needs it, and delta.")
]
BatchOption = Annotated[int | None, typer.Option("--batch-size", min=1, help="noisy_sums: rows expected in a step.")]
DeltaOption = Annotated[
    str | None, typer.Option("--delta", help="A decimal; else a tenth of 1 / nominal rows, and never above 0.00001.")
]


@reported
def choose(
    *,
    mechanism: MechanismOption,
    steps: StepsOption,
    nominal_rows: RowsOption = None,
    batch_size: BatchOption = None,
    max_tpr: Annotated[str | None, typer.Option("--max-tpr", help="The most members that any attack may find.")] = None,
    at_fpr: Annotated[str | None, typer.Option("--at-fpr", help="At so many false alarms, for example 0.01.")] = None,
    epsilon: Annotated[str | None, typer.Option("--epsilon", help="The limit in place of the two.")] = None,
    delta: DeltaOption = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Find the least noise that keeps a limit: on what any attack may find, or on epsilon."""
    from privacy.accounting.calibration import choose_noise, choose_noise_for_attack

    if (max_tpr is None) != (at_fpr is None) or (max_tpr is None) == (epsilon is None):
        what = "the limit is --max-tpr with --at-fpr, or --epsilon"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Give one of them.")
    sampler, wanted = _sampler(mechanism, steps, nominal_rows, batch_size), _delta(delta, nominal_rows)
    if epsilon is not None:
        noise = choose_noise(sampler, epsilon=epsilon, delta=wanted)
    else:
        noise = choose_noise_for_attack(sampler, max_tpr=max_tpr or "", at_fpr=at_fpr or "")
    _report(sampler, noise, wanted, output_format)


@reported
def account(
    *,
    mechanism: MechanismOption,
    steps: StepsOption,
    noise_multiplier: Annotated[str, typer.Option("--noise-multiplier", help="In units of the sensitivity; a decimal.")],
    nominal_rows: RowsOption = None,
    batch_size: BatchOption = None,
    delta: DeltaOption = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Say what noise gives: epsilon, and the most that any attack can find."""
    sampler = _sampler(mechanism, steps, nominal_rows, batch_size)
    _report(sampler, noise_multiplier, _delta(delta, nominal_rows), output_format)


def _sampler(mechanism: MechanismName, steps: int, rows: int | None, batch: int | None) -> Sampler:
    from privacy.accounting.samplers import FullBatch, PrivatePoisson

    if mechanism is MechanismName.SHARED_GRADIENTS:
        return FullBatch(steps)
    if rows is None or batch is None:
        what = "noisy_sums samples --batch-size of --nominal-rows, at most half of them"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Give both.")
    if 2 * batch > rows:
        what = f"noisy_sums samples at most half of the rows, and {batch} are more than half of {rows}"
        remedy = f"Write --batch-size {rows // 2} or less, or more --nominal-rows if they are agreed."
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy=remedy)
    return PrivatePoisson(Fraction(batch, rows), steps)


def _delta(delta: str | None, rows: int | None) -> str:
    from parties.client.private_request import delta_for
    from privacy.accounting.accountant import read_number

    if delta is None and rows is None:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "delta follows from --nominal-rows", remedy="Give either of them.")
    if delta is None:
        return delta_for(rows or 1)
    # As of a request: who published one person of all outright would keep to a larger one.
    if rows is not None and read_number("delta", delta, least="0.000000000001", most="0.1") * rows > Decimal("0.1"):
        what = f"with {rows} people delta must be at most one tenth of 1 / {rows}, and {delta[:32]} is more"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy=f"Write {delta_for(rows)}, or leave it out.")
    return delta


def _report(sampler: Sampler, noise: str, delta: str, output_format: OutputFormat) -> None:
    from privacy.accounting.accountant import guarantee
    from protocols.private_training import RELATION

    found = guarantee(sampler, noise_multiplier=noise, delta=delta, distance=0.0)
    data: dict[str, Json] = {"noise_multiplier": noise, "delta": delta, "relation": RELATION, **_describe(found)}
    lines = [
        f"noise multiplier: {noise}",
        f"epsilon: {found.epsilon} at delta {delta}, {RELATION}, for one unit (by Renyi accounting {found.rdp_epsilon})",
        f"no attack finds more than {found.tpr_at_1_percent * 100:.2f} % of members at 1 % false alarms,"
        f" {found.tpr_at_0_1_percent * 100:.3f} % at 0.1 %; its advantage is at most {found.advantage * 100:.1f} %",
    ]
    Output(output_format).result(data, "\n".join(lines))


def _describe(found: Guarantee) -> dict[str, Json]:
    return {
        "epsilon": f"{found.epsilon:f}",
        "rdp_epsilon": f"{found.rdp_epsilon:f}",
        "tpr_at_1_percent": f"{found.tpr_at_1_percent:f}",
        "tpr_at_0_1_percent": f"{found.tpr_at_0_1_percent:f}",
        "advantage": f"{found.advantage:f}",
    }
