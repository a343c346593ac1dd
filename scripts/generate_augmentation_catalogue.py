"""Writes docs/augmentation-catalogue.md from the techniques and the records of their measured effects, or checks both.

Techniques: `privacy/augmentation`. Records: `privacy/augmentation/records`, written by `confide augmentation evaluate --out`.

    scripts/generate_augmentation_catalogue.py            writes the page
    scripts/generate_augmentation_catalogue.py --check    exits with 1 if the page differs, or a record is missing or stale
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from parties.augmentation.data_sets import SETS
from parties.augmentation.records import current_digests, read_records, sets_for, stale
from privacy.augmentation.catalogue import TECHNIQUES
from privacy.augmentation.record import Record
from privacy.augmentation.technique import Technique
from privacy.augmentation.verdict import JUDGED, Effect, Verdict, overall

PAGE = Path(__file__).resolve().parent.parent / "docs" / "augmentation-catalogue.md"
MARK = "Generated from `privacy/augmentation` and its records by `make augmentation-catalogue`; not edited by hand."
INTRODUCTION = """# The catalogue of augmentation

Every technique that makes further rows, what it means for the people behind the rows, and what it was measured to do. How to use
one, and how all this is measured: [augmentation](augmentation.md). Results that are bad or show nothing stay on this page.
"""
SETS_HEAD = """
## Data sets

| data set | what it is | comes with |
|---|---|---|"""
_SHORT = {Verdict.HELPS: " **helps**", Verdict.HURTS: " **hurts**", Verdict.NO_EFFECT: ""}
_UNMEASURED = "not measured: no labelled set of texts comes with a package that could be installed"


def page(records: Mapping[str, Record]) -> str:
    """Returns the page as the techniques and records give it."""
    lines = [INTRODUCTION, *_summary(records), *_sets(), *_rule(records)]
    for technique in TECHNIQUES.values():
        lines += _section(technique, records.get(technique.name))
    return "\n".join([*lines, "", f"<!-- {MARK} -->", ""])


def _summary(records: Mapping[str, Record]) -> Iterator[str]:
    yield "| technique | for | use | sensitivity, copies averaged before clipping | measured effect |"
    yield "|---|---|---|---|---|"
    for technique in TECHNIQUES.values():
        record = records.get(technique.name)
        verdict = "not measured" if record is None else overall(record.effects()).value
        cells = (
            f"[{technique.name}](#{technique.name})",
            technique.medium.value,
            technique.use.value.partition(";")[0],
            technique.statement.sensitivity,
            verdict,
        )
        yield f"| {' | '.join(cells)} |"


def _sets() -> Iterator[str]:
    yield SETS_HEAD
    for entry in SETS.values():
        yield f"| {entry.name} | {entry.about} | {entry.package} |"


def _rule(records: Mapping[str, Record]) -> Iterator[str]:
    yield from ("", "## Reading the tables", "")
    seeds = sorted({len(record.seeds) for record in records.values()})
    shadows = sorted({record.num_shadows for record in records.values()})
    counted = f"{' or '.join(map(str, seeds))} seeds, {' or '.join(map(str, shadows))} models a run"
    yield f"Each cell: the mean difference that the technique makes, and its interval ({counted}). The intervals of one technique"
    yield "hold together with a chance of 95 %. A cell says *helps* or *hurts* if its interval excludes zero and the mean is at"
    yield "least what matters; if it says neither, no effect was shown. The first line of each pair has the figure without."
    yield ""
    yield "| figure | better | what matters |"
    yield "|---|---|---|"
    for metric in JUDGED.values():
        yield f"| {metric.title} | {'more' if metric.better > 0 else 'less'} | {metric.matters} |"


def _section(technique: Technique, record: Record | None) -> Iterator[str]:
    statement = technique.statement
    yield from ("", f"## {technique.name}", "", technique.what, "")
    yield f"- For: {technique.medium.value}. Use: {technique.use.value}."
    yield f"- Reads: {statement.reads.value}. Sensitivity of a step of private training: {statement.sensitivity}."
    yield f"- The row comes back exactly from a copy: {'yes' if statement.reversible else 'no'}. {statement.note}"
    for each in technique.parameters:
        kind = "whole number" if each.whole else "decimal"
        yield f"- Parameter `{each.name}`: a {kind} from {each.low} to {each.high}; {each.meaning}."
    if record is None:
        yield f"- Effect: {_UNMEASURED}."
        return
    settings = ", ".join(f"{name} {value}" for name, value in record.settings.items()) or "none"
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    found = record.effects()
    yield f"- Verdict: **{overall(found).value}**. Measured on {record.measured} with `{record.command}`; settings: {settings};"
    yield f"  copies: {record.copies}. {versions}; code `{record.code[:12]}`."
    yield ""
    metrics = [metric for metric in JUDGED if any(key[1] == metric for key in found)]
    yield "| data set | | " + " | ".join(JUDGED[metric].title for metric in metrics) + " |"
    yield "|---|---|" + "---|" * len(metrics)
    for data in record.results:
        effects = [found.get((data, metric)) for metric in metrics]
        yield (
            f"| {data} | without | " + " | ".join("" if effect is None else f"{effect.without:.4f}" for effect in effects) + " |"
        )
        yield "| | change | " + " | ".join("" if effect is None else _change(effect) for effect in effects) + " |"


def _change(effect: Effect) -> str:
    return f"{effect.difference:+.4f} [{effect.low:+.4f}, {effect.high:+.4f}]{_SHORT[effect.verdict]}"


def _stale(records: Mapping[str, Record]) -> Iterator[str]:
    digests = current_digests()
    for technique in TECHNIQUES.values():
        if not sets_for(technique):
            continue
        record = records.get(technique.name)
        reasons = ["it has no record"] if record is None else stale(record, technique, digests)
        for reason in reasons:
            again = f"confide augmentation evaluate {technique.name} --out privacy/augmentation/records"
            yield f"the record of {technique.name} does not hold: {reason}; run `{again}`"


def main() -> int:
    """Writes or checks the page; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the page differs or a record is stale")
    records = read_records()
    expected = page(records)
    if not parser.parse_args().check:
        PAGE.write_text(expected, encoding="utf-8")
        return 0
    problems = list(_stale(records))
    if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != expected:
        problems.append(f"{PAGE.name} differs from the records: run `make augmentation-catalogue`")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
