"""What a party tells Prometheus of its evaluators; see `parties.server.metrics` for what no metric tells.

Requests are counted, never the numbers or samples in them, and no label says whose they are or which model they ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from parties.server.encrypted.figures import Figures

# From one sample of a small model to a batch of a deep one that loads its keys first.
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class EnquiryMetrics:
    """An `Observe` that counts; its methods may be called from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Takes where the figures are read."""
        self._requests = Counter(
            "confide_encrypted_requests",
            "Encrypted queries that have ended, kept ones included; code is an error code or OK.",
            ("code",),
            registry=registry,
        )
        self._seconds = Histogram(
            "confide_evaluation_seconds",
            "How long an evaluator was occupied with an encrypted query, loading model and keys included.",
            buckets=_BUCKETS,
            registry=registry,
        )

    def ended(self, code: str) -> None:
        """See `Observe`."""
        self._requests.labels(code).inc()

    def evaluated(self, seconds: float) -> None:
        """See `Observe`."""
        self._seconds.observe(seconds)


class EnquiryCollector(Collector):
    """Figures that are read when Prometheus asks."""

    def __init__(self, figures: Callable[[], Figures]) -> None:
        """Takes what reads them."""
        self._figures = figures

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Reads everything anew."""
        now = self._figures()
        for name, text, value in (
            ("confide_evaluators_busy", "Evaluators that have an encrypted query.", now.busy),
            ("confide_evaluation_queue_depth", "Encrypted queries that wait for an evaluator.", now.waiting),
            ("confide_encrypted_upload_bytes", "Evaluation keys and large queries in memory.", now.upload_bytes),
        ):
            yield GaugeMetricFamily(name, text, value=value)
