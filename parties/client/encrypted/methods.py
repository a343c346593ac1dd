"""Encrypted predictions that a client asks for with Python objects. Methods of `Client`.

answers = client.infer_encrypted("diagnosis@0123456789ab", samples)    # the lane by the number of samples; keys made as needed
answers.frame                                                          # rounded, fit to be published
print(answers.why)

Keys that are not named live in this process: they are made when first needed, serve one lane of one model for as long as the
client is open, and are replaced by themselves once they are too old or have opened as many answers as they may.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from parties.client.failures import raises_typed

if TYPE_CHECKING:
    from parties.client.client import Client
    from parties.client.encrypted.answers import EncryptedAnswers
    from parties.client.encrypted.keys import QueryKey
    from parties.client.encrypted.published import PublishedEntry
    from parties.client.listing import Listing
    from parties.client.tasks import Samples

Tell = Callable[[str, int, int], None]
KEYS, ANSWERS = "evaluation keys", "answers"


def quietly(stage: str, done: int, total: int) -> None:
    """Tells nobody how far a request is."""


@raises_typed
def all_published(client: Client) -> Listing[PublishedEntry]:
    """Returns the models that parties have published for encrypted queries, a line for each lane."""
    from parties.client.encrypted.published import list_published

    return list_published(client)


@raises_typed
def infer_encrypted(
    client: Client,
    model: str,
    samples: Samples,
    *,
    lane: str | None = None,
    agreement: str | None = None,
    purpose: str | None = None,
    key: QueryKey | None = None,
    tell: Tell = quietly,
) -> EncryptedAnswers:
    """Asks a published model about samples that nobody else sees: encrypted here, evaluated at the model's owner, opened here.

    Args:
        client: the researcher's.
        model: `name@version`, or the name if only one version is published.
        samples: a frame with the model's columns, or an array or tensor (samples, ...) in their order; secret.
        lane: `latency`, `packed` or `batch`; None for the one that is predicted to be done first.
        agreement: its name or digest; None for the one that is in force at the owner and permits it.
        purpose: None for the agreement's only one.
        key: an opened key file's (`confide infer keygen`), which says the lane; None for a key of this process.
        tell: is told of each stage how much of it is done, and of how much.

    Returns:
        The declared outputs, rounded to the declared precision under noise of the caller's own.

    Learns: the owner how many queries are asked in which lane, and nothing about the samples; the caller the outputs.

    Raises:
        InvalidRequest, NotFound, PolicyRefused, BudgetExhausted, PartyUnavailable, IntegrityError.
    """
    from parties.client.encrypted.enquiring import Permission
    from parties.client.encrypted.evaluator import RemoteEvaluator
    from parties.client.encrypted.inference import ask_request, prepare_request
    from parties.client.encrypted.published import find_published
    from parties.client.tasks import is_frame

    request = prepare_request(client, find_published(client, model), samples, lane=lane if key is None else key.lane)
    evaluator = RemoteEvaluator(client.calls, request.model.published.issuer)
    permission = Permission(agreement, purpose)
    return ask_request(
        client, evaluator, request, permission, key=key, index=samples.index if is_frame(samples) else None, tell=tell
    )
