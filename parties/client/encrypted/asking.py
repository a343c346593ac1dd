"""Samples into queries, answers into outputs: a block of samples after the other, the next under way while one is computed.

Nothing that follows from a decrypted value is sent: an answer is opened after all that is said about its query was said, a
failure is not asked about again by the program, and no call tells whether an answer made sense (CKKS is not secure against
chosen ciphertexts).
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from governance.encrypted.published import PublishedModel
from parties.client.encrypted.evaluator import PART_BYTES, Evaluator
from parties.client.encrypted.keys import QueryKey
from parties.client.encrypted.uploading import upload
from protocols.ckks.planning import EncryptedPlan
from protocols.ckks.sample_ranges import scaled
from protocols.ckks.wire import WireShape
from protocols.errors import ConfideError, ErrorCode

UNDER_WAY = 2
BUSY_S = 120.0  # so long a query is asked again that finds no room at its evaluator
_PAUSE_S, _MOST_PAUSE_S = 0.25, 4.0
T = TypeVar("T")
Float64 = NDArray[np.float64]
Answered = Callable[[int, int], None]


def nobody(done: int, total: int) -> None:
    """Tells nobody how many queries are answered."""


@dataclass(frozen=True)
class Block:
    """The samples of one query.

    Attributes:
        request: its id, 32 hexadecimal digits; it serves once.
        rows: `(rows, features) float64` as they are encrypted; secret.
    """

    request: str
    rows: Float64 = field(repr=False)


def prepared(published: PublishedModel, samples: Float64, *, num_features: int) -> Float64:
    """Returns samples `(rows, features) float64` as they are encrypted: flat, finite, and scaled as the model's owner says.

    Raises:
        ConfideError: INVALID_ARGUMENT or INVALID_DATA (the researcher's to mend): another shape, or values out of range.
    """
    rows = np.asarray(samples, np.float64)
    rows = rows.reshape(len(rows), -1) if rows.ndim > 1 else rows.reshape(1, -1)
    if not len(rows) or rows.shape[1] != num_features:
        what = f"samples have {num_features} features, not {rows.shape[1]}" if len(rows) else "there are no samples to ask about"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
    if not np.isfinite(rows).all():
        row, feature = np.argwhere(~np.isfinite(rows))[0]
        raise ConfideError(ErrorCode.INVALID_DATA, f"row {row}, feature {feature} is no finite number")
    return scaled(rows, published.ranges)


def require_range(plan: EncryptedPlan, rows: Float64) -> None:
    """Checks that all prepared samples can be encrypted, before anybody is asked anything.

    Raises:
        ConfideError: INVALID_ARGUMENT (the researcher's to mend), naming the first row that cannot.
    """
    outside = np.argwhere((rows < plan.input_low) | (rows > plan.input_high))
    if outside.size:
        row, feature = outside[0]
        what = (
            f"row {row}, feature {feature} is outside the range {plan.input_low:g} to {plan.input_high:g} that the model is"
            f" published for; {len(outside)} value(s) are"
        )
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Scale the features as the model's owner says.")


def blocks_of(rows: Float64, samples: int) -> list[Block]:
    """Returns prepared samples in blocks of one query each, in their order."""
    return [Block(secrets.token_hex(16), rows[at : at + samples]) for at in range(0, len(rows), samples)]


def send_query(evaluator: Evaluator, enquiry_id: str, message: bytes) -> bytes | str:
    """Returns a query as it is asked with: itself if it fits into a part, else its digest once it was put in parts."""
    return message if len(message) <= PART_BYTES else upload(evaluator, enquiry_id, message)


def when_there_is_room(ask: Callable[[], T], *, within_s: float = BUSY_S) -> T:
    """Returns what a call gives; one that finds no room is made again, unchanged, since nothing came of it.

    Raises:
        ConfideError: PARTY_BUSY: there was no room in all the time; or the call's failure, at once.
    """
    deadline, pause_s = time.monotonic() + within_s, _PAUSE_S
    while True:
        try:
            return ask()
        except ConfideError as error:
            if error.code is not ErrorCode.PARTY_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _MOST_PAUSE_S)


def ask_blocks(
    evaluator: Evaluator, enquiry_id: str, key: QueryKey, blocks: list[Block], *, answered: Answered = nobody
) -> Float64:
    """Returns the outputs `(rows, outputs) float64` of all blocks, rounded to the plan's precision.

    Args:
        evaluator: the party.
        enquiry_id: of the open enquiry.
        key: its key.
        blocks: at least one.
        answered: is told how many queries are answered, and of how many.

    Raises:
        ConfideError: the evaluator's refusal or failure; BAD_FRAME (its fault): not an answer of the plan.
    """
    size = WireShape.of(key.plan).answer_bytes
    found: list[Float64] = []
    under_way: deque[tuple[Block, Future[bytes]]] = deque()

    def ask(request: str, message: bytes) -> bytes:
        def once() -> bytes:
            return evaluator.ask(enquiry_id, request, send_query(evaluator, enquiry_id, message), answer_bytes=size)

        return when_there_is_room(once)

    def take() -> None:
        block, future = under_way.popleft()
        found.append(key.open(future.result(), len(block.rows)))
        answered(len(found), len(blocks))

    with ThreadPoolExecutor(UNDER_WAY, thread_name_prefix="ask") as pool:
        try:
            for block in blocks:
                if len(under_way) == UNDER_WAY:
                    take()
                under_way.append((block, pool.submit(ask, block.request, key.encrypt(block.rows))))
            while under_way:
                take()
        except BaseException:
            for _, future in under_way:
                future.cancel()
            raise
    return np.concatenate(found)


def activated(published: PublishedModel, outputs: Float64) -> Float64:
    """Returns opened outputs as people read them: with the activation that is left to the researcher, in the stated decimals.

    Args:
        published: the model.
        outputs: `(rows, outputs) float64`, opened and rounded; what follows from them alone tells nobody more than they do.
    """
    match published.client_activation:
        case "sigmoid":
            values = 0.5 * (1.0 + np.tanh(0.5 * outputs))
        case "softmax":
            powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
            values = powers / powers.sum(axis=1, keepdims=True)
        case _:
            values = outputs
    return np.asarray(np.round(values, published.decimals), np.float64)
