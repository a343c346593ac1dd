"""Our side of bench_ckks.py: one task, in one process and thread. Prints one line of JSON.

    python benchmarks/ckks_runner.py --task mlp --runs 20

Server seconds are processor time from the received bytes of a query to the bytes of its answer: decoding, evaluation, flooding,
re-randomisation, encoding. Encryptions of zero are made ahead, as a server does in idle time; `pool_seconds` says what they take.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import ckks_models
import ckks_predictions
import numpy as np

from protocols.ckks import batch, compiled
from protocols.ckks.batch_costs import measure_batch_costs
from protocols.ckks.batch_wire import decode_batch_query
from protocols.ckks.cost_measurement import measure_costs
from protocols.ckks.engine import Ciphertext, Engine
from protocols.ckks.key_owner import KeyOwner
from protocols.ckks.latency_planning import Declared, counts_of, plan_latency
from protocols.ckks.offers import proposed_limit
from protocols.ckks.parameters import PARAMETER_SETS
from protocols.ckks.planning import EncryptedPlan, Lane
from protocols.ckks.protection import ReRandomisers, answer_form, opened, protect
from protocols.ckks.wire import WireShape, decode_keys, decode_query, encode_answer
from protocols.model import reference
from protocols.model.layers import Convolution, Flatten, Linear, Square
from protocols.model.spec import ModelSpec

Weights = dict[str, np.ndarray]
PACKED = 64  # samples of lr-30-packed
TASKS = ("mlp", "mlp-batch", "cnn-tutorial4", "lr-30", "lr-30-packed", "compile", "mlp-worker")
VALIDATION_ROWS = 512  # of which the owner knows the outputs when it declares a limit
_KEYS, _ROWS_A_KEY = 11, 4  # under which errors are looked at
_NUMBERS_A_KEY = 16  # at least: of a model with one output four rows would tell little
_ANSWERING_S = 0.3  # answers of small models are timed for that long at least, so that a burst of other load is a part of it
_WARM_UP = 2


def network_of(task: str) -> tuple[ModelSpec, Weights]:
    """Returns a task's model as ours."""
    model = ckks_models.model_of(task)
    if task.startswith("lr"):
        spec = ModelSpec.chain(30, out=Linear(1))
    elif task.startswith("cnn"):
        spec = ModelSpec.chain(
            (1, 28, 28),
            convolution=Convolution(4, (7, 7), (3, 3), (0, 0)), first=Square(), flat=Flatten(), hidden=Linear(64),
            second=Square(), out=Linear(10),
        )  # fmt: skip
    else:
        spec = ModelSpec.chain(784, hidden=Linear(128), square=Square(), out=Linear(10))
    tensors = [tensor for pair in zip(model.weights, model.biases, strict=True) for tensor in pair]
    return spec, {parameter.name: tensor for parameter, tensor in zip(spec.parameters, tensors, strict=True)}


class Session:
    """A querier and an owner of a model that share nothing but bytes."""

    def __init__(self, plan: EncryptedPlan, spec: ModelSpec, weights: Weights) -> None:
        self.plan, self.shape, self.engine = plan, WireShape.of(plan), Engine(plan.parameters)
        self.secret = self.engine.make_secret_key()
        self.owner = KeyOwner(self.engine, self.secret, os.urandom)
        uploaded = self.owner.evaluation_keys(plan)
        self.key_bytes = len(uploaded)
        self.keys = self.engine.load_key_material(decode_keys(self.shape, uploaded))
        assert self.keys.public_key is not None
        self.pool = ReRandomisers(self.engine, self.keys.public_key, level=plan.keys.answer_level, parts=plan.answer_parts)
        started = time.process_time()
        self._form = answer_form(plan)
        self._is_batch = plan.lane is Lane.BATCH
        self._batch = batch.compile_batch(plan, spec, weights) if self._is_batch else None
        self._model = None if self._is_batch else compiled.compile_model(plan, spec, weights, self.engine)
        self.compile_seconds = time.process_time() - started

    def fill_pool(self) -> float:
        """Makes what one answer needs; returns the seconds that took."""
        started = time.process_time()
        self.pool.fill(self.plan.answer_ciphertexts)
        return time.process_time() - started

    def answer(self, message: bytes) -> tuple[bytes, Ciphertext | np.ndarray]:
        """Returns the answer, and its result before protection."""
        key = self.keys.public_key
        assert key is not None
        if self._batch is not None:
            residues = batch.evaluate_batch(self._batch, decode_batch_query(self.shape, message))
            return batch.protect_batch(self.engine, self.plan, residues, key, os.urandom, pool=self.pool), residues
        assert self._model is not None
        query = [self.engine.load(each) for each in decode_query(self.shape, message)]
        result = compiled.evaluate(self._model, query[0], self.keys)
        safe = protect(self.engine, result, key, os.urandom, form=self._form, pool=self.pool)
        return encode_answer(self.shape, [self.engine.residues(safe)]), result

    def outputs(self, unprotected: Ciphertext | np.ndarray) -> np.ndarray:
        """Returns what an answer would give without protection: the error that the evaluation alone makes."""
        if isinstance(unprotected, np.ndarray):
            ciphertexts = [self.engine.from_residues(each, self.plan.answer_scale) for each in unprotected]
        else:
            ciphertexts = [unprotected]
        slots = np.stack([opened(self.engine, self.secret, each, self._form) for each in ciphertexts])
        return self.plan.read_outputs(slots, self.plan.samples)


def planned(task: str) -> tuple[EncryptedPlan, ModelSpec, Weights]:
    """Plans a task's model with costs measured here: in the latency lane of all that a query takes, from bytes to bytes."""
    spec, weights = network_of(task)
    outputs = ckks_models.model_of(task).plain(ckks_models.samples(task, VALIDATION_ROWS, seed=8))
    declared = Declared(-1.0 if task.startswith("lr") else 0.0, 1.0, proposed_limit(float(abs(outputs).max())))
    if task == "mlp-batch":
        plan = batch.plan_batch(spec, weights, declared)
        costs = measure_batch_costs(plan.parameters, time.process_time)
        return batch.plan_batch(spec, weights, declared, costs=lambda _: costs), spec, weights
    samples = PACKED if task == "lr-30-packed" else 1
    name = plan_latency(spec, weights, declared, samples=samples).parameters.name
    measured = measure_costs(Engine(PARAMETER_SETS[name]), time.process_time)
    return plan_latency(spec, weights, declared, samples=samples, costs=lambda _: measured), spec, weights


def asked(task: str, runs: int) -> dict[str, Any]:
    """Measures queries one after the other."""
    plan, spec, weights = planned(task)
    session, model = Session(plan, spec, weights), ckks_models.model_of(task)
    rows = ckks_models.samples(task, runs * plan.samples).reshape(runs, plan.samples, -1)
    seconds, pools = [], []
    evaluated, found, published = [], [], []
    message = answer = b""
    for number in range(-_WARM_UP, runs):
        message = session.owner.encrypt_query(plan, rows[max(number, 0)])
        pools.append(session.fill_pool())
        started = time.process_time()
        answer, unprotected = session.answer(message)
        taken = time.process_time() - started
        if number < 0:
            continue
        seconds.append(taken / plan.samples)
        evaluated.append(session.outputs(unprotected))
        found.append(session.owner.unsafe_open_raw(plan, answer, plan.samples))
        published.append(session.owner.open_answer(plan, answer, plan.samples))
    predicted = plan.predictions.server_seconds
    if plan.lane is Lane.LATENCY:  # as in `_compared`
        predicted = (predicted + measure_costs(session.engine, time.process_time).of(counts_of(plan, spec))) / 2
    expected = model.plain(rows.reshape(-1, rows.shape[-1]))
    rounded = ckks_models.compared(np.concatenate(published), expected)
    evaluation_error = ckks_models.compared(np.concatenate(evaluated), expected)["max_error"]
    return ckks_models.compared(np.concatenate(found), expected) | {
        "server_seconds": seconds,
        "samples_per_second": [1 / each for each in seconds],
        "pool_seconds": statistics.median(pools) / plan.samples,
        "upload_bytes": len(message) / plan.samples,
        "key_bytes": session.key_bytes,
        "answer_bytes": len(answer) / plan.samples,
        "evaluation_error": evaluation_error,
        "published_error": rounded["max_error"],
        "published_agreement": rounded["agreement"],
        "predicted_over_measured": predicted / plan.samples / statistics.median(seconds),
        "predicted_error_over_measured": plan.predictions.max_error / evaluation_error,
        "samples": len(expected),
    }


def compiles(runs: int) -> dict[str, Any]:
    """Measures planning and compilation, and compares what plans predict with what is measured, for models of every depth."""
    found = {name: _compared(spec, runs) for name, spec in ckks_predictions.MODELS.items()}
    return {"server_seconds": max(each["compile_seconds"] for each in found.values()), "predictions": found}


def _compared(spec: ModelSpec, runs: int) -> dict[str, Any]:
    """One model. Costs are measured before and after, since what else the machine does moves both costs and answers."""
    weights = ckks_predictions.weights_of(spec)
    declared = Declared(0.0, 1.0, ckks_predictions.output_limit(spec, weights))
    started = time.process_time()
    plan = plan_latency(spec, weights, declared)
    planning_seconds = time.process_time() - started
    session = Session(plan, spec, weights)
    before, counts = measure_costs(session.engine, time.process_time), counts_of(plan, spec)
    runs = max(runs, math.ceil(_ANSWERING_S / before.of(counts)))
    seconds = []
    message = answer = b""
    for row in ckks_predictions.rows_of(spec, runs + _WARM_UP):
        message = session.owner.encrypt_query(plan, row[np.newaxis])
        session.fill_pool()
        started = time.process_time()
        answer, _ = session.answer(message)
        seconds.append(time.process_time() - started)
    after = measure_costs(session.engine, time.process_time)
    measured = statistics.median(seconds[_WARM_UP:])
    promised = plan.predictions.upload_bytes + plan.predictions.key_bytes + plan.predictions.answer_bytes
    # A part of the error is the same in every query under the same keys, so it takes several to see what is typical.
    errors = np.concatenate([_errors(plan, spec, weights, seed) for seed in range(_KEYS)])
    error, typical = abs(errors).max(), math.sqrt(float((errors**2).mean()))
    return {
        "depth": plan.fresh_level + 1,
        "server_seconds": measured,
        "compile_seconds": planning_seconds + session.compile_seconds,
        "predicted_over_measured": (before.of(counts) + after.of(counts)) / 2 / measured,
        "predicted_bytes_over_measured": promised / (len(message) + session.key_bytes + len(answer)),
        "predicted_error_over_measured": plan.predictions.max_error / float(error),
        "typical_error_over_measured": plan.predictions.typical_error / typical,
        "evaluation_error": float(error),
    }


def _errors(plan: EncryptedPlan, spec: ModelSpec, weights: Weights, seed: int) -> np.ndarray:
    """How far off answers under fresh keys are, for other rows."""
    count = max(_ROWS_A_KEY, -(-_NUMBERS_A_KEY // spec.output_features))
    session, rows = Session(plan, spec, weights), ckks_predictions.rows_of(spec, count, seed=100 + seed)
    outputs = []
    for row in rows:
        session.fill_pool()
        outputs.append(session.outputs(session.answer(session.owner.encrypt_query(plan, row[np.newaxis]))[1]))
    return np.concatenate(outputs) - reference.logits(spec, weights, rows)


def worker(seconds: float) -> dict[str, Any]:
    """Answers queries for some wall-clock seconds from the moment that a line arrives on standard input."""
    plan, spec, weights = planned("mlp")
    session = Session(plan, spec, weights)
    message = session.owner.encrypt_query(plan, ckks_models.samples("mlp", 1))
    session.answer(message)
    print("ready", flush=True)
    input()
    answered, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        session.answer(message)
        answered += 1
    return {"samples_per_second": answered / (time.perf_counter() - started)}


def main() -> None:
    """Measures one task and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "compile": lambda: compiles(options.runs),
        "mlp-worker": lambda: worker(options.seconds),
    }
    found = measures.get(options.task, lambda: asked(options.task, options.runs))()
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
