"""How often this party's data sets were evaluated: every answer tells a little about the rows, whatever the model."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from parties.storage.tables import EvaluationRow
from protocols.job import ModelRef


class EvaluationStore:
    """Evaluations in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def debit(self, dataset: str, version: int, model: ModelRef, *, job_id: str) -> None:
        """Notes that a job evaluates a data set with a model; the same job again is the same evaluation."""
        key = (dataset, version, model.name, model.version, job_id)
        if self._session.get(EvaluationRow, key) is None:
            columns = ("dataset", "version", "model_name", "model_version", "job_id")
            self._session.add(EvaluationRow(**dict(zip(columns, key, strict=True))))
            self._session.flush()

    def count(self, dataset: str, version: int, *, but: str) -> int:
        """Returns how many jobs have evaluated a data set, with any model, not counting the job `but`.

        Counting each model apart would limit nothing: a querier may train any number of models that she knows.
        """
        query = (
            select(func.count())
            .select_from(EvaluationRow)
            .where(
                EvaluationRow.dataset == dataset,
                EvaluationRow.version == version,
                EvaluationRow.job_id != but,
            )
        )
        return self._session.scalars(query).one()
