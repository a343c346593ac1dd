"""TenSEAL 0.3.18 in its own high-level way, on the tasks of bench_ckks.py; one thread. Prints one line of JSON.

    python benchmarks/peer_tenseal.py --task mlp --runs 1

As its tutorials do it: vectors under the public key, `mm` and `square_` for the network, `im2col_encoding` and `conv2d_im2col`
for the convolution, `dot` for the regression, `CKKSTensor.mm` for a batch. Server seconds are processor time from the parsed
ciphertext to the result; the client's work and the transport are left out, and so is any protection: it has none.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import ckks_models
import numpy as np
import tenseal as ts

SETTINGS = {
    "mlp": (8192, (50, 34, 34, 34, 50), 34),
    "mlp-batch": (8192, (50, 34, 34, 34, 50), 34),
    "cnn-tutorial4": (8192, (31, *(26,) * 6, 31), 26),
    "lr-30": (4096, (40, 28, 40), 28),
    "lr-30-packed": (4096, (40, 28, 40), 28),
}
PACKED = 64  # samples of lr-30-packed
_MEASURED = 2  # neurons of a layer of the batch task that are measured; the rest is extrapolated


def contexts(task: str) -> tuple[Any, Any]:
    """Returns the querier's context and the one that the model's owner gets."""
    degree, bits, scale = SETTINGS[task]
    own = ts.context(ts.SCHEME_TYPE.CKKS, degree, coeff_mod_bit_sizes=list(bits), n_threads=1)
    own.global_scale = 2.0**scale
    own.generate_galois_keys()
    own.generate_relin_keys()
    public = own.serialize(save_secret_key=False)
    return own, public


def single(task: str, runs: int) -> dict[str, Any]:
    """Measures one sample at a time."""
    model, x = ckks_models.model_of(task), ckks_models.samples(task, runs)
    own, public = contexts(task)
    theirs = ts.context_from(public, n_threads=1)
    weights = [each.T.tolist() if each.ndim == 2 else each for each in model.weights]
    biases = [each.tolist() for each in model.biases]
    seconds, answers = [], []
    upload = answer_bytes = 0
    for row in x:
        windows = 0
        if task == "cnn-tutorial4":
            vector, windows = ts.im2col_encoding(own, row.reshape(28, 28).tolist(), 7, 7, 3)
        else:
            vector = ts.ckks_vector(own, row.tolist())
        sent = vector.serialize()
        given = ts.ckks_vector_from(theirs, sent)
        began = time.process_time()
        result = _evaluated(task, given, weights, biases, windows)
        seconds.append(time.process_time() - began)
        answer = result.serialize()
        upload, answer_bytes = len(sent), len(answer)
        answers.append(ts.ckks_vector_from(own, answer).decrypt()[: len(biases[-1])])
    figures = {"server_seconds": seconds, "upload_bytes": upload, "key_bytes": len(public), "answer_bytes": answer_bytes}
    return figures | ckks_models.compared(np.array(answers), model.plain(x))


def _evaluated(task: str, x: Any, weights: list[Any], biases: list[Any], windows: int) -> Any:
    if task == "lr-30":
        return x.dot([each[0] for each in weights[0]]) + biases[0]
    if task == "cnn-tutorial4":
        maps = [x.conv2d_im2col(kernel[0].tolist(), windows) + bias for kernel, bias in zip(weights[0], biases[0], strict=True)]
        x = ts.CKKSVector.pack_vectors(maps)
        x.square_()
        weights, biases = weights[1:], biases[1:]
    for matrix, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = x.mm(matrix) + bias
        x.square_()
    return x.mm(weights[-1]) + biases[-1]


def packed(task: str, runs: int) -> dict[str, Any]:
    """Measures the regression on a tensor whose slots hold the samples."""
    model, x = ckks_models.model_of(task), ckks_models.samples(task, PACKED)
    own, public = _keyless(task)
    theirs = ts.context_from(public, n_threads=1)
    sent = _rows(own, x).serialize()
    seconds: list[float] = []
    answer = b""
    for _ in range(runs):
        given = ts.ckks_tensor_from(theirs, sent)
        began = time.process_time()
        result = given.mm(model.weights[0].T.tolist()).add([model.biases[0].tolist()])
        seconds.append((time.process_time() - began) / PACKED)
        answer = result.serialize()
    found = np.array(ts.ckks_tensor_from(own, answer).decrypt().tolist())[:, 0]
    sizes = {"upload_bytes": len(sent) / PACKED, "key_bytes": len(public), "answer_bytes": len(answer) / PACKED}
    return {"server_seconds": seconds} | sizes | ckks_models.compared(found, model.plain(x))


def batch(task: str, runs: int) -> dict[str, Any]:
    """Measures a few neurons of each layer on a full batch and extrapolates: the whole of it takes minutes."""
    model, slots = ckks_models.model_of(task), SETTINGS[task][0] // 2
    x = ckks_models.samples(task, slots)
    own, public = _keyless(task)
    theirs = ts.context_from(public, n_threads=1)
    sent = _rows(own, x).serialize()
    given = ts.ckks_tensor_from(theirs, sent)
    hidden, outputs = len(model.weights[0]), len(model.weights[1])
    seconds = []
    for _ in range(runs):
        began = time.process_time()
        first = given.mm(model.weights[0][:_MEASURED].T.tolist()).add([model.biases[0][:_MEASURED].tolist()])
        first_s, began = time.process_time() - began, time.process_time()
        first.square_()
        square_s, began = time.process_time() - began, time.process_time()
        first.mm(model.weights[1][:_MEASURED, :_MEASURED].T.tolist())
        second_s = time.process_time() - began
        # A layer's time grows with its products of neurons and inputs, the square's with its neurons.
        products = outputs * hidden / _MEASURED**2
        seconds.append(((first_s + square_s) * hidden / _MEASURED + second_s * products) / slots)
    return {
        "server_seconds": seconds,
        "samples_per_second": [1 / each for each in seconds],
        "upload_bytes": len(sent) / slots,
        "key_bytes": len(public),
        "is_extrapolated": True,
    }


def _rows(own: Any, x: Any) -> Any:
    """Encrypts rows as a tensor (1, features) whose slots hold the samples."""
    return ts.ckks_tensor(own, x[:, None, :].tolist(), batch=True)


def _keyless(task: str) -> tuple[Any, bytes]:
    """Contexts for plain products and squares: a tensor needs relinearisation keys at most."""
    degree, bits, scale = SETTINGS[task]
    own = ts.context(ts.SCHEME_TYPE.CKKS, degree, coeff_mod_bit_sizes=list(bits), n_threads=1)
    own.global_scale = 2.0**scale
    return own, own.serialize(save_secret_key=False)


def main() -> None:
    """Measures one task and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=sorted(SETTINGS), required=True)
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    measure: Callable[[str, int], dict[str, Any]] = {"mlp-batch": batch, "lr-30-packed": packed}.get(options.task, single)
    print(json.dumps(measure(options.task, options.runs)), flush=True)


if __name__ == "__main__":
    main()
