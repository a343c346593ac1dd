"""Does joining under differential privacy beat staying alone without it, and could that be told beforehand?

Seven real tables (`private_tables`), each split at random: a quarter to test with, the rest among three institutions. Alone: a
logistic regression and boosted trees on the rows of one, without privacy, tuned by cross-validation on these rows as the forecast
does it, of which the better kind counts; and a logistic regression as it comes, untuned. Joint: the logistic regression that
shared gradients train, simulated with the noise of the terms and on the protocol's grids. All settings are the same for all
tables and fixed in `privacy.forecasting`; means and deviations of features are private too, for a tenth of the budget.

    python benchmarks/bench_privacy.py --seeds 10 --write
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import shake_256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from private_tables import RealTable, read_tables

from privacy.forecasting.forecast import forecast
from privacy.forecasting.lone import SIMPLE_MODELS, rank_quality
from privacy.forecasting.simulation import simulate
from privacy.forecasting.terms import JointTerms

ROOT = Path(__file__).resolve().parent.parent
INSTITUTIONS = 3
SETTINGS = tuple((epsilon, colluders) for epsilon in (1.0, 3.0) for colluders in (1, INSTITUTIONS - 1))
_DRAWS = 3  # of noise, for each seed
_RESULTS = ROOT / "build" / "bench" / "privacy.json"


@dataclass(frozen=True)
class Measured:
    """Areas under the ROC curve on the test rows of one seed.

    Attributes:
        plain: of the logistic regression that nobody tunes, of each institution.
        alone: of each simple model, tuned, of each institution.
        joint: of each setting.
        forecasts: of each setting, the gain that each institution forecasts from its own training rows.
    """

    plain: list[float]
    alone: dict[str, list[float]]
    joint: list[float]
    forecasts: list[list[float]]


def measure(table: RealTable, seed: int, *, forecasts: bool) -> Measured:
    """Trains everything for one seed, which decides the split, the institutions and the noise."""
    train, test, labels, truth = train_test_split(
        table.features, table.labels, test_size=0.25, random_state=seed, stratify=table.labels
    )
    own = [(train[i::INSTITUTIONS], labels[i::INSTITUTIONS]) for i in range(INSTITUTIONS)]
    models = [{name: trainer(*of_one, seed) for name, trainer in SIMPLE_MODELS.items()} for of_one in own]
    alone = {name: [rank_quality(truth, of_one[name].scores(test)) for of_one in models] for name in SIMPLE_MODELS}
    plain = [rank_quality(truth, plain_scores(*of_one, test)) for of_one in own]
    noise = np.random.default_rng(1_000 + seed)
    every = [JointTerms(INSTITUTIONS, colluders, len(labels), epsilon, 0.1 / len(labels)) for epsilon, colluders in SETTINGS]
    joint = []
    for terms in every:
        drawn = [simulate(train, labels, terms, noise=noise) for _ in range(_DRAWS)]
        joint.append(float(np.mean([rank_quality(truth, model.scores(test)) for model in drawn])))
    told = [forecast(*rows, every, random=_stream(f"{seed}/{i}")) for i, rows in enumerate(own)] if forecasts else []
    return Measured(plain, alone, joint, [[of_one[number].gain.value for of_one in told] for number in range(len(every))])


def plain_scores(rows: NDArray[np.float64], labels: NDArray[np.int64], asked: NDArray[np.float64]) -> NDArray[np.float64]:
    """Trains a logistic regression as it comes, on standardised features; returns scores of other rows."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000)).fit(rows, labels)
    return np.asarray(model.decision_function(asked))


def _stream(name: str):  # type: ignore[no-untyped-def]
    return lambda count: shake_256(name.encode()).digest(count)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean over seeds and half the width of its 95 % interval (Student)."""
    reach = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(reach)


def summarise(table: RealTable, runs: Sequence[Measured]) -> dict[str, object]:
    """Returns the figures of a table: gains are paired by seed."""
    # The kind that is better on average, as an institution could know; which institution is luckiest it could not.
    kind = max(SIMPLE_MODELS, key=lambda name: float(np.mean([run.alone[name] for run in runs])))
    plain = [float(np.mean(run.plain)) for run in runs]
    tuned = [float(np.mean(run.alone[kind])) for run in runs]
    best = [max(*run.plain, *(max(values) for values in run.alone.values())) for run in runs]
    settings = []
    for number, (epsilon, colluders) in enumerate(SETTINGS):
        joint = [run.joint[number] for run in runs]
        told = [gain for run in runs for gain in run.forecasts[number]]
        gain = interval([j - m for j, m in zip(joint, tuned, strict=True)])
        settings.append(
            {
                "epsilon": epsilon,
                "colluders": colluders,
                "joint": interval(joint),
                "gain": gain,
                "gain_over_plain": interval([j - m for j, m in zip(joint, plain, strict=True)]),
                "gain_over_luckiest": interval([j - b for j, b in zip(joint, best, strict=True)]),
                "forecast": [float(np.mean(told)), float(np.min(told)), float(np.max(told))] if told else None,
                "sign_right": bool(np.mean(told) * gain[0] > 0) if told else None,
                "institutions_right": [sum(each * gain[0] > 0 for each in told), len(told)],
            }
        )
    return {
        "table": table.name,
        "source": table.source,
        "rows": len(table.labels),
        "features": table.features.shape[1],
        "alone": {name: interval([float(np.mean(run.alone[name])) for run in runs]) for name in SIMPLE_MODELS},
        "best_kind": kind,
        "alone_plain": interval(plain),
        "alone_tuned": interval(tuned),
        "alone_luckiest": interval(best),
        "settings": settings,
    }


def printed(found: Sequence[dict[str, object]], seeds: int) -> str:
    """Returns the results as a table of Markdown, with what was to be shown below it."""
    lines = [
        "| table (rows x columns) | alone, tuned, mean of three | untuned | luckiest of three | epsilon, t"
        " | joint, private | gain over tuned | gain over untuned | gain over luckiest"
        " | forecast: mean, least to most of the institutions | its sign |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        for setting in row["settings"]:  # type: ignore[attr-defined]
            told = setting["forecast"]
            cells = (
                f"{row['table']} ({row['rows']:,} x {row['features']})",
                f"{_pm(row['alone_tuned'])} ({row['best_kind']})",
                _pm(row["alone_plain"]),
                _pm(row["alone_luckiest"]),
                f"{setting['epsilon']:g}, {setting['colluders']}",
                _pm(setting["joint"]),
                _signed(setting["gain"]),
                _signed(setting["gain_over_plain"]),
                _signed(setting["gain_over_luckiest"]),
                "-" if told is None else f"{told[0]:+.4f} ({told[1]:+.4f} to {told[2]:+.4f})",
                "-" if told is None else (_verdict(setting)),
            )
            lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for number, (epsilon, colluders) in enumerate(SETTINGS):
        chosen = [row["settings"][number] for row in found]  # type: ignore[index]
        counted = []
        for key in ("gain", "gain_over_plain"):
            gains, clear = sum(s[key][0] > 0 for s in chosen), sum(s[key][0] > s[key][1] for s in chosen)
            counted.append(f"{gains} of {len(found)} tables, on {clear} clear of its 95 % interval")
        told = f"sign of the forecast right on {sum(bool(s['sign_right']) for s in chosen)}; " if chosen[0]["forecast"] else ""
        lines.append(
            f"epsilon {epsilon:g}, t = {colluders}: gain over the mean institution's tuned model on {counted[0]}; over one that "
            f"nobody tunes on {counted[1]}; {told}{seeds} seeds"
        )
    return "\n".join(lines)


def _verdict(setting: dict[str, object]) -> str:
    right, of = setting["institutions_right"]  # type: ignore[misc]
    return f"{'right' if setting['sign_right'] else 'wrong'} ({right} of {of})"


def _pm(pair: object) -> str:
    mean, reach = pair  # type: ignore[misc]
    return f"{mean:.4f} ± {reach:.4f}"


def _signed(pair: object) -> str:
    mean, reach = pair  # type: ignore[misc]
    return f"{mean:+.4f} ± {reach:.4f}"


def main() -> int:
    """Measures, prints, and writes if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="how many splits; five or more for intervals")
    parser.add_argument("--forecast-seeds", type=int, default=1, help="for how many of them every institution forecasts")
    parser.add_argument("--tables", nargs="*", help="names of some tables; all if absent")
    parser.add_argument("--write", action="store_true", help=f"write {_RESULTS.relative_to(ROOT)} too")
    asked = parser.parse_args()
    found = []
    for table in read_tables():
        if asked.tables and table.name not in asked.tables:
            continue
        runs = [measure(table, seed, forecasts=seed < asked.forecast_seeds) for seed in range(asked.seeds)]
        found.append(summarise(table, runs))
        print(f"{table.name}: done", file=sys.stderr, flush=True)
    print(printed(found, asked.seeds))
    if asked.write:
        _RESULTS.parent.mkdir(parents=True, exist_ok=True)
        _RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
