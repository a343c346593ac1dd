"""What a published model answered, for programs and people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class EncryptedAnswers:
    """The answers to one request; the caller's alone, and fit to be published as they stand.

    Attributes:
        model: `name@version`.
        lane: in which it was asked.
        why: how the lane was chosen, and what it took, in words.
        enquiries: ids by which the owner's log knows the request.
        requests: how many queries it took.
        numbers: that were debited for them.
        outputs: names of the columns.
        values: `(rows, outputs) float64`, in the model's decimals.
        index: of the frame that was asked about; None for arrays.
    """

    model: str
    lane: str
    why: str
    enquiries: tuple[str, ...]
    requests: int
    numbers: int
    outputs: tuple[str, ...]
    values: NDArray[np.float64] = field(repr=False)
    index: pd.Index[Any] | None = field(repr=False, default=None)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def largest(self) -> NDArray[np.int64]:
        """The column of each row's largest output `(rows,) int64`: the class, for a model with an output for each class."""
        return np.asarray(np.argmax(self.values, axis=1), np.int64)

    @property
    def frame(self) -> pd.DataFrame:
        """The values as a frame, with the index of the samples if they had one."""
        import pandas as pd

        return pd.DataFrame(self.values, columns=pd.Index(self.outputs), index=self.index)
