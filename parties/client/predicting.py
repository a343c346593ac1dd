"""Predictions that a client asks for with Python objects, and servings that keep a model warm for them. Methods of `Client`.

with client.serve(model, max_queries=500, max_rows=5_000) as serving:     # one session, for as many queries as it permits
    labels = client.predict(model, samples)                               # takes the warm session: no worker is started
    again = serving.predict(samples)                                      # the same, of this session and no other
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

from parties.client.aliases import ALIASES
from parties.client.answer_options import AnswerOptions, wanted_output
from parties.client.failures import raises_typed
from parties.client.handle import DEFAULT_TIMEOUT_S
from parties.client.placement import Placement
from parties.client.warm import OVER
from protocols.errors import ConfideError
from protocols.job import Job
from protocols.job_parts import OutputKind

if TYPE_CHECKING:
    from parties.client.client import Client
    from parties.client.serving import ServingHandle
    from parties.client.tasks import Samples


@raises_typed
def predict(
    client: Client,
    model: str,
    samples: Samples,
    *,
    output: str = "label",
    placement: Placement | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    **options: Unpack[AnswerOptions],
) -> Samples:
    """Has a model that nobody holds predict samples that nobody else sees, and waits for the answer.

    A serving of the researcher that keeps this model warm and opens just this answers at once; without one, an inference is
    submitted as a job of its own, by `predict_cold`.

    Args:
        client: the researcher's.
        model: `name@version`.
        samples: a frame with the schema's columns, or an array or tensor (samples, features) in their order; secret.
        output: `label`, `probability`, `score` or `value`; `mean` opens nothing but the mean over all samples.
        placement: who deals, and the model's computing parties in another order; else the client's dealer. A serving has its own.
        timeout_s: how long to wait.
        options: what is opened of each answer; see `AnswerOptions`.

    Returns:
        A frame with the samples' index for a frame, a tensor for a tensor, an array for an array. A mean is an array, whatever
        the samples are: (classes,), of two classes (1,).

    Raises:
        InvalidRequest, NotFound, PolicyRefused, PartyUnavailable, JobFailed, TimedOut.
    """
    from parties.client.serving import predict_warm, require_answering

    warm = find_warm(client, model, output=output, constraint=options, num_rows=len(samples))
    if warm is not None:
        try:
            return predict_warm(client, warm, samples)
        except ConfideError as error:
            if error.code not in OVER:
                raise
    require_answering(client, named_version(client, model), (placement or Placement()).or_else(client.placement.beside_holders))
    return predict_cold(client, model, samples, output=output, placement=placement, timeout_s=timeout_s, **options)


@raises_typed
def predict_cold(
    client: Client,
    model: str,
    samples: Samples,
    *,
    output: str = "label",
    placement: Placement | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    **options: Unpack[AnswerOptions],
) -> Samples:
    """Has a model predict in a job of its own, whatever is warm; arguments, result and failures as for `predict`."""
    from parties.client.tasks import as_given, prepare_inference

    who = (placement or Placement()).or_else(client.placement.beside_holders)
    prepared = prepare_inference(
        client, model, samples, output=output, constraint=options, placement=who, expires_in_minutes=None
    )
    opened = client.submit(prepared).result(timeout_s)[prepared.job.outputs[0].name]
    return opened if prepared.job.outputs[0].kind is OutputKind.MEAN else as_given(opened, samples, output=output)


@raises_typed
def serve(
    client: Client,
    model: str,
    *,
    output: str = "label",
    block_rows: int | None = None,
    max_queries: int | None = None,
    max_rows: int | None = None,
    idle_s: int | None = None,
    lifetime_s: int | None = None,
    rekey_s: int | None = None,
    placement: Placement | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    **options: Unpack[AnswerOptions],
) -> ServingHandle:
    """Has a model kept warm for the caller's queries, and waits until it is.

    The whole quota is reserved in the budgets of the model's holders; what is not used is given back with the end. The handle is
    a context manager: leaving the block ends the serving.

    Args:
        client: the researcher's.
        model: `name@version`.
        output: what every answer opens, as for `predict`; no mean.
        block_rows: rows that are answered together; the usual number if None, as below (docs/serving.md).
        max_queries: how many queries are answered at most.
        max_rows: how many rows are answered at most.
        idle_s: seconds without a query after which it ends.
        lifetime_s: seconds after which it ends.
        rekey_s: seconds after which the parties draw fresh keys.
        placement: who deals, and the model's computing parties in another order; else the client's dealer.
        timeout_s: how long to wait until it is warm.
        options: what is opened of each answer, as for `predict`.

    Raises:
        InvalidRequest, NotFound, PolicyRefused, BudgetExhausted, PartyUnavailable, JobFailed, TimedOut.
    """
    from parties.client.serving import ServingHandle
    from parties.client.tasks import prepare_serving

    quota = {
        "block_rows": block_rows,
        "max_queries": max_queries,
        "max_rows": max_rows,
        "idle_s": idle_s,
        "lifetime_s": lifetime_s,
        "rekey_s": rekey_s,
    }
    who = (placement or Placement()).or_else(client.placement.beside_holders)
    prepared = prepare_serving(client, model, output=output, constraint=options, serving=quota, placement=who)
    handle = ServingHandle(client, client.submit(prepared))
    handle.wait_until_warm(timeout_s)
    return handle


def find_warm(client: Client, model: str, *, output: str, constraint: Mapping[str, Any], num_rows: int) -> Job | None:
    """Returns a serving of the researcher that keeps a model warm and opens just this, or None.

    Args:
        client: the researcher's.
        model: `name@version`, or an alias for the version.
        output: the kind.
        constraint: by the names of `AnswerOptions`; None where nothing is said.
        num_rows: how many rows are to be asked about.
    """
    said = {name: value for name, value in constraint.items() if value is not None}
    wanted = wanted_output(output, said, recipient=client.researcher)
    return None if wanted is None else client.servings.find(named_version(client, model), wanted, num_rows=num_rows)


def named_version(client: Client, model: str) -> str:
    """Returns a model's `name@version` where an alias stands for the version; else what was given."""
    name, _, version = model.partition("@")
    if version not in ALIASES:
        return model
    return next((each.label for each in client.all_models() if each.name == name and version in each.aliases), model)
