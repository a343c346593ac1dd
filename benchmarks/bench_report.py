"""How long the re-identification report of a table takes, and how much memory, for a file that no memory would hold as objects.

    python benchmarks/bench_report.py --rows 10000000

Writes a CSV file of invented people in ten columns: a patient number and a name, four quasi-identifiers that together make nearly
every row unique (the case that needs most memory: as many classes as rows), two sensitive columns, one of them of numbers, and
two more. Prints rows a second of processor time, and the most memory that the process held. Results: build/bench/report.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from parties.reidentifying import report_on_file
from privacy.preparation.contract_file import contract_from_yaml

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = b"""
api_version: confide/v1
kind: DataContract
name: people
purpose: measure the report
columns:
  - {name: mrn, role: linkage-key}
  - {name: first_name, role: direct-identifier}
  - {name: age, role: quasi-identifier, use: feature, type: integer, range: [0, 140]}
  - {name: zip, role: quasi-identifier}
  - {name: sex, role: quasi-identifier}
  - {name: admitted, role: quasi-identifier}
  - {name: diagnosis, role: sensitive}
  - {name: income, role: sensitive}
  - {name: smoker, role: label, type: boolean}
"""
_CHUNK_ROWS = 500_000
_STARTS = ("an", "be", "ca", "do", "el", "fi", "go", "hu", "iv", "jo")
_ENDS = ("ra", "lin", "to", "mas", "nie", "ter", "bert", "son", "wyn", "dra")


def write_rows(path: Path, num_rows: int) -> None:
    """Writes invented people, the same for the same number of rows."""
    drawn = np.random.default_rng(1)
    names = np.array([start + end for start in _STARTS for end in _ENDS])
    writer: pyarrow.csv.CSVWriter | None = None
    for start in range(0, num_rows, _CHUNK_ROWS):
        count = min(_CHUNK_ROWS, num_rows - start)
        numbers = np.arange(start, start + count) * 7919 % 99_999_989
        days = np.datetime64("2010-01-01") + drawn.integers(0, 5000, count)
        batch = pa.record_batch(
            {
                "mrn": pa.array([f"M{number:08d}" for number in numbers]),
                "first_name": pa.array(names[drawn.integers(0, len(names), count)]),
                "age": pa.array(drawn.integers(0, 100, count)),
                "zip": pa.array(drawn.integers(10_000, 40_000, count).astype(str)),
                "sex": pa.array(np.array(["m", "f"])[drawn.integers(0, 2, count)]),
                "admitted": pa.array(days.astype(str)),
                "ward": pa.array(np.char.add("w", drawn.integers(0, 30, count).astype(str))),
                "diagnosis": pa.array(np.char.add("D", drawn.geometric(0.02, count).astype(str))),
                "income": pa.array(np.round(drawn.lognormal(10, 1, count), 0)),
                "smoker": pa.array(np.array(["true", "false"])[drawn.integers(0, 2, count)]),
            }
        )
        if writer is None:
            writer = pyarrow.csv.CSVWriter(path, batch.schema)
        writer.write_batch(batch)
    if writer is not None:
        writer.close()


def main() -> int:
    """Measures, prints and writes the figures; returns the exit status."""
    parser = argparse.ArgumentParser(description="Measure the re-identification report.")
    parser.add_argument("--rows", type=int, default=10_000_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        raw = Path(temporary) / "raw.csv"
        write_rows(raw, asked.rows)
        peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        wall, processor = time.perf_counter(), time.process_time()
        report = report_on_file(raw, contract_from_yaml(CONTRACT))
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        figures = {
            "rows": report.num_rows,
            "raw_mb": raw.stat().st_size / 1e6,
            "classes": report.classes.num_classes,
            "wall_s": wall,
            "processor_s": processor,
            "rows_per_processor_s": report.num_rows / processor,
            # Writing the file comes before and takes less, so the peak is the report's.
            "peak_before_mib": peak_before / 2**10,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
        }
    out = ROOT / "build" / "bench" / "report.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name, value in figures.items():
        print(f"{name:24}{value:,.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
