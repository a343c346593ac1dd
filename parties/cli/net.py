"""`confide net`: the connections of a party to the others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer

from parties.cli.doctor import FOUND_BAD, describe_finding, finding_in_words, summary
from parties.cli.options import PartyConfigOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported
from parties.config import load_party_config

app = typer.Typer(help="Examine the connections to the other parties.", no_args_is_help=True)


@app.command("diagnose")
@reported
def diagnose(
    *,
    config: PartyConfigOption,
    peers: Annotated[list[str] | None, typer.Option("--peer", help="A party; may be repeated; all if not given.")] = None,
    idle_s: Annotated[float, typer.Option("--idle", min=0.5, max=120, help="Seconds without traffic to survive.")] = 20.0,
    max_round_trip_ms: Annotated[float, typer.Option("--max-round-trip", min=0.1, help="Milliseconds at most.")] = 250.0,
    min_megabytes_per_s: Annotated[float, typer.Option("--min-bandwidth", min=0.001, help="MB/s at least.")] = 1.0,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Measure every connection in both directions against thresholds; exit code 1 if one fails. This party must be serving."""
    from parties.operating.diagnose import Thresholds, diagnose_peer
    from parties.operating.finding import Verdict, worst
    from parties.operating.own import load_own_member

    loaded, asked = load_party_config(config), now()
    member = load_own_member(loaded, asked)
    limits = Thresholds(max_round_trip_s=max_round_trip_ms / 1e3, min_bytes_per_s=min_megabytes_per_s * 1e6)
    chosen = peers or [entry.id for entry in member.directory.parties if entry.id != loaded.party]
    for peer in chosen:
        member.directory.party(peer)  # a wrong name is told before anything is measured
    output = Output(output_format)
    # One after another would take a silence each; the figures of one connection are not disturbed by the silence of another.
    with ThreadPoolExecutor(max(1, len(chosen)), thread_name_prefix="diagnose") as pool:
        found = list(pool.map(lambda peer: diagnose_peer(loaded, member, peer, limits=limits, idle_s=idle_s, now=asked), chosen))
    shown: list[Json] = []
    for diagnosis in found:
        record: dict[str, Json] = {
            "peer": diagnosis.peer,
            "endpoint": diagnosis.endpoint,
            "verdict": worst(diagnosis.findings).value,
            "findings": [describe_finding(finding) for finding in diagnosis.findings],
        }
        lines = [f"{loaded.party} and {diagnosis.peer} at {diagnosis.endpoint}"]
        lines += [finding_in_words(finding) for finding in diagnosis.findings]
        output.record(record, "\n".join(lines) + "\n")
        shown.append(record)
    findings = [finding for diagnosis in found for finding in diagnosis.findings]
    output.result({"party": loaded.party, "verdict": worst(findings).value, "peers": shown}, summary(findings))
    if worst(findings) is Verdict.FAIL:
        raise typer.Exit(FOUND_BAD)
