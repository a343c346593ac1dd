"""A party that dies while it serves: what the researcher is told, how the serving ends, what is spent, and that she can go on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from governance.budget.ledger import Step
from parties.client import Placement
from parties.client.client import Client
from parties.client.failures import ClientError
from protocols.session.states import State
from tests.support.processes import session_workers
from tests.support.serving_ledgers import charges_of, queries_of
from tests.support.trial import COMPUTING, DEALER, ENDING_WITHIN_S, HOSPITALS, LEAD, SECOND, SHORT_TRAINING, Split, Trial

pytestmark = pytest.mark.multiparty
MAX_QUERIES, MAX_ROWS = 4, 40
ASKED, LOST = (1, 5), (1, 2)  # queries and rows: before the party dies, and after


@pytest.fixture(scope="module")
def trial(breakable: Trial) -> Trial:
    return breakable


@pytest.fixture
def client(trial: Trial) -> Iterator[Client]:
    now = datetime.now(UTC)
    with Client.open(trial.network.researcher_config, now=now, placement=Placement(tuple(COMPUTING), DEALER)) as client:
        yield client


def test_killed_party_is_named_the_serving_ends_everywhere_and_another_is_made_after_its_restart(
    trial: Trial, client: Client, split: Split
) -> None:
    model = client.job(trial.complete(trial.train(SHORT_TRAINING, model_name="served")).job.job_id).produced_model
    assert model is not None
    samples = split.samples.to_numpy()
    serving = client.serve(model.label, max_queries=MAX_QUERIES, max_rows=MAX_ROWS, block_rows=8)
    before = list(serving.predict(samples[: ASKED[1]]))
    trial.kill(SECOND)
    try:
        with pytest.raises(ClientError) as caught:
            serving.predict(samples[: LOST[1]])
        assert SECOND in caught.value.what
        assert "is up" in caught.value.fix
        endings = trial.endings(serving.job.job, parties=(LEAD, DEALER), within_s=ENDING_WITHIN_S)
        assert {(ending.state, ending.at_fault) for ending in endings.values()} <= {(State.ABORTED, SECOND), (State.ABORTED, "")}
        assert all(SECOND in ending.cause for ending in endings.values())
        with pytest.raises(ClientError) as caught:
            serving.predict(samples[:1])
        assert SECOND in caught.value.what
    finally:
        trial.restart(SECOND)
    endings = trial.endings(serving.job.job, within_s=ENDING_WITHIN_S)
    assert {ending.state for ending in endings.values()} == {State.ABORTED}
    assert not any(session_workers(trial.network.party(party).pid) for party in HOSPITALS)
    # The party that died has answered one query. The other one may have let in that which came too late, and then it counts.
    late = (ASKED[0] + LOST[0], ASKED[1] + LOST[1])
    spent = {party: charges_of(trial, party, serving.job.job)[Step.COMMIT] for party in COMPUTING}
    assert spent[SECOND] == ASKED
    assert spent[LEAD] in (ASKED, late)
    for party in COMPUTING:
        charged, queries = charges_of(trial, party, serving.job.job), queries_of(trial, party, serving.job.job)
        assert charged[Step.REFUND] == (MAX_QUERIES - spent[party][0], MAX_ROWS - spent[party][1])
        assert (len(queries), sum(int(str(query["rows"])) for query in queries)) == spent[party]
    with client.serve(model.label, max_queries=MAX_QUERIES, max_rows=MAX_ROWS, block_rows=8) as again:
        assert list(again.predict(samples[: ASKED[1]])) == before
