"""`confide status`: how the party of a configuration stands, on one screen."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.options import PartyConfigOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from parties.config import load_party_config
from protocols.job import TIME_FORMAT

if TYPE_CHECKING:
    from datetime import datetime

    from parties.operating.own import PeerAnswer
    from parties.operating.status import PartyStatus
    from parties.standing_releases import StandingRelease


@reported
def status(
    *,
    config: PartyConfigOption,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, max=60, help="Seconds to wait for a silent party.")] = 5.0,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Show whether the party serves, its peers, jobs, certificate and disk; it need not be serving."""
    from parties.operating.status import party_status

    asked = now()
    found = party_status(load_party_config(config), software_version=version("confide"), now=asked, timeout_s=timeout_s)
    Output(output_format).result(_describe(found), _in_words(found, asked))


def _in_words(found: PartyStatus, now: datetime) -> str:
    days = (found.certificate_until - now).days
    releases = [f"released: {each.in_words(now)}{'; ASSESS IT ANEW' if each.is_due(now) else ''}" for each in found.releases]
    lines = [
        f"{found.party} {'serves' if found.is_serving else 'does NOT serve'} at {found.listen}, Confide {found.software_version}",
        f"directory: version {found.directory_version}; certificate until "
        f"{found.certificate_until.strftime(TIME_FORMAT)} ({days} days)",
        _audit(found, now),
        f"holds {found.num_datasets} data set(s) and {found.num_models} model(s) as shares",
        *releases,
        f"disk: {found.used_bytes / 1e6:,.1f} MB used, {found.free_bytes / 1e9:,.1f} GB free",
        "",
        table(("peer", "at", "answers", "round trip", "version", "directory"), [_peer(peer) for peer in found.peers]),
        "",
        "open jobs" if found.open_jobs else "no open jobs",
    ]
    if found.open_jobs:
        rows = [(j.job_id, j.job_type, j.querier, j.state, j.phase, age_in_words(j.age_s)) for j in found.open_jobs]
        lines.append(table(("job", "type", "asked by", "state", "phase", "age"), rows))
    if found.endings:
        rows = [(e.job_id, e.job_type, e.state, e.code, e.at_fault, e.time) for e in found.endings]
        lines += ["", "last endings", table(("job", "type", "state", "code", "at fault", "time"), rows)]
    return "\n".join(lines)


def _audit(found: PartyStatus, now: datetime) -> str:
    audit = found.audit
    if audit.made is None:
        return f"audit log: {audit.entries} entries, no checkpoint yet"
    behind = [f"{peer.party} ({audit.cosigned.get(peer.party, 0)})" for peer in found.peers if _lags(found, peer.party)]
    age = age_in_words((now - audit.made).total_seconds())
    shown = f"not yet by {', '.join(behind)}" if behind else "by all"
    forks = f"; {audit.forks} FORK(S) SEEN, see `confide audit witness`" if audit.forks else ""
    return f"audit log: {audit.entries} entries, checkpoint of {audit.checkpoint} signed {age} ago, cosigned {shown}{forks}"


def _lags(found: PartyStatus, party: str) -> bool:
    return found.audit.cosigned.get(party, 0) < found.audit.checkpoint


def age_in_words(seconds: float) -> str:
    """Returns a duration for people, in its largest two units."""
    whole = max(0, int(seconds))
    for size, name, less, smaller in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // less} {smaller}"
    return f"{whole} s"


def _peer(peer: PeerAnswer) -> tuple[str, ...]:
    if peer.failure is not None:
        return (peer.party, peer.endpoint, f"no: {peer.failure.code.name}", "", "", "")
    trip = f"{peer.round_trip_s * 1e3:.1f} ms"
    return (peer.party, peer.endpoint, "yes", trip, peer.software_version, str(peer.directory_version))


def _release(release: StandingRelease) -> Json:
    renewal = release.renewal
    return {
        "model": release.ref.label,
        "assess_by": None if renewal is None else renewal.ends.strftime(TIME_FORMAT),
        "warn_from": None if renewal is None else renewal.due.strftime(TIME_FORMAT),
        "owner": None if renewal is None else renewal.owner,
    }


def _describe(found: PartyStatus) -> dict[str, Json]:
    peers: list[Json] = [
        {
            "party": peer.party,
            "endpoint": peer.endpoint,
            "reachable": peer.failure is None,
            "code": "" if peer.failure is None else peer.failure.code.name,
            "round_trip_s": peer.round_trip_s,
            "software_version": peer.software_version,
            "protocol_version": peer.protocol_version,
            "directory_version": peer.directory_version,
        }
        for peer in found.peers
    ]
    return {
        "party": found.party,
        "listen": found.listen,
        "serving": found.is_serving,
        "software_version": found.software_version,
        "directory_version": found.directory_version,
        "certificate_until": found.certificate_until.strftime(TIME_FORMAT),
        "peers": peers,
        "open_jobs": [dict(vars(job)) for job in found.open_jobs],
        "endings": [dict(vars(ending)) for ending in found.endings],
        "audit": {
            "entries": found.audit.entries,
            "checkpoint": found.audit.checkpoint,
            "checkpoint_time": found.audit.made.strftime(TIME_FORMAT) if found.audit.made else None,
            "cosigned": dict(found.audit.cosigned),
            "forks": found.audit.forks,
        },
        "datasets": found.num_datasets,
        "models": found.num_models,
        "releases": [_release(each) for each in found.releases],
        "free_bytes": found.free_bytes,
        "used_bytes": found.used_bytes,
    }
