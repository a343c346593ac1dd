"""What is known of a job's numbers reaches the researcher before the run, and a certain overflow does not get in."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from governance.documents import DocumentKind, sign_bytes
from parties.cli.range_words import describe_ranges, ranges_in_words
from parties.client.calls import PreparedJob
from parties.client.tasks import _input_shape
from parties.server.courier import JobPapers
from parties.server.intake import read_papers
from parties.server.party import Party
from parties.wire.documents import to_wire
from protocols.canonical import sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import FIXED_POINT
from protocols.model.layers import Linear
from protocols.model.ranges import GRADIENT, analyse
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_to_safetensors
from protocols.plan.ranges import ranges_of
from tests.support.jobs import a_training, sgd
from tests.support.members import a_founder, new_keys

SPEC = ModelSpec.chain(3, first=Linear(4), second=Linear(1))
LARGE = {
    "first.weight": np.full((4, 3), 900.0),
    "first.bias": np.zeros(4),
    "second.weight": np.full((1, 4), 900.0),
    "second.bias": np.zeros(1),
}
REPORT = analyse(SPEC, LARGE, numbers=FIXED_POINT, training=sgd(1, 8, "0.5"), batch_rows=8)


def test_table_names_every_layer_with_its_bounds_and_says_what_is_not_proven() -> None:
    lines = ranges_in_words(REPORT).splitlines()
    # 3 * 900 = 2^11.4, and 4 * 900 times that is 2^23.2
    found = [" ".join(line.split()) for line in lines]
    assert "first result 12 14 20 8 cannot overflow" in found
    assert "second result 24 28 20 -4 not proven" in found
    assert lines[-2:] == list(REPORT.warnings)


def test_json_says_the_same() -> None:
    found = describe_ranges(REPORT)
    assert found["warnings"] == list(REPORT.warnings)
    assert [(bound["where"], bound["standing"]) for bound in found["bounds"]][:2] == [  # type: ignore[union-attr, index]
        ("first", "cannot overflow"),
        ("second", "not proven"),
    ]


def test_prepared_job_carries_the_warnings() -> None:
    job = a_training()
    assert PreparedJob(job).warnings == ()
    assert PreparedJob(job, ranges=REPORT).warnings == REPORT.warnings


def test_job_is_bounded_with_batches_no_larger_than_its_rows() -> None:
    job = a_training()
    zeros = {parameter.name: np.zeros(parameter.shape) for parameter in job.model.parameters}
    assert job.training is not None
    wide = replace(job, training=replace(job.training, batch_size=65_536))
    limits = {bound.limit_bits for bound in ranges_of(wide, zeros).bounds if bound.quantity == GRADIENT}
    assert limits == {FIXED_POINT.update_limit_bits}


def test_shape_of_rows_is_asked_for_where_the_module_does_not_say_it() -> None:
    convolution = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 1))
    assert _input_shape(nn.Sequential(nn.ReLU(), nn.Linear(7, 1)), None) == (7,)
    assert _input_shape(convolution, (1, 4, 4)) == (1, 4, 4)
    with pytest.raises(ConfideError, match="Conv2d") as caught:
        _input_shape(convolution, None)
    assert caught.value.code is ErrorCode.INVALID_MODEL
    with pytest.raises(ConfideError, match="neither"):
        _input_shape(torch.zeros(1), None)  # type: ignore[arg-type]


def test_party_refuses_public_weights_that_must_overflow() -> None:
    founder, alice = a_founder(), new_keys()
    directory = founder.directory(version=3, parties=(), researchers=(founder.researcher(alice, "alice"),))
    party = cast(Party, SimpleNamespace(id="hospital-a", directory=directory))
    model = a_training().model

    def papers(bias: float) -> JobPapers:
        weights = weights_to_safetensors({p.name: np.full(p.shape, bias, np.float32) for p in model.parameters}, model)
        body = a_training(initial_weights_sha256=sha256_hex(weights)).to_bytes()
        signed = sign_bytes(body, kind=DocumentKind.JOB, signer="alice", key=alice.signing)
        return read_papers(party, to_wire(signed), weights)[1]

    assert papers(1000.0).initial_weights
    with pytest.raises(ConfideError) as caught:
        papers(2000.0)
    assert caught.value.code is ErrorCode.INVALID_MODEL
    assert {problem.where for problem in caught.value.problems} == {"linear.weight", "linear.bias"}
