"""A model that knows its rows by heart: labels drawn at random have no rule but the rows themselves."""

from __future__ import annotations

import numpy as np
import pandas as pd

from parties.client.requests import TrainingRequest
from parties.client.training_request import CheckpointsRequest

MEMBERS, OTHERS, MIN_CELL = 40, 96, 5
# 31 parameters learn most of 40 random labels by heart.
BY_HEART = TrainingRequest(
    epochs=900, batch_size=40, learning_rate="0.5", momentum="0.9", checkpoints=CheckpointsRequest(every_epochs=0)
)


def with_random_labels(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns the rows with labels that have nothing to do with them."""
    return frame.assign(benign=np.random.default_rng(seed).integers(0, 2, len(frame)))
