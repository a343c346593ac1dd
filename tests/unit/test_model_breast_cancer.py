"""Plain pooled training on the example table learns what the demonstration expects."""

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from protocols.model import reference
from protocols.model.layers import Linear, Sigmoid
from protocols.model.spec import ModelSpec
from tests.support.jobs import sgd
from tests.support.tables import breast_cancer_frame, breast_cancer_schema

LOGISTIC = ModelSpec.chain(30, linear=Linear(1), sigmoid=Sigmoid())
TRAINING = sgd(epochs=15, batch_size=48, learning_rate="0.5", momentum="0.9")


@pytest.mark.parametrize("seed", range(5))
def test_pooled_training_reaches_the_expected_accuracy_on_held_out_rows(seed: int) -> None:
    schema, frame = breast_cancer_schema(), breast_cancer_frame()
    features, truth = schema.scale(frame[list(schema.feature_names)].to_numpy()), frame["benign"].to_numpy(np.float64)
    known, held_out = train_test_split(np.arange(569), test_size=0.2, random_state=seed, stratify=truth)
    initial = {"linear.weight": np.zeros((1, 30)), "linear.bias": np.zeros(1)}
    order = np.random.default_rng(seed).permutation(len(known))
    trained = reference.train(LOGISTIC, initial, features[known], truth[known], training=TRAINING, order=order)
    assert reference.accuracy(LOGISTIC, trained, features[held_out], truth[held_out]) >= 0.955
