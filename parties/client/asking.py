"""The jobs over rows that a client asks for with Python objects: training and evaluation. Methods of `Client`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from parties.client.failures import raises_typed
from parties.client.placement import Placement

if TYPE_CHECKING:
    import torch
    from pydantic import BaseModel

    from parties.client.client import Client
    from parties.client.handle import JobHandle
    from parties.client.tasks import Noise


@raises_typed
def train(
    client: Client,
    model: torch.nn.Module | str,
    *,
    datasets: Sequence[str],
    partition: str = "rows",
    model_name: str,
    training: Mapping[str, Any] | BaseModel,
    input_shape: tuple[int, ...] | None = None,
    prepared_with: Sequence[str] = (),
    placement: Placement | None = None,
    expires_in_minutes: int | None = None,
) -> JobHandle:
    """Submits a joint training.

    Args:
        client: the researcher's connections.
        model: a torch module, whose weights now are public and where training begins; or a model held as shares,
            `name@version`, to go on with.
        datasets: `party/name` of each.
        partition: what they are to each other: `rows`, or `columns` if they are different columns of the same rows.
        model_name: the name to keep the shares under.
        training: the block of the request of that name (docs/jobs.md); numbers may be floats.
        input_shape: of a row as the module takes it, (channels, length) or (channels, height, width); not needed for a module
            whose first layer is linear.
        prepared_with: ids of jobs whose outcomes go into it before its first step; the release that a standardising schema claims
            is among them by itself.
        placement: who computes and deals; else the client's.
        expires_in_minutes: until when everybody must have agreed and begun.

    Raises:
        InvalidRequest, NotFound: the request, with all problems; PolicyRefused, PartyUnavailable: a party.
    """
    from parties.client.tasks import prepare_training

    who = (placement or Placement()).or_else(client.placement)
    return client.submit(
        prepare_training(
            client,
            model,
            datasets=datasets,
            partition=partition,
            model_name=model_name,
            training=training,
            input_shape=input_shape,
            prepared_with=prepared_with,
            placement=who,
            expires_in_minutes=expires_in_minutes,
        )
    )


@raises_typed
def summarise(
    client: Client,
    *,
    datasets: Sequence[str],
    groups: str,
    clusters: int | None = None,
    iterations: int | None = None,
    partition: str = "rows",
    min_cell: int | None = None,
    noise: Noise | None = None,
    noise_colluders: int | None = None,
    rows_per_person: int | None = None,
    placement: Placement | None = None,
    expires_in_minutes: int | None = None,
) -> JobHandle:
    """Submits a joint summary: means and sizes of groups of rows, and nothing of a group that is too small.

    Args:
        client: the researcher's connections.
        datasets: `party/name` of each.
        groups: `clusters`, which are found jointly; `labels`; or `all`, for means and deviations of all rows, with noise.
        clusters: how many, of clusters.
        iterations: how often the means of clusters are moved; 20 if None.
        partition: as for `train`.
        min_cell: groups of fewer rows are not told; the usual bound if None.
        noise: standard deviation of the owners' noise on each sum and size, of clusters in every move; none if None.
        noise_colluders: how many owners may pool what they know of it; as many as can be if None.
        rows_per_person: how many rows of one person the noise hides together; 1 if None.
        placement: who computes and deals; else the client's.
        expires_in_minutes: until when everybody must have agreed and begun.

    Raises:
        InvalidRequest, NotFound: the request, with all problems; PolicyRefused, PartyUnavailable: a party.
    """
    from parties.client.tasks import prepare_summary

    return client.submit(
        prepare_summary(
            client,
            datasets=datasets,
            groups=groups,
            clusters=clusters,
            iterations=iterations,
            partition=partition,
            min_cell=min_cell,
            noise=noise,
            noise_colluders=noise_colluders,
            rows_per_person=rows_per_person,
            placement=(placement or Placement()).or_else(client.placement),
            expires_in_minutes=expires_in_minutes,
        )
    )


def evaluate(
    client: Client,
    model: str,
    *,
    datasets: Sequence[str],
    partition: str = "rows",
    outputs: Sequence[str | Mapping[str, object]] | None = None,
    min_cell: int | None = None,
    noise: Noise | None = None,
    noise_colluders: int | None = None,
    rows_per_person: int | None = None,
    placement: Placement | None = None,
    expires_in_minutes: int | None = None,
) -> JobHandle:
    """Submits a joint evaluation by the parties that hold the model.

    Args:
        client: the researcher's connections.
        model: `name@version`.
        datasets: `party/name` of each.
        partition: as for `train`.
        outputs: what is opened, by the names of docs/jobs.md, or a mapping as there for tables of groups; the usual one if None.
        min_cell: counts of fewer rows are not told; the usual bound if None.
        noise: standard deviation of the owners' noise on each number, of all outputs; none if None.
        noise_colluders: how many owners may pool what they know of it; as many as can be if None.
        rows_per_person: how many rows of one person the noise hides together; 1 if None.
        placement: who deals, and the model's computing parties in another order; else the client's dealer.
        expires_in_minutes: until when everybody must have agreed and begun.

    Raises:
        InvalidRequest, NotFound: the request, with all problems; PolicyRefused, PartyUnavailable: a party.
    """
    from parties.client.tasks import prepare_evaluation

    who = (placement or Placement()).or_else(client.placement.beside_holders)
    return client.submit(
        prepare_evaluation(
            client,
            model,
            datasets=datasets,
            partition=partition,
            outputs=outputs,
            min_cell=min_cell,
            noise=noise,
            noise_colluders=noise_colluders,
            rows_per_person=rows_per_person,
            placement=who,
            expires_in_minutes=expires_in_minutes,
        )
    )
