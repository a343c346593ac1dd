"""Bounds that an owner sets: on the parameters of a job, and on each kind of output."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from governance.consent.reading import in_order
from governance.identity.fields import Fields
from protocols.canonical import Document
from protocols.errors import Problem
from protocols.job import MAX_CLASSES, MAX_COMPUTING_PARTIES, MAX_QUERY_ROWS, MAX_ROWS, Job, Output, OutputKind
from protocols.job_fields import check_decimal
from protocols.output_checks import LEAST_DISTANCE, MOST_DISTANCE
from protocols.private_training import MAX_PRIVATE_STEPS
from protocols.row_noise import EVALUATED_WITH_NOISE
from protocols.training import MAX_BATCH, MAX_EPOCHS, MAX_STEPS, OptimiserKind

MAX_DECIMALS = 9
MAX_CLIP = Decimal("0.499999999")
_PARAMETER_NAMES = {"max_epochs", "max_steps", "min_batch_size", "max_query_rows", "optimisers"}
_OUTPUT_NAMES = {"kind", "min_cell", "top_k", "decimals", "clip"}
_NOISE_NAMES = {"noise", "noise_colluders"}  # in the document only where noise is demanded, and so is abstention
_ABSTENTION_NAMES = {"abstain_below"}
_DISTANCE_NAMES = {"abstain_beyond"}
_GROUP_NAMES = {"group_by"}  # in the document only where it says something
MAX_GROUPINGS = 64
_MAX_FEATURE_CHARS = 128
_MAX_NOISE = Decimal(1_000)
ABOUT_ROWS = (*EVALUATED_WITH_NOISE, OutputKind.CENTROIDS, OutputKind.GROUP_MEANS, OutputKind.MOMENTS)
NOISY = (*ABOUT_ROWS, OutputKind.LABEL, OutputKind.PROBABILITY, OutputKind.VALUE, OutputKind.MEAN)
ABSTAINING = (OutputKind.LABEL, OutputKind.PROBABILITY)
DISTANT = (OutputKind.LABEL, OutputKind.PROBABILITY, OutputKind.SCORE, OutputKind.VALUE)
# Kinds of outputs whose constraints mean something for them.
PER_CLASS = (OutputKind.PROBABILITY,)
ROUNDED = (OutputKind.PROBABILITY, OutputKind.SCORE, OutputKind.VALUE)


@dataclass(frozen=True)
class ParameterLimits:
    """Bounds on the public parameters of a job; None and an empty tuple are no bound.

    Attributes:
        max_epochs: of a training.
        max_steps: of a training, epochs times batches.
        min_batch_size: of a training: fewer rows in a step let one row weigh more.
        max_query_rows: samples of one inference, or of one serving altogether.
        optimisers: of a training.
    """

    max_epochs: int | None = None
    max_steps: int | None = None
    min_batch_size: int | None = None
    max_query_rows: int | None = None
    optimisers: tuple[OptimiserKind, ...] = ()

    def to_document(self) -> Document:
        """Returns the limits as a document."""
        return {**vars(self), "optimisers": [kind.value for kind in self.optimisers]}

    def in_words(self) -> str:
        """Returns the bounds for people; empty without any."""
        named = {
            "epochs at most": self.max_epochs,
            "steps at most": self.max_steps,
            "batches of at least": self.min_batch_size,
            "samples at most": self.max_query_rows,
        }
        words = [f"{name} {bound}" for name, bound in named.items() if bound is not None]
        return ", ".join([*words, *(kind.value for kind in self.optimisers)])

    def problems(self, job: Job) -> Iterable[Problem]:
        """Yields each bound that a job leaves, by name."""
        training = job.training
        if training is not None:
            # The epochs of a private training count its steps.
            steps = training.epochs * (1 if training.privacy is not None else -(-job.num_rows // training.batch_size))
            yield from _at_most("max_epochs", training.epochs, self.max_epochs, "epochs")
            yield from _at_most("max_steps", steps, self.max_steps, "steps")
            if self.min_batch_size is not None and training.batch_size < self.min_batch_size:
                what = f"batches of {training.batch_size} rows; at least {self.min_batch_size} are permitted"
                yield Problem("min_batch_size", what, "use larger batches")
            if self.optimisers and training.optimiser.kind not in self.optimisers:
                permitted = ", ".join(kind.value for kind in self.optimisers)
                what = f"the optimiser is {training.optimiser.kind.value}; permitted: {permitted}"
                yield Problem("optimisers", what, "use a permitted one")
        if job.most_samples:
            yield from _at_most("max_query_rows", job.most_samples, self.max_query_rows, "samples")


@dataclass(frozen=True)
class OutputRule:
    """What of one kind may be opened; a kind without a rule may not be.

    Attributes:
        kind: the kind.
        min_cell: an output says at least this minimum cell, a mean of predictions at least so many samples; 0 for other kinds.
        top_k: at most so many classes of a sample are opened, and not all of them; 0 for no bound.
        decimals: rounded to at most so many decimals; None if it need not be rounded.
        clip: clipped at least so far from 0 and 1; a decimal, "0" if it need not be.
        noise: each number has noise of at least this standard deviation; a decimal, "0" if it need not have any.
        noise_colluders: and keeps it against so many of the computing parties; 0 without noise.
        abstain_below: samples whose largest probability is below this get no answer; a decimal, "0" if all may.
        abstain_beyond: samples that lie farther than this from the middle of their ranges get no answer, and the output may draw
            the line nearer; a decimal, "0" if all may.
        group_by: group confusion: the features by which rows may be grouped, sorted; empty for any.
    """

    kind: OutputKind
    min_cell: int = 0
    top_k: int = 0
    decimals: int | None = None
    clip: str = "0"
    noise: str = "0"
    noise_colluders: int = 0
    abstain_below: str = "0"
    abstain_beyond: str = "0"
    group_by: tuple[str, ...] = ()

    def to_document(self) -> Document:
        """Returns the rule as a document; what it does not demand of noise and abstention is left out."""
        document = {**vars(self), "kind": self.kind.value, "group_by": list(self.group_by)}
        optional = (
            (_NOISE_NAMES, self.noise != "0"),
            (_ABSTENTION_NAMES, self.abstain_below != "0"),
            (_DISTANCE_NAMES, self.abstain_beyond != "0"),
            (_GROUP_NAMES, self.group_by != ()),
        )
        for names, is_demanded in optional:
            if not is_demanded:
                document = {name: value for name, value in document.items() if name not in names}
        return document

    def in_words(self) -> str:
        """Returns the rule for people."""
        named = {
            "cells of at least": self.min_cell or None,
            "top": self.top_k or None,
            "decimals at most": self.decimals,
            "clipped at": None if Decimal(self.clip) == 0 else self.clip,
            f"against {self.noise_colluders} colluder(s) noise of at least": None if self.noise == "0" else self.noise,
            "no answer below": None if self.abstain_below == "0" else self.abstain_below,
            "none farther from the middle than": None if self.abstain_beyond == "0" else self.abstain_beyond,
            "grouped by": " or ".join(self.group_by) or None,
        }
        words = [f"{name} {bound}" for name, bound in named.items() if bound is not None]
        return f"{self.kind.value} ({', '.join(words)})" if words else self.kind.value

    def problems(self, output: Output) -> Iterable[Problem]:
        """Yields each bound that an output of this kind leaves, by name."""
        where = f"outputs.{self.kind.value}."
        if output.min_cell < self.min_cell:
            what = f"output {output.name} may tell of {output.min_cell} row(s); at least {self.min_cell} are demanded"
            yield Problem(f"{where}min_cell", what, f"write min_cell: {self.min_cell} or more")
        if self.top_k and not 1 <= output.top_k <= self.top_k:
            opened = output.top_k or "all"
            what = f"output {output.name} opens {opened} classes of a sample; at most {self.top_k} are permitted"
            yield Problem(f"{where}top_k", what, f"write top_k: {self.top_k} or less")
        if self.decimals is not None and (output.decimals is None or output.decimals > self.decimals):
            opened = "unrounded" if output.decimals is None else f"with {output.decimals} decimals"
            what = f"output {output.name} is opened {opened}; at most {self.decimals} decimals are permitted"
            yield Problem(f"{where}decimals", what, f"write decimals: {self.decimals} or less")
        if Decimal(output.clip) < Decimal(self.clip):
            what = f"output {output.name} is clipped at {output.clip}; at least {self.clip} is demanded"
            yield Problem(f"{where}clip", what, f'write clip: "{self.clip}" or more')
        if Decimal(output.noise) < Decimal(self.noise) or output.noise_colluders < self.noise_colluders:
            has = f"noise {output.noise} against {output.noise_colluders} colluder(s)"
            what = f"output {output.name} has {has}; {self.noise} against {self.noise_colluders} is demanded"
            remedy = f'write noise: "{self.noise}" or more, and noise_colluders: {self.noise_colluders} or more'
            yield Problem(f"{where}noise", what, remedy)
        if Decimal(output.abstain_below) < Decimal(self.abstain_below):
            what = f"output {output.name} answers from {output.abstain_below} on; {self.abstain_below} or more is demanded"
            yield Problem(f"{where}abstain_below", what, f'write abstain_below: "{self.abstain_below}" or more')
        if self.abstain_beyond != "0" and not 0 < Decimal(output.abstain_beyond) <= Decimal(self.abstain_beyond):
            asked = "however far samples lie" if output.abstain_beyond == "0" else f"samples as far as {output.abstain_beyond}"
            what = f"output {output.name} answers {asked}; {self.abstain_beyond} or less is demanded"
            yield Problem(f"{where}abstain_beyond", what, f'write abstain_beyond: "{self.abstain_beyond}" or less, and not "0"')
        if self.group_by and output.group_by not in self.group_by:
            permitted = ", ".join(self.group_by)
            what = f"output {output.name} groups rows by {output.group_by}; permitted: {permitted}"
            yield Problem(f"{where}group_by", what, f"group by {permitted}")


def read_parameter_limits(entry: object, *, where: str, problems: list[Problem]) -> ParameterLimits:
    """Reads limits from a document; notes what is wrong."""
    fields = Fields(entry, names=_PARAMETER_NAMES, where=where, problems=problems)
    known = entry if isinstance(entry, dict) else {}

    def optional(name: str) -> int | None:
        return None if known.get(name) is None else fields.whole(name, least=1)

    return ParameterLimits(
        max_epochs=optional("max_epochs"),
        max_steps=optional("max_steps"),
        min_batch_size=optional("min_batch_size"),
        max_query_rows=optional("max_query_rows"),
        optimisers=fields.choices("optimisers", OptimiserKind),
    )


def read_output_rule(entry: object, *, where: str, problems: list[Problem]) -> OutputRule:
    """Reads a rule from a document; notes what is wrong."""
    known = entry if isinstance(entry, dict) else {}
    demanded = [names for names in (_NOISE_NAMES, _ABSTENTION_NAMES, _DISTANCE_NAMES, _GROUP_NAMES) if names & set(known)]
    fields = Fields(entry, names=_OUTPUT_NAMES.union(*demanded), where=where, problems=problems)
    unrounded = not isinstance(entry, dict) or entry.get("decimals") is None
    return OutputRule(
        kind=fields.choice("kind", OutputKind, otherwise=OutputKind.CORRECT_COUNT),
        min_cell=fields.whole("min_cell", least=0),
        top_k=fields.whole("top_k", least=0),
        decimals=None if unrounded else fields.whole("decimals", least=0),
        clip=fields.text("clip"),
        noise=fields.text("noise") if _NOISE_NAMES in demanded else "0",
        noise_colluders=fields.whole("noise_colluders", least=1) if _NOISE_NAMES in demanded else 0,
        abstain_below=fields.text("abstain_below") if _ABSTENTION_NAMES in demanded else "0",
        abstain_beyond=fields.text("abstain_beyond") if _DISTANCE_NAMES in demanded else "0",
        group_by=_texts(fields.items("group_by", most=MAX_GROUPINGS)) if _GROUP_NAMES in demanded else (),
    )


def _texts(items: list[object]) -> tuple[str, ...]:
    """Texts as they are; what is none becomes empty, which the rule's check refuses."""
    return tuple(item if isinstance(item, str) else "" for item in items)


def check_parameter_limits(where: str, limits: ParameterLimits) -> Iterable[Problem]:
    """Yields everything wrong with bounds on parameters."""
    for name, value, most in (
        ("max_epochs", limits.max_epochs, max(MAX_EPOCHS, MAX_PRIVATE_STEPS)),  # of a private training they are steps
        ("max_steps", limits.max_steps, MAX_STEPS),
        ("min_batch_size", limits.min_batch_size, MAX_BATCH),
        ("max_query_rows", limits.max_query_rows, MAX_QUERY_ROWS),
    ):
        if value is not None and not 1 <= value <= most:
            yield Problem(f"{where}.{name}", f"must be 1 to {most}, or null", "choose a value inside")
    if limits.optimisers != in_order(limits.optimisers, OptimiserKind):
        yield Problem(f"{where}.optimisers", "named twice, or in another order than the format's", "name each once")


def check_output_rules(where: str, rules: tuple[OutputRule, ...]) -> Iterable[Problem]:
    """Yields everything wrong with rules for outputs."""
    kinds = tuple(rule.kind for rule in rules)
    if kinds != in_order(kinds, OutputKind):
        yield Problem(where, "a kind stands twice, or in another order than the format's", "write one rule for each kind")
    for rule in rules:
        at = f"{where}.{rule.kind.value}"
        if not 0 <= rule.min_cell <= MAX_ROWS:
            yield Problem(f"{at}.min_cell", f"must be 0 to {MAX_ROWS}", "choose a value inside")
        if not 0 <= rule.top_k <= MAX_CLASSES or (rule.top_k and rule.kind not in PER_CLASS):
            yield Problem(f"{at}.top_k", f"must be 0 to {MAX_CLASSES}, and 0 where no classes are opened", "correct it")
        if rule.decimals is not None and (rule.decimals > MAX_DECIMALS or rule.kind not in ROUNDED):
            yield Problem(f"{at}.decimals", f"must be 0 to {MAX_DECIMALS}, and null for what is not rounded", "correct it")
        unsound = [*check_decimal(f"{at}.clip", rule.clip, Decimal(0), MAX_CLIP)]
        yield from unsound
        if not unsound and Decimal(rule.clip) and rule.kind not in PER_CLASS:
            yield Problem(f"{at}.clip", 'must be "0" for what is no probability', 'write "0"')
        yield from _check_noise(at, rule)
        named = set(rule.group_by)
        if list(rule.group_by) != sorted(named) or not all(0 < len(name) <= _MAX_FEATURE_CHARS for name in named):
            yield Problem(f"{at}.group_by", "names of features are expected, each once and sorted", "correct it")
        elif named and rule.kind is not OutputKind.GROUP_CONFUSION:
            yield Problem(f"{at}.group_by", "must be empty for what has no groups", "remove it")


def _check_noise(at: str, rule: OutputRule) -> Iterable[Problem]:
    if rule.noise != "0":
        yield from check_decimal(f"{at}.noise", rule.noise, Decimal("0.001"), _MAX_NOISE)
        if rule.kind not in NOISY:
            yield Problem(f"{at}.noise", 'must be "0" for what takes no noise', 'write "0"')
    if (rule.noise_colluders != 0) != (rule.noise != "0") or rule.noise_colluders > MAX_COMPUTING_PARTIES:
        yield Problem(f"{at}.noise_colluders", "stands beside noise, from 1 on, and is 0 without", "correct it")
    if rule.abstain_below != "0":
        yield from check_decimal(f"{at}.abstain_below", rule.abstain_below, Decimal("0.000001"), Decimal(1))
        if rule.kind not in ABSTAINING:
            yield Problem(f"{at}.abstain_below", 'must be "0" for what is no class or probability', 'write "0"')
    if rule.abstain_beyond != "0":
        yield from check_decimal(f"{at}.abstain_beyond", rule.abstain_beyond, LEAST_DISTANCE, MOST_DISTANCE)
        if rule.kind not in DISTANT:
            yield Problem(f"{at}.abstain_beyond", 'must be "0" for what is no answer to a sample', 'write "0"')


def _at_most(name: str, value: int, bound: int | None, unit: str) -> Iterable[Problem]:
    if bound is not None and value > bound:
        yield Problem(name, f"{value} {unit}; at most {bound} are permitted", f"use at most {bound}")
