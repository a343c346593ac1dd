"""What the one-run audit shows of sound and of faulty mechanisms: its lower bound beside the epsilon that is claimed.

    python benchmarks/bench_audit_one_run.py --seeds 10

Simulated trainings by noisy sums: 60 steps at a sampling rate of 0.25, delta 1e-5; the noise multipliers are those that the
accountant gives. Printed are the mean over the seeds, the least and the largest bound, at 99.9 % confidence; "seen" is the share
of runs with a bound above the claim.
"""

from __future__ import annotations

import argparse
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from privacy.accounting.calibration import choose_noise
from privacy.accounting.samplers import PrivatePoisson
from privacy.audit.one_run import epsilon_lower_bound
from tests.support.canary_faults import Fault, SimulatedTraining, simulated_scores

RATE, STEPS, DELTA = Fraction(1, 4), 60, "0.00001"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--canaries", type=int, nargs="+", default=[1_000, 5_000])
    asked = parser.parse_args()
    print(f"{'claimed':>8} {'canaries':>9}  {'fault':<36} {'mean':>6} {'least':>6} {'most':>6} {'seen':>6}")
    for claimed in ("1", "3", "8"):
        noise = choose_noise(PrivatePoisson(rate=RATE, steps=STEPS), epsilon=claimed, delta=DELTA)
        training = SimulatedTraining(float(RATE), STEPS, float(noise))
        for canaries in asked.canaries:
            for fault in Fault:
                scores = (simulated_scores(training, fault, canaries, np.random.default_rng(seed)) for seed in range(asked.seeds))
                bounds = np.array([epsilon_lower_bound(*each, delta=float(DELTA)).epsilon for each in scores])
                seen = np.mean(bounds > float(claimed))
                shown = f"{bounds.mean():>6.2f} {bounds.min():>6.2f} {bounds.max():>6.2f} {seen:>6.0%}"
                print(f"{claimed:>8} {canaries:>9}  {fault.value:<36} {shown}")


if __name__ == "__main__":
    main()
