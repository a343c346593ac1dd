"""A report as a document: what may be shown to others, and what is for the owner's eyes only.

Shareable figures describe the table as a whole. Figures of columns tell an attacker what to look for, so they stay with the
owner; and even there no count of fewer than `LEAST` rows is written out, because documents get passed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from privacy.preparation.schema import API_VERSION
from privacy.reidentification.classes import SIZE_STEPS
from privacy.reidentification.combinations import MANY, MAX_SET, Contribution
from privacy.reidentification.dependence import Dependence
from privacy.reidentification.masking import LEAST, masked_count, masked_parts, masked_share, share
from privacy.reidentification.report import ReidentificationReport

KIND = "ReidentificationReport"


def report_document(report: ReidentificationReport) -> dict[str, Any]:
    """Returns the report as a document without floats, which `canonical_bytes` accepts."""
    return {
        "api_version": API_VERSION,
        "kind": KIND,
        "counts_below": LEAST,
        "shareable": shareable_part(report),
        "owner_only": _owner_part(report),
    }


def shareable_part(report: ReidentificationReport) -> dict[str, Any]:
    """Returns what others may see, as a document."""
    sizes, total = report.classes, report.num_rows
    return {
        "rows": total,
        "k": sizes.k,
        "classes": sizes.num_classes,
        "mean_risk": share(sizes.mean_risk),
        "unique_share": masked_share(sizes.unique, total),
        "rows_by_class_size": dict(zip(size_names(), masked_parts(sizes.rows_by_size), strict=True)),
        "sensitive": [
            {
                "column": one.column,
                "distinct_l": one.distinct_l,
                "entropy_l": share(one.entropy_l),
                "t": share(one.t),
                "distance": "ordered" if one.ordered else "equal",
                "single_valued_share": masked_share(one.single_valued_rows, total),
            }
            for one in report.diversities
        ],
    }


def size_names() -> tuple[str, ...]:
    """Returns the steps of class sizes in words: `1`, `3-4`, `100+`."""
    ends = (*(step - 1 for step in SIZE_STEPS[1:]), None)
    return tuple(
        f"{start}+" if end is None else str(start) if start == end else f"{start}-{end}"
        for start, end in zip(SIZE_STEPS, ends, strict=True)
    )


def _owner_part(report: ReidentificationReport) -> dict[str, Any]:
    total = report.num_rows
    return {
        "quasi_identifiers": list(report.quasi_identifiers),
        "quasi_identifiers_from": "contract" if report.declared else "proposal",
        "direct_identifiers": [
            {"column": one.column, "what": one.what, "sure": one.sure.text, "why": one.why} for one in report.findings
        ],
        "columns": [
            {
                "column": one.name,
                "role": "none" if one.role is None else one.role.value,
                "distinct": one.distinct,
                "unique": masked_count(one.unique, total),
                "missing": masked_count(one.missing, total),
                "entropy_bits": share(one.entropy_bits),
            }
            for one in report.columns
        ],
        "contributions": _contributions(report.contributions, total),
        "proposal": {
            "rule": f"the smallest sets of at most {MAX_SET} columns that make at least {MANY:.0%} of the rows unique",
            "columns": list(report.proposed),
            "sets": [
                {"columns": list(one.columns), "unique_share": masked_share(round(one.unique * total), total)}
                for one in report.smallest_sets
            ],
            "contributions": _contributions(report.proposed_contributions, total),
        },
        "dependence_on_identifiers": [_dependence(one) for one in report.dependences if one.found],
        "sampled_rows": report.sampled,
    }


def _contributions(contributions: Sequence[Contribution], total: int) -> list[dict[str, Any]]:
    return [
        {
            "column": one.column,
            "alone": masked_share(round(one.alone * total), total),
            "added": masked_share(max(0, round(one.added * total)), total),
        }
        for one in contributions
    ]


def _dependence(one: Dependence) -> dict[str, Any]:
    return {
        "identifier": one.identifier,
        "column": one.column,
        "of": "order" if one.by_order else "value",
        "bits": share(one.bits),
        "bits_by_chance": share(one.chance),
        "share": share(one.share),
    }
