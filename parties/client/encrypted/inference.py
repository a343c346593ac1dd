"""How a request is asked: prepared, cut into blocks, under one key or, where one may not open all of it, under several."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from parties.client.encrypted.answers import EncryptedAnswers
from parties.client.encrypted.asking import Answered, activated, ask_blocks, blocks_of, prepared, require_range
from parties.client.encrypted.enquiring import NotEnoughLeft, Permission, enquiring, make_enquiry
from parties.client.encrypted.evaluator import Evaluator
from parties.client.encrypted.keys import QueryKey, make_key
from parties.client.encrypted.lanes import LaneChoice, choose_lane
from parties.client.encrypted.methods import ANSWERS, KEYS, Tell, quietly
from parties.client.encrypted.published import EncryptedModel
from parties.client.tasks import is_frame
from protocols.errors import ConfideError, ErrorCode

if TYPE_CHECKING:
    from parties.client.client import Client
    from parties.client.tasks import Samples


@dataclass(frozen=True)
class Request:
    """A request that is about to be asked: model, samples as they are encrypted, and the lane.

    Attributes:
        model: whom it asks.
        rows: `(rows, features) float64`, prepared; secret.
        choice: of the lane.
    """

    model: EncryptedModel
    rows: NDArray[np.float64]
    choice: LaneChoice


def prepare_request(client: Client, model: EncryptedModel, samples: Samples, *, lane: str | None) -> Request:
    """Returns a request that nothing is wrong with, as far as can be said here; nothing is sent.

    Raises:
        ConfideError: INVALID_ARGUMENT or INVALID_DATA (the researcher's to mend).
    """
    any_plan = next(iter(model.plans.values()))
    rows = prepared(model.published, columns_of(model, samples), num_features=any_plan.num_features)
    ready = {each for each in model.plans if (model.published.digest, each) in client.query_keys}
    choice = choose_lane(model.plans, len(rows), ready=ready, wanted=lane)
    require_range(model.plan(choice.lane), rows)
    return Request(model, rows, choice)


def ask_request(
    client: Client,
    evaluator: Evaluator,
    request: Request,
    permission: Permission,
    *,
    key: QueryKey | None,
    index: Any = None,
    tell: Tell = quietly,
) -> EncryptedAnswers:
    """Asks a prepared request and waits for its answers; a request that one key may not open whole is asked under several.

    Where less is left than the lane debits, the next best that debits less is asked, unless the caller insists on the lane.

    Args:
        client: the researcher's.
        evaluator: the party that owns the model.
        request: the request.
        permission: under which agreement, for which purpose.
        key: of the request's lane; None for keys of this process.
        index: of the samples' frame, if they are one.
        tell: as `infer_encrypted`.

    Raises:
        ConfideError: as `infer_encrypted`.
    """
    model, lane = request.model, request.choice.lane
    plan, published = model.plan(lane), model.published
    enquiries: list[str] = []
    parts: list[NDArray[np.float64]] = []
    blocks, done = blocks_of(request.rows, plan.samples), 0
    while done < len(blocks):
        used = key or session_key(client, model, lane)
        some = blocks[done : done + (used.openings_left if key is None else len(blocks))]
        now = datetime.now(UTC)
        enquiry = make_enquiry(client, model, used, requests=len(some), permission=permission, now=now)
        try:
            with enquiring(client, evaluator, enquiry, used, sent=lambda sent, total: tell(KEYS, sent, total)):
                answered = _after(done, len(blocks), tell)
                parts.append(ask_blocks(evaluator, enquiry.enquiry_id, used, some, answered=answered))
        except NotEnoughLeft as error:
            if done:  # what was answered is debited
                raise
            other = _thriftier(request, error, key=key)
            return ask_request(client, evaluator, other, permission, key=None, index=index, tell=tell)
        enquiries.append(enquiry.enquiry_id)
        done += len(some)
    return EncryptedAnswers(
        model=model.label,
        lane=lane,
        why=request.choice.in_words(),
        enquiries=tuple(enquiries),
        requests=len(blocks),
        numbers=len(blocks) * plan.numbers_per_answer,
        outputs=published.outputs,
        values=activated(published, np.concatenate(parts)),
        index=index,
    )


def _thriftier(request: Request, refused: NotEnoughLeft, *, key: QueryKey | None) -> Request:
    """Returns a request in a lane that debits less; who insists on another, by its name or its key, is told of it.

    Raises:
        ConfideError: the refusal; INVALID_ARGUMENT: samples that the lane does not take.
    """
    other = request.choice.thriftier()
    if other is None:
        raise refused
    if key is not None or not request.choice.is_free:
        remedy = f"Ask in the lane {other.lane}, which debits {other.cost.numbers:,} numbers. Else: {refused.remedy}"
        raise ConfideError(refused.code, refused.what, problems=refused.problems, remedy=remedy, party=refused.party) from refused
    require_range(request.model.plan(other.lane), request.rows)
    return replace(request, choice=other)


def _after(done: int, total: int, tell: Tell) -> Answered:
    return lambda count, _: tell(ANSWERS, done + count, total)


def session_key(client: Client, model: EncryptedModel, lane: str) -> QueryKey:
    """Returns this process's key for a lane of a model; a new one if there is none, or it is used up or too old."""
    place, now = (model.published.digest, lane), datetime.now(UTC)
    key = client.query_keys.get(place)
    if key is None or not key.openings_left or now >= key.expires:
        key = client.query_keys[place] = make_key(model.published, lane, model.plan(lane), now=now)
    return key


def columns_of(model: EncryptedModel, samples: Samples) -> NDArray[np.float64]:
    """Returns samples as an array, a frame's columns in the model's order.

    Raises:
        ConfideError: INVALID_DATA (the researcher's to mend): columns that are missing, or values that are no numbers.
    """
    names = list(model.published.features)
    try:
        if not is_frame(samples) or not names:
            return np.asarray(samples, np.float64)
        missing = [name for name in names if name not in samples.columns]
        if missing:
            what = f"the samples lack {len(missing)} of the model's columns: {', '.join(missing[:10])}"
            raise ConfideError(ErrorCode.INVALID_DATA, what)
        return np.asarray(samples[names], np.float64)
    except (TypeError, ValueError) as error:
        raise ConfideError(ErrorCode.INVALID_DATA, "the samples hold values that are no numbers") from error
