"""How the rows of a set were made from a raw file, from the command that prepared them to their registration.

What is signed names the rows that are registered, and these are known only when the intersection ends: in another process, or
when a lost answer has come. Until then it lies in the sealed files of the intersection.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, Self, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from governance.documents import DocumentKind, sign
from governance.identity.keys import SigningKey
from parties.storage.datasets import DatasetRecord
from parties.storage.preparations import PreparationRecord

CHOSEN = "chosen"  # in the sealed file of registered rows: which of the prepared rows they are
_MADE, _SEED, _SALT = "made", "seed", "raw_salt"
_NAMES = {_MADE, _SEED, _SALT, CHOSEN}


@dataclass(frozen=True, eq=False, repr=False)
class Made:
    """How rows were made; secret but for the statement: no repr, no equality, no pickling.

    Attributes:
        statement: the document that will be signed, but for what names the registered rows.
        outcome: what the preparation did, for the owner's eyes, without the digest of the file.
        seed: of its random draws, 32 bytes.
        raw_salt: of the commitment to the raw file, 32 bytes.
        chosen: (common rows,) int64, which of the prepared rows are registered, in their order; empty before that is known.
    """

    statement: Mapping[str, Any]
    outcome: Mapping[str, Any]
    seed: bytes
    raw_salt: bytes
    chosen: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def of_rows(self, chosen: NDArray[np.int64]) -> Self:
        """Returns the same of some of the rows."""
        return replace(self, chosen=chosen)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Returns everything, for a sealed file."""
        documents = json.dumps({"statement": self.statement, "outcome": self.outcome}, sort_keys=True).encode()
        return {_MADE: np.frombuffer(documents, np.uint8), **self.besides()}

    def besides(self) -> dict[str, NDArray[Any]]:
        """Returns what is sealed with the registered rows, so that their owner can make them again."""
        seed, salt = np.frombuffer(self.seed, np.uint8), np.frombuffer(self.raw_salt, np.uint8)
        return {_SEED: seed, _SALT: salt, CHOSEN: self.chosen}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Made | None:
        """Returns what stands among the arrays of a sealed file; None if the rows were not made by a recipe."""
        if not set(arrays) >= _NAMES:
            return None
        documents = json.loads(arrays[_MADE].tobytes())
        seed, salt = arrays[_SEED].tobytes(), arrays[_SALT].tobytes()
        return Made(documents["statement"], documents["outcome"], seed, salt, arrays[CHOSEN])

    def signed(self, record: DatasetRecord, *, party: str, key: SigningKey) -> PreparationRecord:
        """Returns the preparation of registered rows, signed by their owner.

        Args:
            record: of the registration.
            party: the owner.
            key: the owner's, secret.
        """
        rows = {"dataset": record.object_id, "rows": record.num_rows, "rows_commitment": record.commitment}
        document = sign({**self.statement, **rows}, kind=DocumentKind.PREPARATION, signer=party, key=key)
        return PreparationRecord(record.name, record.version, document, self.outcome)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuses: a seed does not travel by pickle."""
        raise TypeError("how rows were made is not pickled")


def chosen_rows(order: NDArray[np.int64], positions: Sequence[int]) -> NDArray[np.int64]:
    """Returns which rows stand at some positions of an order."""
    return order[np.array(positions, np.int64)]
