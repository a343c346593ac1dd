"""The small parts of a job document: what is computed, on which rows and model, and what is opened."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from protocols.training import Loss

MAX_CLASSES = 64
MAX_ROWS = 10_000_000
MAX_QUERY_ROWS = 10_000
MAX_DATASETS = 64
MAX_COMPUTING_PARTIES = 8
MAX_OUTPUTS = 8
MAX_ATTEMPTS = 100
MAX_LIFETIME_S = 7 * 24 * 3600
MAX_BLOCK_ROWS = 1_024
MAX_QUERIES = 1_000_000
MAX_SERVED_ROWS = MAX_ROWS
MAX_SERVING_S = 24 * 3600
MAX_CLUSTERS = 64
MAX_ITERATIONS = 100
MAX_GROUP_EDGES = 15
MAX_SCORE_EDGES = 63
MAX_THRESHOLDS = 64
MAX_PREPARATIONS = 32
ATTACKS = ("lira", "rmia")
MIN_SHADOWS, MAX_SHADOWS = 8, 1_024
MAX_RELEASED_PARAMETERS = 500_000  # 8 bytes each, of a message of 4 MiB
MAX_ASSESSED_ROWS = 65_536  # every owner scores all its rows with all its shadows, and all scores are compared in shares
MAX_SUMMARISED_ROWS = 1 << 20  # beyond, the error of a mean would exceed two units of its last place


class JobType(Enum):
    """What is computed."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    ASSESS = "assess"  # how well a membership attack tells the rows a model was trained on from others; counts are opened
    RELEASE = "release"  # a model's weights are opened to one recipient, under a licence
    SUMMARISE = "summarise"  # rows are told by the means and sizes of groups of them, and by nothing else
    INFER = "infer"
    SERVE = "serve"  # a model stays open to the querier's queries for a while, without a session for each of them
    INFER_ENCRYPTED = "infer_encrypted"  # one party evaluates its own model on ciphertexts: no job, but an enquiry, asks for it


# What several parties compute together: the types that a job document may have.
JOINT = tuple(kind for kind in JobType if kind is not JobType.INFER_ENCRYPTED)


class Task(Enum):
    """What the labels are, and so what the model predicts."""

    BINARY = "binary"  # 0 or 1; the model has one output, its logit or probability
    CLASSES = "classes"  # 0 to k - 1; the model has k outputs, logits or probabilities
    REAL = "real"  # a number scaled to [-1, 1]; the model has one output


class Partition(Enum):
    """What the data sets of a job are to each other."""

    ROWS = "rows"  # every one has all columns, of other people: they are joined below each other
    COLUMNS = "columns"  # every one has other columns of the same people in the same order: they are joined side by side


class OutputKind(Enum):
    """What an output is, after its constraint has been computed in shares (docs/protocols/evaluation.md).

    c is the largest minimum cell of the job's outputs, n the number of all rows, k that of the correct ones.
    """

    CORRECT_COUNT = "correct_count"  # evaluate: one integer: k; but 0 for k < c, and n for n - k < c
    CONFUSION = "confusion"  # evaluate: (classes, classes) counts, true class by predicted class; -1 in cells that are withheld
    ROC_AUC = "roc_auc"  # evaluate, binary: the area under the curve; withheld if either class has fewer than c rows
    LOG_LOSS = "log_loss"  # evaluate: mean cross-entropy of the predictions; withheld if a class has rows, but fewer than c
    SQUARED_ERROR = "squared_error"  # evaluate, real: mean squared error
    RELIABILITY = "reliability"  # evaluate: (10, 3): of the rows in each tenth of the probability: how many, sum, how many right
    GROUP_CONFUSION = "group_confusion"  # evaluate, binary: (groups, 4): true and false negatives, false and true positives
    SCORE_HISTOGRAM = "score_histogram"  # evaluate, binary, with noise: (bins, 2): rows of class 0 and 1 by probability
    ATTACK_COUNTS = "attack_counts"  # assess: (thresholds, 2): members, and others, whose score reaches each threshold
    WEIGHTS = "weights"  # release: all parameters, one after the other, as they are held
    CENTROIDS = "centroids"  # summarise: (clusters, features + 1): means of the rows of each cluster, and how many it has
    GROUP_MEANS = "group_means"  # summarise: (classes, features + 1): likewise of the rows with each label
    MOMENTS = "moments"  # summarise: (features, 2): mean and deviation of each feature over all rows, from two noisy sums
    LABEL = "label"  # infer, serve: the predicted class per sample
    PROBABILITY = "probability"  # infer, serve: the model's probability per sample; one per class if there are several
    SCORE = (
        "score"  # infer, serve: what the model computes before its last sigmoid or softmax; one per class if there are several
    )
    VALUE = "value"  # infer and serve, real: the predicted number per sample, scaled as the labels
    MEAN = "mean"  # infer: of the probabilities, or values within [-1, 1], of all samples of the query, which are c or more


SUMMARISED = (OutputKind.CENTROIDS, OutputKind.GROUP_MEANS, OutputKind.MOMENTS)
EVALUATED = {
    Task.BINARY: (
        OutputKind.CORRECT_COUNT,
        OutputKind.CONFUSION,
        OutputKind.ROC_AUC,
        OutputKind.LOG_LOSS,
        OutputKind.RELIABILITY,
        OutputKind.GROUP_CONFUSION,
        OutputKind.SCORE_HISTOGRAM,
    ),
    Task.CLASSES: (OutputKind.CORRECT_COUNT, OutputKind.CONFUSION, OutputKind.LOG_LOSS, OutputKind.RELIABILITY),
    Task.REAL: (OutputKind.SQUARED_ERROR,),
}
PREDICTED = {
    Task.BINARY: (OutputKind.LABEL, OutputKind.PROBABILITY, OutputKind.SCORE, OutputKind.MEAN),
    Task.CLASSES: (OutputKind.LABEL, OutputKind.PROBABILITY, OutputKind.SCORE, OutputKind.MEAN),
    Task.REAL: (OutputKind.VALUE, OutputKind.MEAN),
}
LOSSES = {
    Task.BINARY: (Loss.BINARY_CROSS_ENTROPY, Loss.MEAN_SQUARED_ERROR),
    Task.CLASSES: (Loss.CROSS_ENTROPY, Loss.MEAN_SQUARED_ERROR),
    Task.REAL: (Loss.MEAN_SQUARED_ERROR,),
}


@dataclass(frozen=True)
class DatasetRef:
    """A registered data set, as its owner describes it to everybody; public.

    Attributes:
        party: its owner.
        name: its name at the owner.
        version: counts registrations under this name, from 1.
        num_rows: rows that passed the contract.
        schema_digest: SHA-256 of the schema document, 64 hexadecimal digits.
        commitment: salted commitment to the prepared rows, 64 hexadecimal digits; the salt stays with the owner.
        num_features: how many feature columns it has; 0 if it brings labels alone.
        has_label: whether it has the label column.
        alignment: 64 hexadecimal digits that only data sets of the same people in the same order share
            (`privacy.preparation.alignment`); empty if it was registered without one.
    """

    party: str
    name: str
    version: int
    num_rows: int
    schema_digest: str
    commitment: str
    num_features: int
    has_label: bool
    alignment: str


@dataclass(frozen=True)
class ModelRef:
    """A trained model held as shares; public. `version` is the id of the training job, cut to 12 digits."""

    name: str
    version: str

    @property
    def label(self) -> str:
        """How requests and people name it."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Resumption:
    """Where a training that ended early is taken up again; public.

    Attributes:
        job_id: the job whose checkpoint this is: the last attempt before this one.
        head: of the checkpoint, 64 hexadecimal digits; the same at every computing party.
        run: steps of the training that lie behind it, counted over all attempts.
        attempt: of this job: 2 for the first resumption.
    """

    job_id: str
    head: str
    run: int
    attempt: int


@dataclass(frozen=True)
class PreparedOpening:
    """What one computing party handed out of released means and deviations, by which everybody makes a schema's ranges again.

    Whoever sees the job has these noisy figures, which the ranges tell anyway.

    Attributes:
        party: whose share it was.
        share: little-endian int64, hexadecimal digits.
        nonce: opens its commitment, 64 hexadecimal digits.
    """

    party: str
    share: str
    nonce: str


@dataclass(frozen=True)
class Preparation:
    """A job whose outcome a training was prepared with, and what that spent; public.

    Attributes:
        job: its id, 32 hexadecimal digits.
        job_type: what it was.
        epsilon: a decimal; empty if it opened something without noise, or was a training without terms of privacy.
        delta: a decimal; "0" without a bound.
        rows: how many rows of one person its noise hides together; 0 without a bound.
        colluders: against how many owners who pool what they know it does; 0 without a bound.
        openings: of each computing party, if the schema's ranges follow from its means and deviations; else empty.
    """

    job: str
    job_type: JobType
    epsilon: str
    delta: str
    rows: int
    colluders: int
    openings: tuple[PreparedOpening, ...] = ()


@dataclass(frozen=True)
class Serving:
    """How long and how much a model is served in one session; public.

    Attributes:
        block_rows: rows of the fixed block in which waiting queries are answered together; smaller batches are padded with
            zero rows, a larger query is cut into several blocks.
        max_queries: how many queries are answered at most.
        max_rows: how many rows of queries are answered at most; all of them count against budgets when the job starts.
        idle_s: the session ends after so many seconds without a query.
        lifetime_s: the session ends so many seconds after the model was opened under its mask.
        rekey_s: after so many seconds the parties draw fresh keys, and open the weights under another mask.
    """

    block_rows: int
    max_queries: int
    max_rows: int
    idle_s: int
    lifetime_s: int
    rekey_s: int


@dataclass(frozen=True)
class Summary:
    """Into which groups the rows of all owners are put together, and how clusters are found; public.

    Attributes:
        groups: centroids: how many clusters; group means: how many labels there are; moments: 1.
        label_width: columns of the shared labels: one for each of several classes, else one.
        iterations: centroids: how often means are moved; else 0.
        start_seed: centroids: hexadecimal; says which rows are the first means, their numbers and not their values; else empty.
    """

    groups: int
    label_width: int
    iterations: int
    start_seed: str


@dataclass(frozen=True)
class Assessment:
    """How a model is attacked; public.

    Attributes:
        members: positions in the job's data sets of those that the model was trained on; the others are compared with them.
        thresholds: of the score, decimals in ascending order; for each of them two counts are opened.
        attack: `lira` or `rmia`: how each owner makes of a model's confidence in a row the score of the row.
        shadows: how many shadow models each owner trains on its own rows.
    """

    members: tuple[int, ...]
    thresholds: tuple[str, ...]
    attack: str
    shadows: int


@dataclass(frozen=True)
class Output:
    """Something opened at the end, to one recipient.

    Attributes:
        name: chosen by the querier.
        kind: what it is.
        recipient: the querier.
        min_cell: evaluate: no count that is opened, and no group behind a rate, is of fewer rows; summarise: likewise no group;
            a mean of predictions: the query has no fewer samples; else 0.
        top_k: probabilities of several classes: only the k largest of a sample are opened, the others as 0; 0 for all.
        decimals: probabilities and values: opened after rounding to so many decimals, in shares; None for no rounding.
        clip: probabilities: none below it and none above 1 - clip is opened; a decimal, "0" for no clipping.
        group_by: group confusion: the feature by which rows are grouped; else empty.
        group_edges: group confusion: where one group ends and the next begins, in values of that feature as it is shared, from
            -1 to 1; score histogram: likewise of the probability of class 1, between 0 and 1; decimals in ascending order; n
            edges make n + 1 groups.
        noise: predictions, counts, losses, group means and moments: standard deviation of the discrete Gaussian noise that is
            added to each number before anything is chosen or opened, as a decimal; probabilities are clipped to [0, 1] before,
            values to [-1, 1]; of groups and moments it is added to sums and sizes, of losses to their sum in units of the most
            that a row counts; "0" for none.
        noise_colluders: of those that draw the noise, how many may pool what they know; the others' noise alone has that
            deviation. Of predictions the computing parties draw it, of all else the owners of the rows.
        bound: log loss and squared error with noise: no row's log loss, or absolute error, counts for more; a decimal, "0"
            without noise.
        rows_per_person: with noise on numbers about rows: how many rows of one person it hides together; else 1.
        abstain_below: predictions of classes: a sample whose largest probability is below it gets no answer; a decimal, "0" for
            none.
        abstain_beyond: predictions: a sample gets no answer that lies farther from the middle of its features' ranges: the root
            of the mean of squares of its features, scaled to [-1, 1], is above it, or one of them is outside of that; a decimal,
            "0" for none.
    """

    name: str
    kind: OutputKind
    recipient: str
    min_cell: int = 0
    top_k: int = 0
    decimals: int | None = None
    clip: str = "0"
    group_by: str = ""
    group_edges: tuple[str, ...] = ()
    noise: str = "0"
    noise_colluders: int = 0
    bound: str = "0"
    rows_per_person: int = 1
    abstain_below: str = "0"
    abstain_beyond: str = "0"

    @property
    def abstains(self) -> bool:
        """Whether there are samples without an answer."""
        return self.abstain_below != "0" or self.abstain_beyond != "0"

    @property
    def has_noise(self) -> bool:
        """Whether noise is added before it is opened."""
        return self.noise != "0"
