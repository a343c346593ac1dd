"""How many raw rows a second a preparation takes, and how much memory, for a file that no memory would hold as objects.

    python benchmarks/bench_prepare.py --rows 10000000

Writes a CSV file of invented people (a name, a patient number, a birth date, a sex, a dose that is missing in 2 of 100, an
outcome, a remark), prepares it by a recipe of six steps, one of which surveys the whole table first, so that the file is read
twice, and prints rows a second of wall and of processor time, and the most memory that all processes together held at one time,
sampled 20 times a second (shared pages counted once for each process, so the figure is an upper bound). Results:
build/bench/prepare.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from parties.preparing.preparing import Instructions, prepare_to_file
from privacy.preparation.contract import OnViolation
from privacy.preparation.contract_file import contract_from_yaml
from privacy.preparation.recipes.recipe_file import recipe_from_yaml

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = b"""
api_version: confide/v1
kind: DataContract
name: ward
purpose: predict an illness
columns:
  - {name: name, role: direct-identifier}
  - {name: patient, role: linkage-key}
  - {name: birth, role: quasi-identifier, use: feature, type: float, range: [0, 120]}
  - {name: sex, role: quasi-identifier}
  - {name: 'sex=f', role: feature, type: boolean}
  - {name: 'sex=m', role: feature, type: boolean}
  - {name: dose, role: feature, type: float, range: [0, 10]}
  - {name: outcome, role: label, type: choice, negative: well, positive: ill}
"""
RECIPE = b"""
api_version: confide/v1
kind: Recipe
name: ward
version: 1
contract: ward
steps:
  - {step: parse-date, columns: [birth], format: '%Y-%m-%d'}
  - {step: date-to-number, column: birth, measure: age, reference: '2024-01-01'}
  - {step: parse-number, columns: [dose]}
  - {step: impute-draw, columns: [dose]}
  - {step: clip, columns: [dose], range: [0, 10]}
  - {step: one-hot, column: sex, values: [f, m], others: none}
"""
_CHUNK_ROWS = 200_000


def write_rows(path: Path, num_rows: int) -> None:
    """Writes invented people, the same for the same number of rows."""
    drawn = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        file.write("name,patient,birth,sex,dose,outcome,remark\n")
        for start in range(0, num_rows, _CHUNK_ROWS):
            count = min(_CHUNK_ROWS, num_rows - start)
            births = (np.datetime64("1930-01-01") + drawn.integers(0, 30_000, count)).astype(str).tolist()
            doses = np.where(drawn.random(count) < 0.02, "", np.char.mod("%.3f", drawn.normal(5, 2, count))).tolist()
            sexes, outcomes = (np.array(pair)[drawn.integers(0, 2, count)].tolist() for pair in (["f", "m"], ["well", "ill"]))
            rows = zip(range(start, start + count), births, sexes, doses, outcomes, strict=True)
            file.writelines(f"Person {n},P{n:08d},{birth},{sex},{dose},{outcome},ok\n" for n, birth, sex, dose, outcome in rows)


class MemoryWatch:
    """Samples the resident memory of this process and all below it."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self.peak_bytes = max(self.peak_bytes, sum(map(_resident, _tree(os.getpid()))))


def _tree(root: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{root}/task").iterdir():
        try:
            children += map(int, (task / "children").read_text().split())
        except FileNotFoundError:  # the thread has ended
            continue
    return [root, *(each for child in children for each in _tree(child))]


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (FileNotFoundError, ProcessLookupError):
        return 0


def main() -> int:
    """Measures, prints and writes the figures; returns the exit status."""
    parser = argparse.ArgumentParser(description="Measure the preparation of raw rows.")
    parser.add_argument("--rows", type=int, default=10_000_000)
    asked = parser.parse_args()
    instructions = Instructions(contract_from_yaml(CONTRACT), recipe_from_yaml(RECIPE))
    with tempfile.TemporaryDirectory() as temporary:
        raw, out = Path(temporary) / "raw.csv", Path(temporary) / "prepared.parquet"
        write_rows(raw, asked.rows)
        started = time.perf_counter()
        with MemoryWatch() as watch:
            outcome = prepare_to_file(raw, instructions, out, on_violation=OnViolation.REFUSE, config=None)
        seconds = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        figures = {
            "rows": outcome.rows_out,
            "raw_mb": raw.stat().st_size / 1e6,
            "prepared_mb": out.stat().st_size / 1e6,
            "wall_s": seconds,
            "processor_s": used.ru_utime + used.ru_stime,
            "rows_per_s": outcome.rows_read / seconds,
            "rows_per_processor_s": outcome.rows_read / (used.ru_utime + used.ru_stime),
            "peak_tree_mib": watch.peak_bytes / 2**20,
            "peak_preparer_mib": used.ru_maxrss / 2**10,
        }
    out_file = ROOT / "build" / "bench" / "prepare.json"
    out_file.parent.mkdir(parents=True, exist_ok=True)
    out_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name, value in figures.items():
        print(f"{name:<24}{value:>14,.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
