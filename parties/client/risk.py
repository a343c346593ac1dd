"""Assessments that a client asks for, and what it makes of the counts that they open. `assess` is a method of `Client`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from parties.client.failures import raises_typed
from parties.client.placement import Placement
from privacy.risk.joint import risk_of as risk_of

if TYPE_CHECKING:
    from parties.client.client import Client
    from parties.client.handle import JobHandle

# Of log likelihood ratios: guessing has its middle at 0; few rows of a model without secrets reach 4.
_LIRA = [number / 4 for number in range(-16, 16)] + [number / 2 for number in range(8, 25)]
# Of log p less the logarithm of the shadows' mean p: at most log 2 if all shadows with the row are sure of it.
_RMIA = [number / 20 for number in range(-40, 24)]


def usual_thresholds(attack: str) -> tuple[str, ...]:
    """Returns the thresholds of the score at which an attack's members and others are counted if a request names none."""
    return tuple(f"{number:g}" for number in (_LIRA if attack == "lira" else _RMIA))


@raises_typed
def assess(
    client: Client,
    model: str,
    *,
    datasets: Sequence[str],
    members: Sequence[str],
    attack: str | None = None,
    shadows: int | None = None,
    thresholds: Sequence[str] | None = None,
    min_cell: int | None = None,
    placement: Placement | None = None,
    expires_in_minutes: int | None = None,
) -> JobHandle:
    """Submits a membership attack on a model, which stays in shares; `risk_of` makes figures of what it opens.

    Args:
        client: the researcher's connections.
        model: `name@version`.
        datasets: `party/name` of each that takes part.
        members: those among them that the model was trained on.
        attack: `lira`, also if None, or `rmia`.
        shadows: how many each owner trains; the usual number if None.
        thresholds: of the score, ascending decimals; the usual ones if None.
        min_cell: counts are opened in steps of at least so many rows; the usual bound if None.
        placement: who deals, and the model's computing parties in another order; else the client's dealer.
        expires_in_minutes: until when everybody must have agreed and begun.

    Raises:
        InvalidRequest, NotFound: the request, with all problems; PolicyRefused, PartyUnavailable: a party.
    """
    from parties.client.tasks import prepare_assessment

    return client.submit(
        prepare_assessment(
            client,
            model,
            datasets=datasets,
            members=members,
            attack=attack,
            shadows=shadows,
            thresholds=thresholds,
            min_cell=min_cell,
            placement=(placement or Placement()).or_else(client.placement.beside_holders),
            expires_in_minutes=expires_in_minutes,
        )
    )
