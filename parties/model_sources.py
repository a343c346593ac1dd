"""The rows behind a model, from the jobs that this party knows."""

from __future__ import annotations

from governance.consent.facts import Source
from parties.storage.database import Tables
from protocols.job import Job, ModelRef


def model_sources(tables: Tables, ref: ModelRef) -> tuple[Source, ...]:
    """Returns the rows that went into a model through all its trainings, as far as this party took part in them.

    A party whose rows went into a model took part in that training, so it always knows of its own rows.

    Args:
        tables: of one transaction.
        ref: the model.

    Returns:
        One source for each registration, with the models that hold what was learnt from it, `ref` first.
    """
    found: dict[tuple[str, str, int], Source] = {}
    chain: list[ModelRef] = []
    todo: list[tuple[ModelRef, frozenset[str] | None]] = [(ref, None)]
    while todo:
        model, aware = todo.pop()  # aware of it are those that took part in all trainings from it to `ref`
        if model in chain:
            continue
        chain.append(model)
        for training in _trainings(tables, model):
            took_part = frozenset(training.participants) & (aware if aware is not None else frozenset(training.participants))
            for dataset in training.datasets:
                # Of rows that went in twice the later training counts: a grant for an earlier model does not reach it.
                source = Source(dataset, tuple(chain), is_known_to_owner=dataset.party in took_part)
                found.setdefault((dataset.party, dataset.name, dataset.version), source)
            if training.model_ref is not None:
                todo.append((training.model_ref, took_part))
    return tuple(found.values())


def _trainings(tables: Tables, ref: ModelRef) -> tuple[Job, ...]:
    """The job that made a model; several only if somebody found two jobs whose ids begin alike, and then all of them count."""
    jobs = (Job.from_bytes(record.document) for record in tables.jobs.starting_with(ref.version))
    return tuple(job for job in jobs if job.produced_model == ref)
