"""What a party asks of a model version before it is released: thresholds by the sensitivity class of the rows behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from privacy.audit.terms import MIN_CANARIES
from protocols.errors import Problem
from protocols.job_fields import ID_PATTERN
from protocols.private_training import Unit

MAX_AGE_DAYS = 3_650
MAX_CLASSES = 20
MAX_LIMITS = 64
# Groups of figures that the gate knows; a limit on a name that no report can have would never be looked at.
ATTACKS = ("membership.", "attribute_inference.", "reconstruction.", "canaries.", "table.")
RISK_FIGURES = (*ATTACKS, "capacity.")
# Figures that fewer shadow models make smaller. An assessment has so many by itself.
OF_SHADOWS = ("membership.", "canaries.")
DEFAULT_MIN_SHADOWS = 64
GAPS = (".accuracy_gap", ".fnr_gap", ".fpr_gap", ".selection_gap", ".accuracy_drop")
_UNITS = (Unit.ROW, Unit.PERSON, Unit.PERSON_EVERYWHERE)
_MAX_NAME = 64


@dataclass(frozen=True)
class Quorum:
    """How many of whom must approve; `privacy-officers` and `data-stewards` name everybody with the role."""

    needed: int
    of: tuple[str, ...]

    def to_document(self) -> dict[str, object]:
        """Returns the quorum as a document."""
        return {"needed": self.needed, "of": list(self.of)}


@dataclass(frozen=True)
class ReleaseClass:
    """What is asked of a model version that rows of one class went into.

    Attributes:
        requires_guarantee: whether every training behind it must be differentially private.
        max_epsilon: of all trainings behind it; None for no limit of its own.
        max_delta: likewise.
        unit: what must be protected at least.
        max_figures: by name, of risk reports and of gaps and drops: the most that each may be.
        min_figures: by name, of utility: the least.
        requires_utility: whether somebody who evaluated it must have signed how useful it is, whatever that shows.
        min_canaries: of every owner of the rows, in each training by noisy sums (steps of others open nothing that canaries could
            show in); it must have told what they show. 0 asks for no audit: canaries cost noise of their own.
        min_shadows: of every risk report, where a figure is limited that shadow models make: an attack with few of them is weak.
        max_age_days: of every risk report.
        approvals: who must approve every release; None for nobody.
        more_approvals: who must if the risk has risen, the model has grown or is larger than needed, or an interval reaches over
            a limit; None: such a version is not released.
        unassessed_own: who must approve that a model of the party's own answers queries although nobody attacked it with the rows
            behind it; None: such a model is not published.
    """

    requires_guarantee: bool
    max_epsilon: Decimal | None
    max_delta: Decimal | None
    unit: Unit
    max_figures: Mapping[str, Decimal]
    min_figures: Mapping[str, Decimal]
    requires_utility: bool
    min_canaries: int
    min_shadows: int
    max_age_days: int
    approvals: Quorum | None
    more_approvals: Quorum | None
    unassessed_own: Quorum | None = None

    @property
    def shadows_asked(self) -> int:
        """With how many shadow models a risk report must have attacked at least; 0 where no limit is on what they find."""
        return self.min_shadows if any(name.startswith(OF_SHADOWS) for name in self.max_figures) else 0

    def to_document(self) -> dict[str, object]:
        """Returns the class as a document; decimals are texts."""
        return {
            "requires_guarantee": self.requires_guarantee,
            "max_epsilon": _shown(self.max_epsilon),
            "max_delta": _shown(self.max_delta),
            "unit": self.unit.value,
            "max_figures": {name: _shown(limit) for name, limit in sorted(self.max_figures.items())},
            "min_figures": {name: _shown(limit) for name, limit in sorted(self.min_figures.items())},
            "requires_utility": self.requires_utility,
            "min_canaries": self.min_canaries,
            "min_shadows": self.min_shadows,
            "max_age_days": self.max_age_days,
            "approvals": None if self.approvals is None else self.approvals.to_document(),
            "more_approvals": None if self.more_approvals is None else self.more_approvals.to_document(),
            "unassessed_own": None if self.unassessed_own is None else self.unassessed_own.to_document(),
        }


@dataclass(frozen=True)
class ReleaseTerms:
    """See the module.

    Attributes:
        classes: by name.
        datasets: the class of data sets, by `party/name/version`, `party/name` or `party/*`; the first of these that is named
            counts.
        default_class: of every other data set.
    """

    classes: Mapping[str, ReleaseClass]
    default_class: str
    datasets: Mapping[str, str] = field(default_factory=dict)

    def class_of(self, dataset: str) -> str:
        """Returns the class of a data set, `party/name/version`."""
        party, name, _ = dataset.split("/")
        for known in (dataset, f"{party}/{name}", f"{party}/*"):
            if known in self.datasets:
                return self.datasets[known]
        return self.default_class

    def classes_of(self, datasets: Iterable[str]) -> tuple[str, ...]:
        """Returns the classes of several data sets; a model must satisfy them all."""
        found = {self.class_of(dataset) for dataset in datasets}
        return tuple(name for name in self.classes if name in found)

    def classes_of_party(self, party: str) -> tuple[str, ...]:
        """Returns the classes that rows of a party can have; a model of whose rows nothing is said must satisfy them all."""
        found = {name for dataset, name in self.datasets.items() if dataset.startswith(f"{party}/")} | {self.default_class}
        return tuple(name for name in self.classes if name in found)

    def to_document(self) -> dict[str, object]:
        """Returns the terms as a document."""
        return {
            "classes": {name: terms.to_document() for name, terms in self.classes.items()},
            "datasets": dict(sorted(self.datasets.items())),
            "default_class": self.default_class,
        }


def is_protected(found: Unit, asked: Unit) -> bool:
    """Returns whether a guarantee for one unit is one for another unit too."""
    return _UNITS.index(found) >= _UNITS.index(asked)


def is_gap(name: str) -> bool:
    """Returns whether a figure of utility is one of which less is better."""
    return name.endswith(GAPS) or name == "ece"


def check_release_terms(terms: ReleaseTerms) -> Iterable[Problem]:
    """Yields what is wrong with the terms but for the people they name; `where` is the field."""
    for dataset, name in terms.datasets.items():
        parts = dataset.split("/")
        version_is_one = len(parts) < 3 or (parts[2].isascii() and parts[2].isdigit() and not parts[2].startswith("0"))
        names_are = all(ID_PATTERN.fullmatch(part) for part in parts[:2]) or (len(parts) == 2 and parts[1] == "*")
        if len(parts) not in (2, 3) or not version_is_one or not names_are:
            what = f"{dataset[:63]} names no data set"
            yield Problem(f"release.datasets.{dataset}", what, "write party/name, party/name/version or party/*")
        if name not in terms.classes:
            yield Problem(f"release.datasets.{dataset}", f"{name} is no class", f"choose among {', '.join(terms.classes)}")
    if terms.default_class not in terms.classes:
        what = f"{terms.default_class} is no class"
        yield Problem("release.default_class", what, f"choose among {', '.join(terms.classes)}")
    for name, found in terms.classes.items():
        yield from _check_class(found, f"release.classes.{name}")


def _check_class(found: ReleaseClass, where: str) -> Iterable[Problem]:
    for name in found.max_figures:
        if len(name) > _MAX_NAME or not (name.startswith(RISK_FIGURES) or is_gap(name)):
            yield Problem(f"{where}.max_figures", f"{name[:63]} is no figure of risk, and no gap", "correct the name")
    for name in found.min_figures:
        if len(name) > _MAX_NAME or name.startswith(RISK_FIGURES) or is_gap(name):
            yield Problem(f"{where}.min_figures", f"{name[:63]} is no figure of which more is better", "correct the name")
    if not any(name.startswith(RISK_FIGURES) for name in found.max_figures) and not found.requires_guarantee:
        what = "neither a guarantee nor a limit on a figure of risk is asked for"
        yield Problem(where, what, "name a limit, for example on membership.lira.tpr_at_1_percent, or require a guarantee")
    if 0 < found.min_canaries < MIN_CANARIES:
        what = f"{found.min_canaries} canaries of an owner show nothing"
        yield Problem(f"{where}.min_canaries", what, f"write 0, or {MIN_CANARIES} or more; some thousand show much")
    if found.max_delta is not None and found.max_delta >= 1:
        yield Problem(f"{where}.max_delta", "a delta is below 1", "correct it")


def _shown(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")
