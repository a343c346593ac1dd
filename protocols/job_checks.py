"""What a job must fulfil that shows in the job alone; every party checks it, and so does its author's client."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

from protocols.errors import Problem
from protocols.job_fields import check_ascending, check_hex, check_id
from protocols.job_parts import (
    ATTACKS,
    EVALUATED,
    LOSSES,
    MAX_ASSESSED_ROWS,
    MAX_ATTEMPTS,
    MAX_BLOCK_ROWS,
    MAX_CLASSES,
    MAX_CLUSTERS,
    MAX_ITERATIONS,
    MAX_LIFETIME_S,
    MAX_QUERIES,
    MAX_QUERY_ROWS,
    MAX_RELEASED_PARAMETERS,
    MAX_ROWS,
    MAX_SERVED_ROWS,
    MAX_SERVING_S,
    MAX_SHADOWS,
    MAX_SUMMARISED_ROWS,
    MIN_SHADOWS,
    PREDICTED,
    SUMMARISED,
    Assessment,
    JobType,
    OutputKind,
    Partition,
    Resumption,
    Serving,
    Summary,
    Task,
)
from protocols.model.layers import Dropout, Flatten, Polynomial, Sigmoid, Softmax, Square
from protocols.model.spec import ModelSpec
from protocols.output_checks import check_constraint
from protocols.partition_checks import check_datasets
from protocols.preparations import check_preparations
from protocols.private_job_checks import check_private_job
from protocols.row_noise_checks import check_row_noise
from protocols.schema_features import feature_names
from protocols.training import MAX_STEPS, Loss, check_training

if TYPE_CHECKING:  # the job imports this module
    from protocols.job import Job


def check(job: Job) -> Iterable[Problem]:
    """Yields everything wrong with a job that shows in the job alone."""
    for where, value in (("consortium", job.consortium), ("querier", job.querier), ("dealer", job.dealer)):
        yield from check_id(where, value)
    for party in job.computing_parties:
        yield from check_id("computing_parties", party)
    if len(job.computing_parties) < 2 or len(set(job.computing_parties)) != len(job.computing_parties):
        yield Problem("computing_parties", "at least two different parties compute", "name them in order, the lead first")
    if job.dealer in job.computing_parties:
        yield Problem("dealer", "the dealer computes too and would read everything", "name a party that does not compute")
    if not 0 < (job.expires - job.created).total_seconds() <= MAX_LIFETIME_S:
        yield Problem("expires", "a job lives between a second and seven days", "choose a time after created")
    if not job.created < job.agree_by <= job.expires:
        yield Problem("agree_by", "lies outside the job's life", "choose a time after created, at most expires")
    yield from check_hex("agreement", job.agreement, 64)
    yield from check_id("purpose", job.purpose)
    yield from check_hex("nonce", job.nonce, 32)
    yield from check_datasets(job)
    names = [output.name for output in job.outputs]
    if len(set(names)) != len(names):
        yield Problem("outputs", "two outputs have the same name", "rename one")
    for output in job.outputs:
        yield from check_id("outputs.name", output.name)
        if output.recipient != job.querier:
            yield Problem(f"outputs.{output.name}", "the recipient is not the querier", "open outputs to the querier alone")
        if output.noise_colluders >= len(job.computing_parties):
            where, what = f"outputs.{output.name}.noise_colluders", "all computing parties know the whole noise"
            yield Problem(where, what, f"write {len(job.computing_parties) - 1} or less")
    if job.job_type is not JobType.SUMMARISE:
        yield from check_model(job.model, job.task)
        yield from _absent(job, "summary")
    if job.job_type is not JobType.ASSESS:
        yield from _absent(job, "assessment")
    yield from check_preparations(job)
    yield from _CHECKS[job.job_type](job)


def check_model(model: ModelSpec, task: Task) -> Iterable[Problem]:
    """Yields everything for which a model cannot predict what the labels of a task are; public."""
    width, last = model.output_features, model.layers[-1]
    if task is not Task.CLASSES and width != 1:
        yield Problem("model", f"a {task.value} task has one output, the model {width}", "end the model with one output feature")
    if task is Task.CLASSES and not 2 <= width <= MAX_CLASSES:
        yield Problem("model", f"{width} outputs; classes number 2 to {MAX_CLASSES}", "end the model with one output per class")
    if task is Task.CLASSES and isinstance(last.operator, Sigmoid):
        yield Problem(
            f"model.{last.name}", "one sigmoid per class gives no probabilities of classes", "end with softmax, or none"
        )
    if isinstance(last.operator, Dropout):
        yield Problem(f"model.{last.name}", "dropout ends the model, and would drop predictions", "remove it")
    for layer in model.layers:
        if isinstance(layer.operator, Softmax) and (layer is not last or task is not Task.CLASSES):
            yield Problem(f"model.{layer.name}", "softmax only ends a model of several classes", "remove it")
        if isinstance(layer.operator, Square | Polynomial):
            what = f"{layer.operator.kind} activations are for encrypted inference, and are not computed on shares"
            yield Problem(f"model.{layer.name}", what, "use ReLU, GELU, tanh or sigmoid, or ask the model under encryption")


def check_loss(model: ModelSpec, task: Task, loss: Loss) -> Iterable[Problem]:
    """Yields everything for which a loss cannot train a model for a task; public."""
    if loss not in LOSSES[task]:
        known = ", ".join(known.value for known in LOSSES[task])
        yield Problem("training.loss", f"not one for a {task.value} task", f"choose among {known}")
        return
    # The squared error is that of the model's output, and labels of classes are compared with probabilities.
    ending = {Task.BINARY: Sigmoid, Task.CLASSES: Softmax}.get(task)
    if loss is Loss.MEAN_SQUARED_ERROR and ending is not None and not isinstance(model.layers[-1].operator, ending):
        what = f"the squared error of a {task.value} task is that of probabilities, and the model gives logits"
        yield Problem("training.loss", what, f"end the model with {ending.kind}, or use the cross-entropy")


def _check_train(job: Job) -> Iterable[Problem]:
    yield from _absent(job, "query_rows", "query_commitment", "serving")
    if job.outputs:
        yield Problem("outputs", "training opens nothing", "leave it empty; use an evaluate job")
    if job.model_name is None:
        yield Problem("model_name", "missing", "name the model to be kept")
    else:
        yield from check_id("model_name", job.model_name)
    if (job.initial_weights_sha256 is None) == (job.model_ref is None):
        yield Problem(
            "initial_weights_sha256", "a training starts from public weights or from a model's shares", "give one of both"
        )
    elif job.model_ref is not None:
        yield from _check_model_ref(job)
    else:
        yield from check_hex("initial_weights_sha256", job.initial_weights_sha256 or "", 64)
    if job.resumes is not None:
        yield from _check_resumption(job.resumes)
    if not job.model.trained:
        yield Problem("model", "nothing in it can be trained", "add a linear layer")
    if job.training is None:
        yield Problem("training", "missing", "give epochs, batch size, loss, optimiser and shuffle seed")
        return
    yield from check_training(job.training)
    yield from check_loss(job.model, job.task, job.training.loss)
    if job.training.privacy is not None:
        yield from check_private_job(job, job.training, job.training.privacy)
    elif job.training.batch_size >= 1 and job.training.epochs * -(-job.num_rows // job.training.batch_size) > MAX_STEPS:
        yield Problem("training", f"more than {MAX_STEPS} steps", "use larger batches or fewer epochs")
    if job.training.steps_before and job.model_ref is None:
        yield Problem("training.steps_before", "public weights have no steps behind them", "write 0")


def _check_resumption(resumes: Resumption) -> Iterable[Problem]:
    yield from check_hex("resumes.job_id", resumes.job_id, 32)
    yield from check_hex("resumes.head", resumes.head, 64)
    if not 2 <= resumes.attempt <= MAX_ATTEMPTS or resumes.run < 1:
        yield Problem("resumes", f"attempts count from 2 to {MAX_ATTEMPTS}, runs from 1", "ask the parties for their checkpoints")


def _check_evaluate(job: Job) -> Iterable[Problem]:
    yield from _absent(job, "initial_weights_sha256", "model_name", "training", "resumes", *_OF_A_QUERY, "serving")
    yield from _check_model_ref(job)
    kinds = [output.kind for output in job.outputs]
    known = ", ".join(kind.value for kind in EVALUATED[job.task])
    if not kinds or len(set(kinds)) != len(kinds) or not set(kinds) <= set(EVALUATED[job.task]):
        yield Problem(
            "outputs", f"an evaluation of a {job.task.value} task opens each at most once: {known}", "declare some of them"
        )
    for output in job.outputs:
        if not 1 <= output.min_cell <= MAX_ROWS:
            yield Problem(f"outputs.{output.name}.min_cell", f"must be 1 to {MAX_ROWS}", "say how few rows a count may be of")
        yield from check_constraint(output, job.task, classes=job.model.output_features)
        known_features = feature_names(job.schema)[: job.model.input_features]
        if output.kind is OutputKind.GROUP_CONFUSION and output.group_by and output.group_by not in known_features:
            remedy = f"name one of {', '.join(known_features[:6]) or 'none'}"
            yield Problem(f"outputs.{output.name}.group_by", f"{output.group_by!r} is no feature of these rows", remedy)
    yield from check_row_noise(job)


def _check_assess(job: Job) -> Iterable[Problem]:
    yield from _absent(job, "initial_weights_sha256", "model_name", "training", "resumes", *_OF_A_QUERY, "serving")
    yield from _check_model_ref(job)
    if [output.kind for output in job.outputs] != [OutputKind.ATTACK_COUNTS]:
        yield Problem("outputs", f"an assessment opens {OutputKind.ATTACK_COUNTS.value} and nothing else", "declare that output")
    for output in job.outputs:
        if not 2 <= output.min_cell <= MAX_ROWS:
            yield Problem(f"outputs.{output.name}.min_cell", f"must be 2 to {MAX_ROWS}", "say how few rows a count may be of")
        yield from check_constraint(output, job.task, classes=job.model.output_features)
    if job.partition is not Partition.ROWS or job.task is Task.REAL:
        yield Problem("datasets", "the attack is on whole rows with a class", "use data sets of rows with a class as label")
    if job.num_rows > MAX_ASSESSED_ROWS:
        yield Problem("datasets", f"more than {MAX_ASSESSED_ROWS} rows are not assessed at once", "assess a sample of the rows")
    if job.assessment is None:
        yield Problem("assessment", "missing", "say which data sets are members, by which attack, and at which thresholds")
    else:
        yield from _check_assessment(job, job.assessment)


def _check_assessment(job: Job, assessment: Assessment) -> Iterable[Problem]:
    members, count = assessment.members, len(job.datasets)
    if sorted(set(members)) != list(members) or not 1 <= len(members) < count or not set(members) <= set(range(count)):
        yield Problem("assessment.members", "some of the data sets are members and some are not", "write positions, ascending")
    sides = {(job.datasets[place].party, place in members) for place in range(count)}
    for party in sorted({party for party, _ in sides}):
        if {(party, True), (party, False)} - sides:
            what = f"{party} brings members alone, or others alone: its shadows differ from everybody else's, and so do scores"
            yield Problem("datasets", what, "name rows of both kinds of each owner, or leave it out")
    if assessment.attack not in ATTACKS:
        yield Problem("assessment.attack", f"{assessment.attack!r} is no attack", f"choose among {', '.join(ATTACKS)}")
    if not MIN_SHADOWS <= assessment.shadows <= MAX_SHADOWS:
        yield Problem("assessment.shadows", f"must be {MIN_SHADOWS} to {MAX_SHADOWS}", "choose another number")
    yield from check_ascending("assessment.thresholds", assessment.thresholds, Decimal(-64), Decimal(64))


def _check_release(job: Job) -> Iterable[Problem]:
    yield from _absent(job, "initial_weights_sha256", "model_name", "training", "resumes", *_OF_A_QUERY, "serving")
    yield from _check_model_ref(job)
    if sum(math.prod(spec.shape) for spec in job.model.parameters) > MAX_RELEASED_PARAMETERS:
        what = f"more than {MAX_RELEASED_PARAMETERS} parameters do not fit into one message"
        yield Problem("model", what, "release a smaller model")
    if [output.kind for output in job.outputs] != [OutputKind.WEIGHTS]:
        yield Problem("outputs", f"a release opens {OutputKind.WEIGHTS.value} and nothing else", "declare that output")
    for output in job.outputs:
        if output.min_cell:
            yield Problem(f"outputs.{output.name}.min_cell", "weights are no counts", "write 0")
        yield from check_constraint(output, job.task, classes=job.model.output_features)


def _check_summarise(job: Job) -> Iterable[Problem]:
    yield from _absent(job, "initial_weights_sha256", "model_name", "model_ref", "training", "resumes", *_OF_A_QUERY, "serving")
    if [type(layer.operator) for layer in job.model.layers] != [Flatten]:
        yield Problem("model", "rows are summarised as they are", "write a model of one flatten over the features")
    kinds = [output.kind for output in job.outputs]
    if len(kinds) != 1 or kinds[0] not in SUMMARISED:
        # Beside the sums of one set of groups, those of another show what a group that is withheld would have shown.
        known = ", ".join(kind.value for kind in SUMMARISED)
        yield Problem("outputs", f"a summary opens one of: {known}", "declare one output, and submit a job for each")
    for output in job.outputs:
        if not 2 <= output.min_cell <= MAX_ROWS:
            yield Problem(f"outputs.{output.name}.min_cell", f"must be 2 to {MAX_ROWS}", "say how few rows a group may have")
        yield from check_constraint(output, job.task, classes=job.label_width)
    if job.num_rows > MAX_SUMMARISED_ROWS:
        yield Problem("datasets", f"more than {MAX_SUMMARISED_ROWS} rows are not summarised", "use fewer rows")
    yield from check_row_noise(job)
    if job.summary is None:
        yield Problem("summary", "missing", "say into which groups")
    else:
        yield from _check_summary(job, job.summary, kinds)


def _check_summary(job: Job, summary: Summary, kinds: list[OutputKind]) -> Iterable[Problem]:
    if (summary.label_width == 1) == (job.task is Task.CLASSES) or not 1 <= summary.label_width <= MAX_CLASSES:
        yield Problem("summary.label_width", f"{summary.label_width} does not fit a {job.task.value} label", "read the schema")
    if OutputKind.CENTROIDS in kinds:
        if not 1 <= summary.groups <= min(MAX_CLUSTERS, job.num_rows):
            yield Problem("summary.groups", f"must be 1 to {MAX_CLUSTERS}, and no more than rows", "choose another")
        if not 1 <= summary.iterations <= MAX_ITERATIONS:
            yield Problem("summary.iterations", f"must be 1 to {MAX_ITERATIONS}", "choose another")
        yield from check_hex("summary.start_seed", summary.start_seed, 32)
        return
    if OutputKind.MOMENTS in kinds:
        yield from _check_moments(job, summary)
    elif job.task is Task.REAL:
        yield Problem("outputs", "a label that is a number makes no groups", "open centroids, or register classes as label")
    elif summary.groups != max(2, summary.label_width):
        yield Problem("summary.groups", f"the label has {max(2, summary.label_width)} classes", "write that")
    if summary.iterations or summary.start_seed:
        yield Problem("summary", "only clusters are searched for", 'write iterations 0 and start_seed ""')


def _check_moments(job: Job, summary: Summary) -> Iterable[Problem]:
    if summary.groups != 1:
        yield Problem("summary.groups", "means and deviations are over all rows", "write 1")
    for output in job.outputs:
        if output.noise == "0":
            what = "sums of all rows without noise, told once before and once after a row comes, tell that row"
            yield Problem(f"outputs.{output.name}.noise", what, "write its deviation")
        if job.num_rows < output.min_cell:
            what = f"{job.num_rows} rows are fewer than its minimum"
            yield Problem(f"outputs.{output.name}.min_cell", what, "use more rows")


def _check_infer(job: Job) -> Iterable[Problem]:
    yield from _absent(job, "initial_weights_sha256", "model_name", "training", "resumes", "serving")
    yield from _check_model_ref(job)
    if job.query_rows is None or not 1 <= job.query_rows <= MAX_QUERY_ROWS:
        yield Problem("query_rows", f"must be 1 to {MAX_QUERY_ROWS}", "say how many samples you will share")
    yield from check_hex("query_commitment", job.query_commitment or "", 64)
    yield from _check_predictions(job)


def _check_serve(job: Job) -> Iterable[Problem]:
    yield from _absent(job, "initial_weights_sha256", "model_name", "training", "resumes", *_OF_A_QUERY)
    yield from _check_model_ref(job)
    if job.serving is None:
        yield Problem("serving", "missing", "say how long and how much the model is served")
    else:
        yield from _check_serving(job.serving)
    yield from _check_predictions(job)


def _check_serving(serving: Serving) -> Iterable[Problem]:
    ranges = {
        "block_rows": (1, MAX_BLOCK_ROWS),
        "max_queries": (1, MAX_QUERIES),
        "max_rows": (serving.max_queries, MAX_SERVED_ROWS),  # a query has at least one row
        "idle_s": (1, serving.lifetime_s),
        "lifetime_s": (1, MAX_SERVING_S),
        "rekey_s": (1, MAX_SERVING_S),
    }
    for name, (least, most) in ranges.items():
        if not least <= getattr(serving, name) <= most:
            yield Problem(f"serving.{name}", f"must be {least} to {most}", "choose another")


def _check_predictions(job: Job) -> Iterable[Problem]:
    known = ", ".join(kind.value for kind in PREDICTED[job.task])
    if len(job.outputs) != 1 or job.outputs[0].kind not in PREDICTED[job.task]:
        yield Problem("outputs", f"predictions of a {job.task.value} task are one of: {known}", "declare one output")
    elif job.outputs[0].kind is OutputKind.MEAN:
        yield from _check_mean(job, job.outputs[0].min_cell)
    elif job.outputs[0].min_cell:
        yield Problem("outputs.min_cell", "predictions are no counts", "write 0")
    for output in job.outputs:
        yield from check_constraint(output, job.task, classes=job.model.output_features)


def _check_mean(job: Job, min_cell: int) -> Iterable[Problem]:
    if job.job_type is not JobType.INFER:
        yield Problem("outputs", "a mean is over the samples of one inference", "submit an inference")
    elif not 2 <= min_cell <= MAX_QUERY_ROWS:
        yield Problem("outputs.min_cell", f"must be 2 to {MAX_QUERY_ROWS}", "say how few samples a mean may be of")
    elif (job.query_rows or 0) < min_cell:
        yield Problem("query_rows", f"a mean is of at least {min_cell} samples", "share more samples in one query")


def _check_infer_encrypted(job: Job) -> Iterable[Problem]:
    what = "encrypted inference is between a researcher and a model's owner; no parties compute together"
    yield Problem("type", what, "make an enquiry to the owner")


_CHECKS = {
    JobType.TRAIN: _check_train,
    JobType.EVALUATE: _check_evaluate,
    JobType.SUMMARISE: _check_summarise,
    JobType.ASSESS: _check_assess,
    JobType.RELEASE: _check_release,
    JobType.INFER: _check_infer,
    JobType.SERVE: _check_serve,
    JobType.INFER_ENCRYPTED: _check_infer_encrypted,
}
_OF_A_QUERY = ("query_rows", "query_commitment")


def _check_model_ref(job: Job) -> Iterable[Problem]:
    if job.model_ref is None:
        yield Problem("model_ref", "missing", "name the model and its version")
        return
    yield from check_id("model_ref.name", job.model_ref.name)
    yield from check_hex("model_ref.version", job.model_ref.version, 12)


def _absent(job: Job, *names: str) -> Iterable[Problem]:
    for name in names:
        if getattr(job, name) is not None:
            yield Problem(name, f"does not belong into a {job.job_type.value} job", "remove it")
