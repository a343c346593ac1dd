"""Soak: a long run of truncations and comparisons, checked against plain integers. `make soak` asks for 10^9 of each.

python benchmarks/soak_truncation.py --elements 1000000000
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from protocols.mpc.primitives.comparison import nonnegative
from protocols.mpc.primitives.truncation import truncate
from tests.support.mpc_world import run_protocol, split

BATCH = 1 << 18


def main() -> int:
    """Runs batches until enough elements are checked; returns 1 at the first wrong one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=10**9)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    done, started, reported = 0, time.monotonic(), 0.0
    while done < arguments.elements:
        seed = arguments.seed + done
        values = np.random.default_rng(seed).integers(-(2**62), 2**62, BATCH)
        shift = 1 + seed // BATCH % 62
        shares = [[share] for share in split(values, 2, seed=seed)]
        cut = run_protocol(lambda engine, mine, f=shift: truncate(engine, mine[0], f), shares, seed=str(seed))
        error = cut.value - (values >> shift)
        sign = run_protocol(lambda engine, mine: nonnegative(engine, mine[0]), shares, seed=str(seed))
        if error.min() < 0 or error.max() > 1 or not np.array_equal(sign.value, (values >= 0).astype(np.int64)):
            print(f"WRONG at seed {seed}, shift {shift}")
            return 1
        done += BATCH
        elapsed = time.monotonic() - started
        if elapsed - reported > 10:
            reported = elapsed
            print(f"{done:>13,} of {arguments.elements:,} checked, {done / elapsed:,.0f} a second", flush=True)
    print(f"{done:,} truncations and comparisons: no error above one unit, no wrong sign")
    return 0


if __name__ == "__main__":
    sys.exit(main())
