"""From what a researcher says of a sweep to the requests of its jobs, and the jobs at real parties."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from parties.client.asked_outputs import evaluation_outputs, output_name, pooling_of
from parties.client.prepare import MAX_FILE_BYTES, assessment_of, dataset_refs, prepare_job
from parties.client.requests import AssessRequest, EvaluateRequest, TrainRequest, read_request
from parties.client.sweep import MEASURES, Measure, SweepRequest
from parties.client.sweep_rows import SweepFile
from parties.storage.files import read_public
from privacy.preparation.schema import TableSchema
from protocols.canonical import canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import DatasetRef, Job, JobType, ModelRef, Output, OutputKind, check

if TYPE_CHECKING:
    from parties.client.calls import PreparedJob, Values
    from parties.client.client import Client
    from protocols.session.messages import Ending

Attack = Literal["lira", "rmia"]
GAPS = ("accuracy", "fnr", "fpr", "selection_rate")
MAX_ROWS = 64
_DECIMAL = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?")
_MAX_NAME = 63
_NOT_TRAINED = "0" * 12
_NOISY: dict[Measure, str] = {"roc_auc": "score_histogram"}
Request = TypeVar("Request", bound=BaseModel)


@dataclass(frozen=True)
class SweepTerms:
    """What differs between the rows of a sweep, and what is asked of each; public.

    Attributes:
        epsilons: decimals, of the trainings; empty if there are noise multipliers.
        noise_multipliers: likewise, in place of epsilons.
        norm_bounds: each with each of them; empty for the request's own.
        holdout: `party/name` of data sets that no model is trained on.
        measure: of utility.
        group_by: a feature by which the rows held out are grouped; empty for no groups.
        group_edges: decimals in its own unit.
        gap: one of `GAPS`.
        attack: with which each model is assessed; None for none.
        shadows: of the attack.
        min_cell: of evaluations and assessments.
        noise: of evaluations: standard deviation of the owners' noise on each number, a decimal; "0" for none.
        noise_colluders: how many owners may pool what they know of it; None for as many as can be.
        rows_per_person: how many rows of one person that noise hides together.
    """

    epsilons: tuple[str, ...]
    noise_multipliers: tuple[str, ...]
    norm_bounds: tuple[str, ...]
    holdout: tuple[str, ...]
    measure: Measure
    group_by: str
    group_edges: tuple[str, ...]
    gap: str
    attack: Attack | None
    shadows: int
    min_cell: int
    noise: str
    noise_colluders: int | None
    rows_per_person: int


def read_training(path: Path) -> TrainRequest:
    """Reads the request of a private training.

    Raises:
        ConfideError: INVALID_JOB or INVALID_ARGUMENT (the researcher's): it cannot be read, or is no private training.
    """
    request = read_request(path)
    if not isinstance(request, TrainRequest) or request.training.privacy is None:
        what = f"{path} is not the request of a private training"
        remedy = "Add privacy: under training:, with any epsilon; the sweep fills in its own."
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy=remedy)
    return request


def sweep_request(training: TrainRequest, terms: SweepTerms) -> SweepRequest:
    """Returns the requests of a sweep's jobs.

    Raises:
        ConfideError: INVALID_ARGUMENT or INVALID_JOB (the researcher's): nothing to sweep, the same twice, no data set held out.
    """
    if terms.noise != "0" and (_DECIMAL.fullmatch(terms.noise) is None or not Decimal(terms.noise)):
        what = f"{terms.noise[:20]}: noise is a decimal above 0, or 0 for none"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
    overlap = sorted(set(terms.holdout) & set(training.datasets))
    if overlap:
        what = f"{', '.join(overlap)}: trained on, so it cannot be held out"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
    groups = {"kind": "group_confusion", "group_by": terms.group_by, "group_edges": list(terms.group_edges)}
    common = {
        "api_version": training.api_version,
        "computing_parties": training.computing_parties,
        "dealer": training.dealer,
        "agreement": training.agreement,
        "purpose": training.purpose,
        "agree_within_minutes": training.agree_within_minutes,
        "expires_in_minutes": training.expires_in_minutes,
        "model": f"{training.model_name}@{_NOT_TRAINED}",
        "min_cell": terms.min_cell,
    }
    asked = {
        "type": "evaluate",
        "datasets": list(terms.holdout),
        "partition": training.partition,
        "outputs": [_measured(terms), *([groups] if terms.group_by else [])],
        "noise": terms.noise,
        "noise_colluders": terms.noise_colluders,
        "rows_per_person": terms.rows_per_person,
    }
    assessment = None
    if terms.attack is not None:
        if training.partition != "rows":
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, "an assessment is of owners of whole rows", remedy="Leave it out.")
        datasets = [*training.datasets, *terms.holdout]
        attacked = {"type": "assess", "datasets": datasets, "members": training.datasets, "attack": terms.attack}
        assessment = _valid(AssessRequest, common | attacked | {"shadows": terms.shadows})
    return SweepRequest(
        trainings=dict(_trainings(training, terms)),
        evaluation=_valid(EvaluateRequest, common | asked),
        assessment=assessment,
        utility=MEASURES[terms.measure],
        gap=f"group.{terms.gap}_gap" if terms.group_by else "",
    )


def _measured(terms: SweepTerms) -> str:
    """What is opened for the measure: an exact area takes no noise, and follows from a histogram of scores that does."""
    return _NOISY.get(terms.measure, terms.measure) if Decimal(terms.noise) else terms.measure


def sweep_file(root: Path, training: TrainRequest, request: SweepRequest, *, folder: Path) -> SweepFile:
    """Returns where a sweep is kept: settings may be added to it later, and nothing else may change.

    Args:
        root: the researcher's folder.
        training: as it was read.
        request: of the sweep.
        folder: where the files that the training names lie.

    Raises:
        ConfideError: INVALID_ARGUMENT (the researcher's): such a file cannot be read.
    """
    privacy = training.training.privacy
    swept = dict.fromkeys(("noise_multiplier", "epsilon", "max_tpr", "at_fpr", "norm_bound"))
    plain = training.model_dump(mode="json")
    plain["training"]["privacy"] = (privacy.model_dump(mode="json") if privacy else {}) | swept
    files = [name for name in (training.manifest, training.weights) if name is not None]
    document = {
        "training": plain,
        "files": [sha256_hex(read_public(folder / name, max_bytes=MAX_FILE_BYTES)) for name in files],
        "evaluation": request.evaluation.model_dump(mode="json"),
        "assessment": None if request.assessment is None else request.assessment.model_dump(mode="json"),
    }
    digest = sha256_hex(canonical_bytes(document))
    return SweepFile(root / "sweeps" / f"{training.model_name}-{digest[:12]}.json", digest)


class ClientJobs:
    """The parties of a researcher's client, for a sweep; see `parties.client.sweep.SweepJobs`."""

    def __init__(self, client: Client, *, folder: Path, timeout_s: float) -> None:
        """Takes her connections, where the files of the training lie, and how long each job may take."""
        self._client = client
        self._folder = folder
        self._timeout_s = timeout_s

    def prepare(self, request: TrainRequest | EvaluateRequest | AssessRequest) -> PreparedJob:
        """Returns a job, complete."""
        return prepare_job(self._client, request, folder=self._folder, now=datetime.now(UTC))

    def draft(self, training: Job, request: EvaluateRequest | AssessRequest) -> Job:
        """Returns what will be asked of the model of a training, checked as far as that can be before it is trained."""
        refs, _ = dataset_refs(self._client, request.datasets)
        job = replace(
            training,
            job_type=JobType(request.type),
            datasets=refs,
            model_ref=training.produced_model or ModelRef(training.model_name or "", _NOT_TRAINED),
            initial_weights_sha256=None,
            model_name=None,
            training=None,
            outputs=self._outputs(request, refs, TableSchema.from_document(training.schema)),
            assessment=assessment_of(request, refs) if isinstance(request, AssessRequest) else None,
        )
        if problems := tuple(check(job)):
            what = f"{len(problems)} problem(s) in what is asked of each model"
            raise ConfideError(ErrorCode.INVALID_JOB, what, problems=problems)
        return job

    def submit(self, prepared: PreparedJob) -> None:
        """Gives a job to every participant."""
        self._client.submit(prepared)

    def job(self, job_id: str) -> Job:
        """Returns a job that was submitted before."""
        return self._client.job(job_id)

    def wait(self, job: Job, *, now: bool) -> Ending:
        """Waits for its ending."""
        return self._client.wait(job, timeout_s=0 if now else self._timeout_s)

    def result(self, job: Job) -> dict[str, Values]:
        """Opens its outputs."""
        return self._client.result(job)

    def _outputs(
        self, request: EvaluateRequest | AssessRequest, refs: tuple[DatasetRef, ...], schema: TableSchema
    ) -> tuple[Output, ...]:
        if isinstance(request, EvaluateRequest):
            return tuple(evaluation_outputs(self._client, request, schema, pooling=pooling_of(request, refs)))
        kind = OutputKind.ATTACK_COUNTS
        return (Output(output_name(kind), kind, self._client.researcher, request.min_cell),)


def _trainings(training: TrainRequest, terms: SweepTerms) -> Iterator[tuple[str, TrainRequest]]:
    field, letter, values = "epsilon", "e", terms.epsilons
    if bool(terms.epsilons) == bool(terms.noise_multipliers):
        what = "a sweep is over epsilons or over noise multipliers"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Give one of them at least twice, or once with norm bounds.")
    if terms.noise_multipliers:
        field, letter, values = "noise_multiplier", "n", terms.noise_multipliers
    bounds = _decimals(terms.norm_bounds) or [""]
    if len(values) * len(bounds) > MAX_ROWS:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"a sweep has at most {MAX_ROWS} trainings")
    privacy = training.training.privacy
    for value in _decimals(values):
        for bound in bounds:
            name = f"{training.model_name}-{letter}{value}{f'-b{bound}' if bound else ''}".replace(".", "-")
            if len(name) > _MAX_NAME:
                what = f"the model would be called {name}, which has more than {_MAX_NAME} characters"
                raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Choose a shorter model_name.")
            limits = dict.fromkeys(("noise_multiplier", "epsilon", "max_tpr", "at_fpr")) | {field: value}
            changed = None if privacy is None else privacy.model_copy(update=limits | ({"norm_bound": bound} if bound else {}))
            settings = training.training.model_copy(update={"privacy": changed})
            yield name, training.model_copy(update={"model_name": name, "training": settings})


def _decimals(values: Sequence[str]) -> list[str]:
    """Decimals in their shortest form, each once."""
    wrong = [value for value in values if _DECIMAL.fullmatch(value) is None or not Decimal(value)]
    if wrong:
        what = f"{', '.join(wrong)[:200]}: decimals above 0 with at most nine places are expected"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
    shortest = [f"{Decimal(value).normalize():f}" for value in values]
    if len(set(shortest)) < len(shortest):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "a value of the sweep is given twice", remedy="Give it once.")
    return shortest


def _valid(kind: type[Request], fields: dict[str, Any]) -> Request:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        problems = [Problem(".".join(map(str, item["loc"])), item["msg"], "correct the option") for item in found]
        what = f"{len(problems)} problem(s) in what is asked of each model"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, problems=problems) from error
