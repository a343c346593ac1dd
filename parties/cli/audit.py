"""`confide audit`: a party's audit log, for its operator and for auditors."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.options import PartyConfigOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from parties.config import PartyConfig, load_party_config
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import TIME_FORMAT

if TYPE_CHECKING:
    from governance.audit.entries import LogEntry
    from parties.auditing.standalone import Report
    from parties.storage.database import Database

FOLLOW_S = 0.5
MOST_SHOWN = 10_000
app = typer.Typer(help="Read, verify and hand out a party's audit log.", no_args_is_help=True)


@app.command("tail")
@reported
def tail(
    *,
    config: PartyConfigOption,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, max=MOST_SHOWN, help="How many of the last entries.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with new entries until interrupted.")] = False,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Show the last entries, and with --follow those that come."""
    from parties.storage.database import open_database

    if follow and output_format is OutputFormat.JSON:
        raise typer.BadParameter("one JSON object never ends: use --format jsonl", param_hint="--follow")
    output = Output(output_format)
    database = open_database(load_party_config(config).folder.database_file)
    try:
        with database.transaction() as tables:
            size = tables.audit.size()
        shown = _show(database, output, start=max(0, size - lines), stop=size)
        while follow:
            time.sleep(FOLLOW_S)
            with database.transaction() as tables:
                start, size = size, tables.audit.size()
            _show(database, output, start=start, stop=size)
    finally:
        database.close()
    output.result({"size": size, "entries": shown}, f"{size} entries in all")


@app.command("verify")
@reported
def verify(
    *,
    config: Annotated[Path | None, typer.Option("--config", help="The institution's party.yaml.", dir_okay=False)] = None,
    harness: Annotated[Path | None, typer.Option("--harness", help="All parties of this harness.", file_okay=False)] = None,
    witnesses: Annotated[int, typer.Option("--witnesses", min=0, help="How many other parties must have cosigned.")] = 0,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Verify the log in this party's database, with everything that an auditor would check of an export."""
    configs = _configs(config, harness)
    from parties.auditing.own import seen_by, verify_own

    seen = seen_by(configs)
    reports: list[Report] = []
    damaged: list[ConfideError] = []
    for each in configs:
        try:
            reports.append(verify_own(each, witnesses=witnesses, seen=seen[each.party], now=now()))
        except ConfideError as error:
            if error.code is not ErrorCode.LOG_DAMAGED:
                raise
            damaged.append(error)
    if damaged:
        problems = [Problem(error.party, error.what, error.remedy) for error in damaged]
        what = f"{len(damaged)} of {len(configs)} audit logs do not verify"
        raise damaged[0] if len(configs) == 1 else ConfideError(ErrorCode.LOG_DAMAGED, what, problems=problems)
    rows = [(r.origin, str(r.size), f"{r.witnessed_size} by {len(r.witnesses)}", str(r.trusted), r.root[:16]) for r in reports]
    text = table(("log", "entries", "cosigned", "compared", "root"), rows) + "\nEvery entry, hash and signature verifies."
    Output(output_format).result({"logs": [_describe_report(report) for report in reports]}, text)


@app.command("prove")
@reported
def prove(
    *,
    config: PartyConfigOption,
    index: Annotated[int, typer.Argument(metavar="INDEX", min=0, help="The entry's place, from 0.")],
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Show an entry with the proof that it stands in the log under a signed, cosigned checkpoint."""
    from parties.storage.database import open_database

    database = open_database(load_party_config(config).folder.database_file)
    try:
        with database.transaction() as tables:
            entry = tables.audit.entry(index)
            over = tables.audit.checkpoints_over(index)
            if not over:
                remedy = "Wait until the party signs its next checkpoint, or make one with `confide audit export`."
                raise ConfideError(ErrorCode.NOT_READY, f"no checkpoint covers entry {index} yet", remedy=remedy)
            checkpoint = max(over, key=lambda each: (len(each.cosignatures), each.size))
            proof = tables.audit.inclusion(index, checkpoint.size)
    finally:
        database.close()
    data: dict[str, Json] = {
        "index": index,
        "entry": entry.body.decode(),
        "leaf_hash": entry.leaf_hash.hex(),
        "size": checkpoint.size,
        "proof": [part.hex() for part in proof],
        "checkpoint": checkpoint.cosigned_note.decode(),
    }
    parts = [f"  {part.hex()}" for part in proof]
    text = "\n".join([f"entry {index}: {data['entry']}", f"leaf hash {data['leaf_hash']}", "proof:", *parts, "checkpoint:", ""])
    Output(output_format).result(data, text + checkpoint.cosigned_note.decode().rstrip("\n"))


@app.command("export")
@reported
def export(
    *,
    config: PartyConfigOption,
    out: Annotated[Path, typer.Option("--out", help="A new folder.", file_okay=False)],
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Write the log to a folder that an auditor verifies offline with `confide-audit verify`."""
    from parties.auditing.export import export_log

    made = export_log(load_party_config(config), out=out, now=now())
    by = ", ".join(made.cosigned_by) or "nobody yet; the log's older checkpoints are in the folder too"
    text = f"{made.size} entries of {made.origin} are in {made.folder}; the newest checkpoint is cosigned by {by}."
    data: dict[str, Json] = {"folder": str(made.folder), "origin": made.origin, "size": made.size}
    Output(output_format).result(data | {"cosigned_by": list(made.cosigned_by)}, text)


@app.command("witness")
@reported
def witness(*, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Show who has cosigned this party's log, what this party has seen of the others', and evidence of forks."""
    from parties.storage.database import one_transaction

    loaded = load_party_config(config)
    others = [entry.id for entry in loaded.folder.member.load_directory().parties if entry.id != loaded.party]
    with one_transaction(loaded.folder.database_file) as tables:
        size = tables.audit.size()
        newest = tables.audit.latest_checkpoint()
        recent = tables.audit.checkpoints_over(-1)
        seen = [tables.witness.last_seen(party) for party in others]
        forks = tables.witness.forks()
    cosigned: dict[str, tuple[int, str]] = {}
    for checkpoint in recent:
        for each in checkpoint.cosignatures:
            cosigned.setdefault(each.witness, (checkpoint.size, each.time.strftime(TIME_FORMAT)))
    by = {record.party: record for record in seen if record is not None}
    rows: list[tuple[str, ...]] = []
    parties: list[Json] = []
    for party in others:
        up_to, at = cosigned.get(party, (0, ""))
        record = by.get(party)
        seen_size, seen_at = (0, "") if record is None else (record.size, record.seen.strftime(TIME_FORMAT))
        rows.append((party, str(up_to), at or "never", str(seen_size), seen_at or "never"))
        parties.append({"party": party, "cosigned_size": up_to, "cosigned": at, "seen_size": seen_size, "seen": seen_at})
    evidence: list[Json] = [
        {
            "party": fork.party,
            "first": fork.first.decode(),
            "second": fork.second.decode(),
            "seen": fork.seen.strftime(TIME_FORMAT),
        }
        for fork in forks
    ]
    head = "none" if newest is None else f"over {newest.size}"
    text = f"{size} entries; newest checkpoint: {head}\n"
    text += table(("party", "cosigned ours up to", "at", "we saw theirs up to", "at"), rows)
    text += "".join(f"\nFORK: {fork.party} signed two histories; `--format json` shows both checkpoints" for fork in forks)
    data: dict[str, Json] = {"size": size, "checkpoint": 0 if newest is None else newest.size, "parties": parties}
    Output(output_format).result(data | {"forks": evidence}, text)


def _configs(config: Path | None, harness: Path | None) -> list[PartyConfig]:
    if (config is None) == (harness is None):
        raise typer.BadParameter("give either --config or --harness", param_hint="--config")
    if config is not None:
        return [load_party_config(config)]
    from parties import harness as running

    return [party.config for party in running.status(harness).parties] if harness is not None else []


def _show(database: Database, output: Output, *, start: int, stop: int) -> list[Json]:
    with database.transaction() as tables:
        entries = tables.audit.entries(start, stop)
    shown: list[Json] = []
    for entry in entries:
        data, text = _describe(entry)
        output.record(data, text)
        shown.append(data)
    return shown if output.format is OutputFormat.JSON else []


def _describe(entry: LogEntry) -> tuple[dict[str, Json], str]:
    from governance.audit.entries import read_entry

    read = read_entry(entry.body)
    at = read.time.strftime(TIME_FORMAT)
    facts: dict[str, Json] = {name: list(fact) if isinstance(fact, list | tuple) else fact for name, fact in read.facts.items()}
    words = " ".join(f"{name}={_in_words(fact)}" for name, fact in facts.items())
    data: dict[str, Json] = {"index": entry.index, "time": at, "kind": read.kind.value, "facts": facts}
    return data | {"leaf_hash": entry.leaf_hash.hex()}, f"{entry.index:>6}  {at}  {read.kind.value:<18}  {words}"


def _in_words(fact: Json) -> str:
    if isinstance(fact, list):
        return "[" + ",".join(_in_words(item) for item in fact) + "]"
    text = "-" if fact is None else str(fact)
    # A digest is recognised by its beginning; the other formats show all of it.
    return (
        f"{text[:12]}.." if len(text) in (32, 64) and not text.strip("0123456789abcdef") else repr(text) if " " in text else text
    )


def _describe_report(report: Report) -> dict[str, Json]:
    return {
        "log": report.origin,
        "size": report.size,
        "root": report.root,
        "witnessed_size": report.witnessed_size,
        "witnesses": dict(report.witnesses),
        "older_checkpoints": report.older_checkpoints,
        "compared": report.trusted,
        "notes": list(report.notes),
        "accounts": dict(report.accounts),
    }
