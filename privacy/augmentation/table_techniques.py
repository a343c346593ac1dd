"""The techniques for tables, closed; apart from the whole catalogue, so that a recipe does not wait for what images need."""

from __future__ import annotations

from privacy.augmentation.table_rows import TableTechnique
from privacy.augmentation.tables import clipping, imputation, jitter, masking, mixup, rebalancing

TABLES: tuple[TableTechnique, ...] = (
    masking.TECHNIQUE,
    jitter.TECHNIQUE,
    clipping.TECHNIQUE,
    imputation.TECHNIQUE,
    mixup.TECHNIQUE,
    rebalancing.TECHNIQUE,
)
