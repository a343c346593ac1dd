"""What a largest distance (`abstain_beyond`) takes from a model's copies that are made by asking about samples far from all rows.

    python benchmarks/rare_inputs.py --seeds 10
    python benchmarks/rare_inputs.py --cost         # processor time of a joint inference with the line and without, interleaved

A network is trained in the clear on one half of a real table. Whoever copies it has no rows: she asks for labels of samples that
she draws, and trains the same kind of network on what is answered. Fidelity is the share of held-out rows on which copy and model
agree. The line is drawn where 1 %, or 5 %, of the training rows lie beyond it. She draws

    anywhere    uniformly within the ranges, as one does who knows nothing else
    inside      uniformly in direction, and at most as far as the line: as one does who knows of it
    outside     features a hundred times their range, which a client refuses to share, but a changed one does not

The rule is the one of docs/protocols/outputs.md in whole numbers at 16 fractional bits. What is computed in shares equals it
exactly (tests/unit/test_mpc_distance.py), so nothing is computed in shares for these figures.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from protocols.fixed_point import VALUE_BITS
from protocols.job import JobType, Output, OutputKind, Task
from protocols.model.layers import Linear, Relu
from protocols.model.spec import ModelSpec
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.mpc.programs.distance import largest_square
from tests.support.mpc_world import a_job, run_world, split
from tests.support.programs import shares_of, some_weights

Rows = NDArray[np.float64]
DEVIATIONS = 3.0  # to either side of the mean, as a standardising schema has them
LEFT_OUT = (0.01, 0.05)  # of the training rows
UNIT = 1 << VALUE_BITS
SAMPLES, SESSIONS = 128, 11  # whose cost is measured
TABLES = {"breast cancer": load_breast_cancer, "digits": load_digits, "wine": load_wine}


@dataclass(frozen=True)
class Setting:
    """A model, its line, and rows that nobody was trained on.

    Attributes:
        model: the one that is copied.
        beyond: its line, a decimal.
        held_out: (rows, features) scaled to [-1, 1].
    """

    model: MLPClassifier
    beyond: str
    held_out: Rows


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description="Copies of a model from answers to far samples, with and without a line.")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--cost", action="store_true", help="what it costs, in place of what it does")
    options = parser.parse_args()
    if options.cost:
        print_costs()
        return
    warnings.simplefilter("ignore", ConvergenceWarning)
    print("| table, ranges | line | held-out rows answered | queries | answered | fidelity without | with | of no answer |")
    print("|---|---|---|---|---|---|---|---|")
    for name, ranges, left_out in itertools.product(TABLES, (standardised, declared), LEFT_OUT):
        settings = [a_setting(name, ranges, left_out, seed) for seed in range(options.seeds)]
        line = np.mean([float(each.beyond) for each in settings])
        kept = interval([near(each.held_out, each.beyond).mean() for each in settings])
        for draw in (anywhere, inside, outside):
            found = np.array([copied(each, draw, seed, options.queries) for seed, each in enumerate(settings)]).T
            cells = " | ".join(interval(column) for column in found)
            print(f"| {name}, {ranges.__name__} | {line:.2f} | {kept} | {draw.__name__} | {cells} |", flush=True)


def print_costs() -> None:
    """Prints medians over sessions of two computing parties and a dealer in one process, for labels of 128 samples."""
    small = ModelSpec.chain(30, only=Linear(1))
    wide = ModelSpec.chain(784, first=Linear(128), one=Relu(), second=Linear(128), two=Relu(), last=Linear(10))
    for name, model, task in (("30-1", small, Task.BINARY), ("784-128-128-10", wide, Task.CLASSES)):
        outputs = [Output("answer", OutputKind.LABEL, "researcher", abstain_beyond=beyond) for beyond in ("0", "0.5")]
        jobs = [a_job(JobType.INFER, model=model, task=task, query_rows=SAMPLES, wanted=(output,)) for output in outputs]
        plans = [derive_plan(job) for job in jobs]
        times: list[list[float]] = [[], []]
        for turn in range(2 * SESSIONS):
            job, plan, kept = jobs[turn % 2], plans[turn % 2], times[turn % 2]
            queries = split(np.zeros((SAMPLES, model.input_features), np.int64), 2)
            shares = zip(job.computing_parties, shares_of(some_weights(model), 2), queries, strict=True)
            inputs = {party: LocalInputs(model_share=held, query_share=query) for party, held, query in shares}
            started = time.process_time()
            run_world(job, plan, inputs)
            kept.append(1e3 * (time.process_time() - started))
        for what, plan, kept in zip(("without", "with"), plans, times, strict=True):
            opened = f"{plan.segments[-1].opened_bytes / SAMPLES:,.0f} bytes opened a sample"
            print(f"{name} {what}: {np.median(kept):.1f} ms in all, {plan.rounds} rounds, {opened}", flush=True)


def a_setting(name: str, ranges: Callable[[Rows], tuple[Rows, Rows]], left_out: float, seed: int) -> Setting:
    """Trains the model on one half of a table, and draws the line by these rows."""
    rows, labels = TABLES[name](return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(rows))
    trained, held_out = order[: len(rows) // 2], order[len(rows) // 2 :]
    low, high = ranges(rows[trained])
    half = np.where(high > low, (high - low) / 2, 1.0)  # a column of one value lies in the middle
    scaled = np.clip((rows - (low + high) / 2) / half, -1, 1)
    model = a_network(seed).fit(scaled[trained], labels[trained])
    beyond = np.quantile(distances(scaled[trained]), 1 - left_out)
    return Setting(model, f"{beyond:.3f}", scaled[held_out])


def standardised(rows: Rows) -> tuple[Rows, Rows]:
    """Ranges of three deviations around the means: the middle is where the rows are."""
    return rows.mean(axis=0) - DEVIATIONS * rows.std(axis=0), rows.mean(axis=0) + DEVIATIONS * rows.std(axis=0)


def declared(rows: Rows) -> tuple[Rows, Rows]:
    """Ranges from the least to the largest value: the middle may be far from most rows."""
    return rows.min(axis=0), rows.max(axis=0)


def a_network(seed: int) -> MLPClassifier:
    """One hidden layer; the copy is of the same kind."""
    return MLPClassifier((16,), solver="lbfgs", alpha=1e-2, max_iter=300, random_state=seed)


def anywhere(rng: np.random.Generator, count: int, features: int, _beyond: str) -> Rows:
    """Samples uniformly within the ranges."""
    return rng.uniform(-1, 1, (count, features))


def inside(rng: np.random.Generator, count: int, features: int, beyond: str) -> Rows:
    """Samples of any direction that lie within the line."""
    directions = rng.standard_normal((count, features))
    directions /= distances(directions)[:, None]
    far = float(beyond) * 0.999 * rng.uniform(0, 1, (count, 1))
    return np.asarray(np.clip(directions * far, -1, 1))


def outside(rng: np.random.Generator, count: int, features: int, _beyond: str) -> Rows:
    """Samples far outside of the ranges."""
    return rng.uniform(-100, 100, (count, features))


def distances(rows: Rows) -> Rows:
    """The root of the mean of squared features, (rows,)."""
    return np.asarray(np.sqrt((rows**2).mean(axis=1)))


def near(rows: Rows, beyond: str) -> NDArray[np.bool_]:
    """Which samples are answered: the rule on the whole numbers that are shared."""
    shared = np.rint(rows * UNIT).astype(np.int64)
    most = largest_square(Output("answer", OutputKind.LABEL, "researcher", abstain_beyond=beyond), rows.shape[1])
    return np.asarray((np.abs(shared) <= UNIT).all(axis=1) & ((shared**2).sum(axis=1) <= most))


def copied(
    setting: Setting, draw: Callable[[np.random.Generator, int, int, str], Rows], seed: int, queries: int
) -> tuple[float, float, float, float]:
    """Returns the share of queries that are answered, the fidelity of copies without and with the line, and of no copy at all."""
    rng = np.random.default_rng((seed, queries))
    asked = draw(rng, queries, setting.held_out.shape[1], setting.beyond)
    told, answered = setting.model.predict(asked), near(asked, setting.beyond)
    # Without any answer she guesses one class for all; the best such guess is what a copy must be better than.
    predicted = setting.model.predict(setting.held_out)
    guessed = max(float((predicted == label).mean()) for label in setting.model.classes_)
    without = fidelity(setting, asked, told, seed, otherwise=guessed)
    return float(answered.mean()), without, fidelity(setting, asked[answered], told[answered], seed, otherwise=guessed), guessed


def fidelity(setting: Setting, asked: Rows, told: NDArray[np.int64], seed: int, *, otherwise: float) -> float:
    """Returns how often a copy agrees with the model on held-out rows; `otherwise` without two classes to learn from."""
    if len(set(told.tolist())) < 2:
        return otherwise
    copy = a_network(1_000 + seed).fit(asked, told)
    return float((copy.predict(setting.held_out) == setting.model.predict(setting.held_out)).mean())


def interval(values: Sequence[float] | Rows) -> str:
    """A mean over seeds in per cent, with twice its standard error."""
    array = 100 * np.asarray(values, np.float64)
    return f"{array.mean():.1f} ± {2 * array.std(ddof=1) / np.sqrt(len(array)):.1f}"


if __name__ == "__main__":
    main()
