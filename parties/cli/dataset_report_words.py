"""What a re-identification report says to people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from parties.cli.output import table
from privacy.reidentification.combinations import MANY, MAX_SET, Contribution
from privacy.reidentification.comparison import changes
from privacy.reidentification.masking import LEAST, masked_count, masked_parts, masked_share, share
from privacy.reidentification.report import ReidentificationReport
from privacy.reidentification.report_document import size_names

_MAX_SHOWN = 15


def report_in_words(report: ReidentificationReport) -> str:
    """Returns a report for its owner."""
    sections = [
        f"{report.num_rows} rows, {len(report.columns)} columns. For the owner's eyes; counts below {LEAST} rows are not shown.",
        "\n".join(_findings(report)),
        "\n".join(_columns(report)),
        "\n".join(_classes(report)),
        "\n".join(_proposal(report)),
        "\n".join(_dependences(report)),
    ]
    return "\n\n".join(section for section in sections if section)


def comparison_in_words(before: ReidentificationReport, after: ReidentificationReport) -> str:
    """Returns what changed between two reports."""
    rows = [(change.figure, change.before, change.after) for change in changes(before, after)]
    return "\n".join(["CHANGED", table(("", "before", "after"), rows)])


def _findings(report: ReidentificationReport) -> Iterator[str]:
    if not report.findings:
        yield "Identifiers: none found. That proves little: look at the columns yourself."
        return
    yield "Identifiers found"
    rows = [(one.column, one.what, one.sure.text, one.why) for one in report.findings]
    yield table(("column", "what", "sure", "why"), rows)


def _columns(report: ReidentificationReport) -> Iterator[str]:
    yield "Columns"
    total = report.num_rows
    rows = [
        (
            one.name,
            "not in contract" if one.role is None else one.role.value,
            str(one.distinct),
            masked_share(one.unique, total),
            str(masked_count(one.missing, total)),
            f"{one.entropy_bits:.2f}",
        )
        for one in report.columns
    ]
    yield table(("column", "role", "distinct", "unique rows", "missing", "bits"), rows)


def _classes(report: ReidentificationReport) -> Iterator[str]:
    if not report.quasi_identifiers:
        yield "Classes: no quasi-identifiers are declared, and none are proposed."
        return
    origin = "of the contract" if report.declared else "proposed"
    sizes, total = report.classes, report.num_rows
    yield f"Rows that are alike in the quasi-identifiers {origin}: {', '.join(report.quasi_identifiers)}"
    alone = masked_share(sizes.unique, total)
    yield f"k = {sizes.k}; {sizes.num_classes} classes; mean risk {share(sizes.mean_risk)}; rows alone in their class {alone}"
    parts = [str(part) for part in masked_parts(sizes.rows_by_size)]
    yield table(("rows alike", *size_names()), [("rows", *parts)])
    if report.diversities:
        rows = [
            (
                one.column,
                str(one.distinct_l),
                f"{one.entropy_l:.3f}",
                f"{share(one.t)} ({'ordered' if one.ordered else 'equal'} distance)",
                masked_share(one.single_valued_rows, total),
            )
            for one in report.diversities
        ]
        yield ""
        yield table(("sensitive", "distinct l", "entropy l", "t", "rows in one-valued classes"), rows)
    if report.contributions:
        yield ""
        yield _contributions(report.contributions, total)


def _proposal(report: ReidentificationReport) -> Iterator[str]:
    rule = f"the smallest sets of at most {MAX_SET} columns that make at least {MANY:.0%} of the rows unique"
    if not report.smallest_sets:
        yield f"Proposed quasi-identifiers ({rule}): none."
        return
    total = report.num_rows
    yield f"Proposed quasi-identifiers ({rule}): {', '.join(report.proposed)}"
    rows = [(", ".join(one.columns), masked_share(round(one.unique * total), total)) for one in report.smallest_sets]
    yield table(("set", "unique rows"), rows)
    if report.proposed_contributions:
        yield ""
        yield _contributions(report.proposed_contributions, total)


def _contributions(contributions: Sequence[Contribution], total: int) -> str:
    rows = [
        (one.column, masked_share(round(one.alone * total), total), masked_share(max(0, round(one.added * total)), total))
        for one in contributions
    ]
    return table(("column", "unique alone", "added to the others"), rows)


def _dependences(report: ReidentificationReport) -> Iterator[str]:
    found = [one for one in report.dependences if one.found]
    if not report.dependences:
        return
    if not found:
        yield "What columns say about identifiers: no more than chance."
        return
    yield f"What columns say about identifiers, beyond chance ({report.sampled} rows)"
    rows = [
        (
            one.column,
            one.identifier,
            "order" if one.by_order else "value",
            f"{one.bits:.3f}",
            f"{one.chance:.3f}",
            share(one.share),
        )
        for one in found[:_MAX_SHOWN]
    ]
    yield table(("column", "identifier", "of its", "bits", "by chance", "share"), rows)
    if len(found) > _MAX_SHOWN:
        yield f"and {len(found) - _MAX_SHOWN} more, in the format json"
