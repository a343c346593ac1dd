"""A model served by real worker processes: frames, tags, handshake, fresh keys and the end."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.serving_workers import ServingWorkers
from tests.support.small_serving import WEIGHTS, a_served_model, labels_of, some_rows

pytestmark = pytest.mark.multiparty


def test_workers_answer_queries_across_fresh_keys_and_end_together(tmp_path: Path) -> None:
    job = a_served_model(rekey_s=2, lifetime_s=120, idle_s=120)
    with ServingWorkers(job, WEIGHTS, tmp_path / "log") as serving:
        for size in (1, 9):
            rows = some_rows(size, seed=size)
            assert np.array_equal(serving.answer(serving.ask(rows)), labels_of(rows))
            time.sleep(1.1)  # fresh keys are drawn in between
        waiting = [serving.ask(some_rows(2, seed=seed)) for seed in range(3)]
        for seed, query in enumerate(waiting):
            assert np.array_equal(serving.answer(query), labels_of(some_rows(2, seed=seed)))
        ended = serving.stop()
        for said in serving.said.values():
            said.wait_for("finished")
    assert {(p.header["reason"], p.header["queries"], p.header["rows"]) for p in ended.values()} == {("stopped", 5, 16)}
    (epochs,) = {parcel.header["epochs"] for parcel in ended.values()}
    assert epochs >= 2
