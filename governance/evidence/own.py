"""A model that its publisher trained alone or brought from outside: what a bundle of evidence says of it in place of trainings.

Nobody has records of how such a model came about. It is bound by the salted commitment to architecture and weights as they
answer, which the published description has too; its version in the evidence is the first digits of that commitment. A commitment
changes with every digit and every name, so what is known of a model would be forgotten by either: evidence also names the models
that answer as it does, and what was found of them is found of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from governance.evidence.facts import MAX_ITEMS, is_dataset
from governance.identity.fields import Fields
from governance.identity.names import check_id
from privacy.figures import Figures, figures_document, read_figures
from protocols.errors import ConfideError, Problem
from protocols.job import ModelRef
from protocols.job_fields import check_hex

if TYPE_CHECKING:
    from governance.evidence.bundle import EvidenceBundle
    from governance.policy.release import ReleaseTerms

VERSION_DIGITS = 12
MAX_SAME = 1_024
_NAMES = {"commitment", "datasets", "same", "usefulness", "overtaken"}


@dataclass(frozen=True, eq=False)
class OwnModel:
    """See the module; public.

    Attributes:
        commitment: to architecture and weights, 64 hexadecimal digits; the salt stays with the owner.
        datasets: `party/name/version` of the owner's rows behind it, sorted; empty if that is not said.
        same: `name@version` of the owner's models with evidence that are this one under another name, or but for some digits
            (`protocols.model.likeness`); sorted.
        usefulness: figures of utility that the owner measured on rows that the model was not trained on; empty if it measured
            none.
        overtaken: of each such figure in earlier bundles about it, on which nobody has decided, the worst value and the worst
            ends of its interval; only what is worse than in this bundle, and than people have decided on.
    """

    commitment: str
    datasets: tuple[str, ...]
    same: tuple[str, ...]
    usefulness: Figures
    overtaken: Figures

    def to_document(self) -> dict[str, Any]:
        """Returns it as a document."""
        return {
            "commitment": self.commitment,
            "datasets": list(self.datasets),
            "same": list(self.same),
            "usefulness": figures_document(self.usefulness),
            "overtaken": figures_document(self.overtaken),
        }


def own_ref(name: str, commitment: str) -> ModelRef:
    """Returns under which name and version there is evidence about a model of an institution's own."""
    return ModelRef(name, commitment[:VERSION_DIGITS])


def is_unassessed(bundle: EvidenceBundle) -> bool:
    """Returns whether it is about an own model of which nothing was measured: the class says who may answer for that."""
    carried = any(bundle.is_about(report.ref) for report in bundle.overtaken_risks)
    return bundle.own is not None and not bundle.risk_reports and not carried


def shares_rows(one: EvidenceBundle, other: EvidenceBundle) -> bool:
    """Returns whether two bundles are about rows of one data set, of whatever version; who names none may mean any."""
    named, others = ({name.rpartition("/")[0] for name in each.datasets} for each in (one, other))
    return not named or not others or not named.isdisjoint(others)


def asked_classes(bundle: EvidenceBundle, terms: ReleaseTerms) -> tuple[str, ...]:
    """Returns the classes that a bundle must satisfy: of its rows; of unnamed rows, all that its issuer's can have."""
    return terms.classes_of(bundle.datasets) if bundle.datasets else terms.classes_of_party(bundle.issuer)


def read_own(entry: object, problems: list[Problem]) -> OwnModel | None:
    """Reads what a bundle says of an own model, None of other bundles; notes what is wrong."""
    if entry is None:
        return None
    fields = Fields(entry, names=_NAMES, where="own", problems=problems)
    figures: dict[str, Figures] = {}
    for name in ("usefulness", "overtaken"):
        try:
            figures[name] = read_figures(entry.get(name) if isinstance(entry, dict) else None)
        except ConfideError as error:
            problems.append(Problem(f"own.{name}", error.what, "ask its author"))
    datasets = tuple(item if isinstance(item, str) else "" for item in fields.items("datasets", most=MAX_ITEMS))
    same = tuple(item if isinstance(item, str) else "" for item in fields.items("same", most=MAX_SAME))
    return OwnModel(fields.text("commitment"), datasets, same, figures.get("usefulness", {}), figures.get("overtaken", {}))


def check_own(own: OwnModel, ref: ModelRef, *, issuer: str) -> Iterable[Problem]:
    """Yields what is wrong with it, in a bundle of this issuer about this version."""
    yield from check_hex("own.commitment", own.commitment, 64)
    if ref.version != own.commitment[:VERSION_DIGITS]:
        yield Problem("version", "is not that of the commitment", "make it anew")
    if list(own.datasets) != sorted(set(own.datasets)) or not all(map(is_dataset, own.datasets)):
        yield Problem("own.datasets", "party/name/version of each data set is expected once, sorted", "make it anew")
    elif any(not name.startswith(f"{issuer}/") for name in own.datasets):
        yield Problem("own.datasets", f"rows of others than {issuer} are behind no model of its own", "make it anew")
    if list(own.same) != sorted(set(own.same)) or ref.label in own.same or not all(map(_is_label, own.same)):
        yield Problem("own.same", "name@version of each other model is expected once, sorted", "make it anew")


def _is_label(text: str) -> bool:
    name, _, version = text.partition("@")
    return not [*check_id("", name), *check_hex("", version, VERSION_DIGITS)]
