"""What a job's preview says to people, and what was measured beside what was planned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from governance.preview import Preview
from governance.preview_flows import Flow, flows_by_peer
from parties.cli.output import Json, table

if TYPE_CHECKING:
    from parties.server.board import Measured

_MIB = 1 << 20


def preview_in_words(preview: Preview) -> str:
    """Returns a preview for people."""
    institution = f" of {preview.institution}" if preview.institution else ""
    agreement = preview.agreement or f"unknown here, {preview.agreement_digest[:16]}"
    lines = [
        f"{preview.job_type} job {preview.job} at {preview.party} ({', '.join(preview.roles)})",
        f"asked by {preview.querier}{institution} for the purpose {preview.purpose}, under the agreement {agreement}",
        f"grants used here: {', '.join(preview.grants) or 'none: no rows of this party are behind it'}",
        "",
        "leaves this site, in payload bytes:",
        _flows(preview.sends),
        "",
        "comes in, in payload bytes:",
        _flows(preview.receives),
        "",
        f"cost: {preview.rounds:,} rounds, about {duration(preview.seconds)}, {_mib(preview.memory_bytes)} of memory, "
        f"{_mib(preview.disk_bytes)} of disk",
        f"epsilon: {preview.epsilon}",
        *(f"prepared with {line}" for line in preview.prepared_with),
        *(f"budget: {line}" for line in preview.budgets),
        *(f"numbers: {line}" for line in preview.numbers),
    ]
    if preview.outputs:
        rows = [(o.name, o.kind, str(list(o.shape)), o.recipient, o.constraint) for o in preview.outputs]
        lines += ["", table(("opened", "kind", "shape", "to", "constraint"), rows)]
    else:
        lines.append("opened: nothing")
    if preview.model:
        lines.append(f"leaves behind: model {preview.model}, as shares, opened to nobody")
    lines += [
        "",
        table(("who", "learns"), preview.learns),
        "",
        "stays here:",
        *(f"  {part}" for part in preview.retention.split("; ")),
    ]
    return "\n".join(lines)


def describe_measured(preview: Preview, measured: Measured) -> dict[str, Json]:
    """Returns what was planned beside what was measured, for the JSON formats."""
    return {
        "sent": _pairs(flows_by_peer(preview.sends, querier=preview.querier), measured.sent_bytes),
        "received": _pairs(flows_by_peer(preview.receives, querier=preview.querier), measured.received_bytes),
        "rounds": {"planned": preview.rounds, "measured": measured.rounds},
        "seconds": {"planned": preview.seconds, "measured": round(measured.elapsed_ms / 1000, 3)},
        "memory_bytes": {"planned": preview.memory_bytes, "measured": measured.memory_bytes},
        "timing": [dict[str, Json](entry.to_document()) for entry in measured.timing],
    }


def measured_in_words(preview: Preview, measured: Measured) -> str:
    """Returns what was planned beside what was measured, for people."""
    rows = [
        *_byte_rows("sent to", flows_by_peer(preview.sends, querier=preview.querier), measured.sent_bytes),
        *_byte_rows("received from", flows_by_peer(preview.receives, querier=preview.querier), measured.received_bytes),
        ("rounds", f"{preview.rounds:,}", f"{measured.rounds:,}"),
        ("time", f"about {duration(preview.seconds)}", duration(measured.elapsed_ms / 1000)),
        ("memory", f"about {_mib(preview.memory_bytes)}", _mib(measured.memory_bytes)),
    ]
    return table(("", "planned", "measured"), rows)


def duration(seconds: float) -> str:
    """Returns a time as people say it."""
    return f"{seconds:.3g} s" if seconds < 60 else f"{seconds / 60:.1f} minutes"


def _flows(flows: Sequence[Flow]) -> str:
    heads = ("", "rows", "openings", "corrections", "signals", "noise", "outputs and samples", "together")
    rows = [
        (f.peer, *(f"{part:,}" for part in (f.rows, f.openings, f.corrections, f.signals, f.noise, f.outputs, f.total)))
        for f in flows
    ]
    return table(heads, rows) if rows else "nothing"


def _byte_rows(what: str, planned: Mapping[str, int], measured: Mapping[str, int]) -> Iterable[tuple[str, str, str]]:
    for peer in dict.fromkeys((*planned, *measured)):
        yield f"{what} {peer}", f"{planned.get(peer, 0):,} bytes", f"{measured.get(peer, 0):,} bytes"


def _pairs(planned: Mapping[str, int], measured: Mapping[str, int]) -> dict[str, Json]:
    peers = dict.fromkeys((*planned, *measured))
    return {peer: {"planned": planned.get(peer, 0), "measured": measured.get(peer, 0)} for peer in peers}


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / _MIB:,.1f} MiB"
