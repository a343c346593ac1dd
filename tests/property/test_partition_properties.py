"""Rows that owners share in parts are, joined, what one owner would have shared whole."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.fixed_point import VALUE_BITS, encode
from protocols.job import JobType, Task
from protocols.mpc.channels import Channel
from protocols.mpc.inputs import RowSharing, label_columns, planned_inputs
from protocols.plan.plan import Plan
from protocols.training import Loss
from tests.support.jobs import sgd
from tests.support.memory_links import connect
from tests.support.mpc_world import a_job, keys_for
from tests.support.parts import in_columns
from tests.support.programs import PARTIES, a_network, a_table

OWNERS = ("alpha", "beta", "gamma", "kappa", "lambda")  # the first two always compute, gamma deals, the others only own


@settings(max_examples=40, deadline=None)
@given(
    widths=st.lists(st.integers(0, 3), min_size=2, max_size=5),
    labelled=st.integers(0, 4),
    num_rows=st.integers(1, 9),
    num_parties=st.integers(2, 4),
    order=st.permutations(range(5)),
    has_classes=st.booleans(),
)
def test_shares_of_any_split_of_columns_join_to_the_rows(
    widths: list[int], labelled: int, num_rows: int, num_parties: int, order: list[int], has_classes: bool
) -> None:
    owners = [OWNERS[position] for position in order if position < len(widths)]
    with_label = owners[labelled % len(owners)]
    kept = {owner: width for owner, width in zip(owners, widths, strict=True) if width or owner == with_label}
    if len(kept) < 2 or not sum(kept.values()):
        kept = {owners[0]: 2, owners[1]: 1}
        with_label = owners[1]
    task = Task.CLASSES if has_classes else Task.BINARY
    model = a_network(sum(kept.values()), 3 if has_classes else 1)
    table = in_columns(a_table(model, task, num_rows), list(kept.values()), list(kept), labelled=with_label)
    computing = PARTIES[:num_parties]
    training = sgd(1, num_rows, "0.5", loss=Loss.CROSS_ENTROPY if has_classes else Loss.BINARY_CROSS_ENTROPY)
    whole = a_job(
        JobType.TRAIN,
        features=model.input_features,
        rows={"alpha": num_rows},
        computing=computing,
        model=model,
        task=task,
        training=training,
    )
    job = table.parted(whole)
    # Of the plan the keys take no more than this, and deriving it takes a hundred times longer than sharing the rows.
    known = cast(Plan, SimpleNamespace(participants=job.participants, digest="ab" * 32))
    links, keys = connect(job.participants), keys_for(known, job)
    channels = {party: {peer: Channel(link) for peer, link in mine.items()} for party, mine in links.items()}
    sharing = {party: RowSharing(job=job, party=party, keys=keys[party], channels=channels[party]) for party in job.participants}
    for party in job.participants:
        sharing[party].give(table.rows_of(job, party))
    shares = [sharing[party].take() for party in computing]
    features, labels = (np.sum(np.stack(parts), axis=0) for parts in zip(*shares, strict=True))
    assert np.array_equal(features, encode(table.features, scale_bits=VALUE_BITS, limit=2.0))
    assert np.array_equal(labels, encode(label_columns(job, table.labels), scale_bits=VALUE_BITS, limit=2.0))
    # What the plan says is what went over the links, and every element of the rows is shared once.
    sent = sum(channel.sent_bytes for mine in channels.values() for channel in mine.values())
    assert sent == sum(planned.sent_bytes for planned in planned_inputs(job))
    assert sum(planned.num_elements for planned in planned_inputs(job)) == features.size + labels.size
