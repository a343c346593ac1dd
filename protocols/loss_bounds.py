"""Which losses an evaluation measures, and within what a row's loss is clipped where noise is added; known without tensors."""

from __future__ import annotations

from decimal import Decimal

from protocols.job_parts import OutputKind

LOSSES = (OutputKind.LOG_LOSS, OutputKind.SQUARED_ERROR)
LEAST_BOUND = Decimal("0.01")
MOST_BOUND = {OutputKind.LOG_LOSS: Decimal(16), OutputKind.SQUARED_ERROR: Decimal(2)}
"""Labels lie within [-1, 1], and predictions beyond that say nothing; the logit of 2^-16 is 11."""

USUAL_BOUND = {OutputKind.LOG_LOSS: "5", OutputKind.SQUARED_ERROR: "2"}
