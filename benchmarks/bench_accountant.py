"""The accountant beside published figures: what others state for a setting, and what it gives for the same.

    python benchmarks/bench_accountant.py

The same settings, with tolerances, are tests (tests/unit/test_accounting.py). Where a reference is a bound by Renyi orders, it is
compared with our own such bound; what a job is charged is the tight figure beside it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from privacy.accounting.accountant import Guarantee, guarantee
from privacy.accounting.calibration import choose_noise, choose_noise_for_attack
from privacy.accounting.samplers import FullBatch, PrivatePoisson, PublicFixedBatches, Sampler

DELTA = "0.00001"
MNIST = ("q 256 / 60,000, T 14,062, sigma 1.1", PrivatePoisson(Fraction(256, 60_000), 14_062), "1.1")
RARE = ("q 0.01, T 1,000, sigma 0.7", PrivatePoisson(Fraction(1, 100), 1_000), "0.7")
OFTEN = ("q 0.04, T 2,250, sigma 1.5", PrivatePoisson(Fraction(1, 25), 2_250), "1.5")
EXACT = (("1 full batch, sigma 3.730632", 1, "3.730632", 1.0), ("10,000 full batches, sigma 100", 10_000, "100", 4.0))
EXACT += (("60 full batches, sigma 28.9", 60, "28.9", 1.0),)
# Rows, batch, epsilon; least noise of private Poisson batches and of public fixed ones, ten passes, delta 1 / (10 rows).
BATCHES = ((2_000, 100, "1", "2.57", "10.62"), (20_000, 256, "1", "1.62", "12.28"), (20_000, 256, "8", "0.63", "1.95"))
Line = tuple[str, str, str, str, str]


def given(sampler: Sampler, noise: str, delta: str = DELTA) -> Guarantee:
    """What the accountant says."""
    return guarantee(sampler, noise_multiplier=noise, delta=delta, distance=0.0)


def exact_delta(epsilon: float, ratio: float) -> float:
    """Balle and Wang 2018, theorem 8, by the error function alone."""

    def below(value: float) -> float:
        return math.erfc(-value / math.sqrt(2)) / 2

    return below(ratio / 2 - epsilon / ratio) - math.exp(epsilon) * below(-ratio / 2 - epsilon / ratio)


def lines() -> Iterator[Line]:
    """Setting, figure, reference, ours, source."""
    for (setting, sampler, noise), tight, loose in ((MNIST, "2.392", "2.597"), (RARE, "4.629", "5.423"), (OFTEN, None, "7.3291")):
        found = given(sampler, noise)
        if tight is not None:
            yield setting, "epsilon", tight, f"{found.epsilon}", "Opacus' PRV accountant, error 0.01"
        source = "Opacus' and TensorFlow Privacy's RDP"
        yield setting, "epsilon by Renyi orders", loose, f"{found.rdp_epsilon} (charged: {found.epsilon})", source
    for setting, steps, noise, epsilon in EXACT:
        delta = f"{exact_delta(epsilon, math.sqrt(steps) / float(noise)):.18f}"
        source = "analytic Gaussian mechanism, exact"
        yield setting, "epsilon", f"{epsilon:.4f}", f"{given(FullBatch(steps), noise, delta).epsilon}", source
    for rows, batch, epsilon, private, public in BATCHES:
        delta, setting = f"{1 / (10 * rows):.9f}", f"{rows:,} rows, batches of {batch}, ten passes, epsilon {epsilon}"
        source = "dp-accounting, searched to 0.01 beforehand"
        found = choose_noise(PrivatePoisson(Fraction(batch, rows), 10 * rows // batch), epsilon=epsilon, delta=delta)
        yield f"{setting}, private Poisson", "least sigma", private, f"{found}", source
        found = choose_noise(PublicFixedBatches(10), epsilon=epsilon, delta=delta)
        yield f"{setting}, public fixed", "least sigma", public, f"{found}", source
    for rate, steps, reference in ((Fraction(1, 100), 1, 0.67379294682), (Fraction(1, 1_000), 25, 3.20956502598 / 6)):
        found = choose_noise(PrivatePoisson(rate, steps), epsilon="1", delta=DELTA)
        setting = f"q {float(rate)}, T {steps}, epsilon 1"
        yield setting, "least sigma", f"{reference:.4f}", f"{found}", "the test suite of dp-accounting"
    found = choose_noise_for_attack(PrivatePoisson(Fraction(1, 50), 1_000), max_tpr="0.02", at_fpr="0.01")
    yield "q 0.02, T 1,000, TPR 2 % at FPR 1 %", "least sigma", "2.450", f"{found}", "riskcal"


def main() -> None:
    """Prints the table."""
    print("| setting | figure | reference | ours | source |\n|---|---|---|---|---|")
    for line in lines():
        print(f"| {' | '.join(line)} |", flush=True)


if __name__ == "__main__":
    main()
