"""Figures about the audit log: how long it is, how far its witnesses are behind, and what they have found."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from parties.server.party import Party
from parties.server.witnessing import Witnessing
from protocols.errors import ConfideError


class AuditCollector(Collector):
    """Figures that are read when Prometheus asks; none of them if the database cannot be read then."""

    def __init__(self, party: Party, witnessing: Witnessing) -> None:
        """Takes the party and who has its checkpoints cosigned."""
        self._party = party
        self._witnessing = witnessing

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Reads everything anew."""
        others = [entry.id for entry in self._party.directory.parties if entry.id != self._party.id]
        try:
            with self._party.database.transaction() as tables:
                size, latest, cosigned = tables.audit.size(), tables.audit.latest_checkpoint(), tables.audit.cosigned_sizes()
                num_forks = len(tables.witness.forks())
        except ConfideError:
            return
        age_s = 0.0 if latest is None else (self._party.now() - latest.made).total_seconds()
        lag = GaugeMetricFamily("confide_audit_witness_lag", "Entries that a party has not cosigned.", labels=["peer"])
        for peer in others:
            lag.add_metric([peer], size - cosigned.get(peer, 0))
        yield lag
        for name, text, value in (
            ("confide_audit_entries", "Entries of this party's audit log.", size),
            ("confide_audit_checkpoint_age_seconds", "Since the newest checkpoint of the audit log was signed.", age_s),
            ("confide_audit_forks", "Contradictions in other parties' audit logs that this party holds evidence of.", num_forks),
            ("confide_state_rolled_back", "1 if a witness holds more of this log than this party.", self._is_halted()),
        ):
            yield GaugeMetricFamily(name, text, value=value)

    def _is_halted(self) -> int:
        return int(self._witnessing.halted is not None)
