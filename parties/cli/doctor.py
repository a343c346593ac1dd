"""`confide doctor`: whether a party's set-up is sound, check by check."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from parties.cli.options import PartyConfigOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported
from parties.config import load_party_config

if TYPE_CHECKING:
    from parties.operating.finding import Finding

FOUND_BAD = 1


@reported
def doctor(*, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Check the set-up without serving: files, keys, database, disk, port, workers, peers; exit code 1 if something fails."""
    from parties.operating.doctor import examine
    from parties.operating.finding import Finding, Verdict, checked, worst

    output = Output(output_format)

    def load() -> Finding:
        return Finding("configuration", Verdict.PASS, f"{config} is valid, for {load_party_config(config).party}")

    findings = [checked("configuration", load)]
    output.record(describe_finding(findings[0]), finding_in_words(findings[0]))
    rest = examine(load_party_config(config), now=now()) if findings[0].verdict is Verdict.PASS else ()
    for finding in rest:
        findings.append(finding)
        output.record(describe_finding(finding), finding_in_words(finding))
    verdict = worst(findings)
    shown: list[Json] = [describe_finding(finding) for finding in findings]
    output.result({"verdict": verdict.value, "findings": shown}, summary(findings))
    if verdict is Verdict.FAIL:
        raise typer.Exit(FOUND_BAD)


def describe_finding(finding: Finding) -> dict[str, Json]:
    """Returns a finding for the JSON formats."""
    return {"check": finding.check, "verdict": finding.verdict.value, "what": finding.what, "remedy": finding.remedy}


def finding_in_words(finding: Finding) -> str:
    """Returns a finding for people."""
    line = f"{finding.verdict.value}  {finding.check}: {finding.what}"
    return f"{line}\n      what to do: {finding.remedy}" if finding.remedy else line


def summary(findings: list[Finding]) -> str:
    """Returns the last line: how many of which verdict."""
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.verdict.value] = counts.get(finding.verdict.value, 0) + 1
    return ", ".join(f"{counts[name]} {name}" for name in ("FAIL", "WARN", "PASS") if name in counts)
