"""The measured effects: the rule of the verdict, records that say when they no longer hold, and one of them measured again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from scipy import stats

from parties.augmentation.data_sets import SETS
from parties.augmentation.measuring import NUM_SHADOWS, SCHEDULE, application_of
from parties.augmentation.records import code_digest, current_digests, read_records, sets_for, stale
from privacy.augmentation.catalogue import TECHNIQUES, technique_named
from privacy.augmentation.evaluation import METRICS, Application, Figures, measure
from privacy.augmentation.record import Record
from privacy.augmentation.technique import Medium
from privacy.augmentation.verdict import JUDGED, Verdict, effects, overall
from privacy.risk.shadows import Schedule
from protocols.errors import ConfideError, ErrorCode

BASE = Figures(0.8, 0.8, 0.1, None, 0.6, 0.05, 0.01)


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    """As measurements run; threads would only wait for each other in programs as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def runs(changes: dict[str, list[float]], count: int = 10) -> tuple[list[Figures], list[Figures]]:
    without = [replace(BASE, accuracy=0.8 + 0.01 * seed) for seed in range(count)]
    applied = [
        replace(one, **{name: getattr(one, name) + values[seed] for name, values in changes.items()})
        for seed, one in enumerate(without)
    ]
    return without, applied


def test_effect_has_the_interval_of_students_t_with_all_figures_of_the_technique() -> None:
    differences = [0.02, 0.01, 0.03, 0.02, 0.015, 0.025, 0.02, 0.02, 0.01, 0.03]
    found = effects({"a": runs({"accuracy": differences}), "b": runs({})})
    assert set(found) == {(data, metric) for data in "ab" for metric in METRICS if metric != "group_gap"}
    effect = found["a", "accuracy"]
    low, high = stats.t.interval(1 - 0.05 / 12, 9, loc=np.mean(differences), scale=stats.sem(differences))
    assert (effect.low, effect.high) == pytest.approx((low, high), rel=1e-9)
    assert effect.verdict is Verdict.HELPS
    assert overall(found) is Verdict.HELPS


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Verdict.NO_EFFECT),
        ({"accuracy": [0.004] * 10}, Verdict.NO_EFFECT),  # certain, and too small to matter
        ({"accuracy": [0.2, -0.1] * 5}, Verdict.NO_EFFECT),  # large, and not certain
        ({"accuracy": [-0.02] * 10}, Verdict.HURTS),
        ({"calibration_error": [-0.02] * 10}, Verdict.HELPS),  # less is better
        ({"attack_auc": [0.02] * 10}, Verdict.HURTS),
        ({"accuracy": [0.02] * 10, "attack_tpr_1": [0.01] * 10}, Verdict.MIXED),
    ],
)
def test_verdict_follows_the_stated_rule(changes: dict[str, list[float]], verdict: Verdict) -> None:
    assert overall(effects({"a": runs(changes), "b": runs({})})) is verdict


def test_every_figure_has_a_rule() -> None:
    assert tuple(JUDGED) == METRICS


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    return read_records()


def test_every_technique_has_a_record_of_all_its_data_sets(records: dict[str, Record]) -> None:
    for technique in TECHNIQUES.values():
        if technique.medium is Medium.TEXT:
            assert technique.name not in records
            continue
        record = records[technique.name]
        assert set(record.results) == {entry.name for entry in sets_for(technique)}
        assert len(record.seeds) >= 5
    assert len(sets_for(technique_named("jitter"))) >= 3
    assert len(sets_for(technique_named("flip"))) >= 1


def test_records_survive_their_document_and_wrong_ones_are_refused(records: dict[str, Record]) -> None:
    document = records["jitter"].to_document()
    assert Record.from_document(json.loads(json.dumps(document))) == records["jitter"]
    short = json.loads(json.dumps(document))
    short["results"]["diabetes"]["with"]["accuracy"].pop()
    for wrong in ({}, {**document, "seeds": [1]}, {**document, "verdict": "helps"}, short):
        with pytest.raises(ConfideError) as failure:
            Record.from_document(wrong)
        assert failure.value.code is ErrorCode.INVALID_DOCUMENT


def test_records_hold_and_say_when_they_no_longer_do(records: dict[str, Record]) -> None:
    digests = current_digests()
    for name, record in records.items():
        assert list(stale(record, technique_named(name), digests)) == []
    technique, record = technique_named("jitter"), records["jitter"]
    other = {**digests, "diabetes": "0" * 64}
    assert list(stale(record, technique, other)) == ["the data set diabetes has changed"]
    assert len(list(stale(replace(record, code="0" * 64), technique, digests))) == 1
    assert len(list(stale(record, replace(technique, measured_with={"width": "0.2"}), digests))) == 1


def test_code_digest_differs_by_technique_and_ignores_the_entry_of_the_catalogue() -> None:
    techniques = list(TECHNIQUES.values())
    assert len({code_digest(technique) for technique in techniques}) == len(techniques)
    assert code_digest(replace(techniques[0], what="said otherwise")) == code_digest(techniques[0])


@pytest.mark.slow
def test_one_entry_measured_again_agrees_with_its_record(records: dict[str, Record]) -> None:
    """The same seed gives the same figures but for rounding, which differs by processor: far less than another seed would."""
    record, name, seed = records["mixup"], "diabetes", 2
    data = SETS[name].load()
    sides = ((None, record.results[name].without), (application_of(technique_named("mixup")), record.results[name].applied))
    for application, recorded in sides:
        again = measure(data, application, schedule=SCHEDULE, seed=seed, num_shadows=NUM_SHADOWS)
        place = record.seeds.index(seed)
        deviations = np.std([astuple(figures) for figures in recorded], axis=0, ddof=1)
        distance = np.abs(np.array(astuple(again)) - np.array(astuple(recorded[place])))
        assert (distance <= deviations / 2).all(), (distance / deviations).tolist()


def test_technique_for_images_is_refused_on_a_table() -> None:
    flip = Application(technique_named("flip"), {"chance": 0.5}, 1)
    with pytest.raises(ConfideError) as failure:
        measure(SETS["diabetes"].load(), flip, schedule=Schedule(steps=1), seed=1, num_shadows=4)
    assert failure.value.code is ErrorCode.INVALID_ARGUMENT


def test_calibration_and_gap_of_a_planted_model_are_what_they_are() -> None:
    """Rows that say nothing: a trained model states the share of the larger class, and is wrong for one group alone."""
    from privacy.augmentation.evaluation import LabelledSet

    labels = np.tile([0, 0, 0, 1], 500)
    data = LabelledSet("planted", np.zeros((2000, 1)), labels, labels.copy(), np.zeros(1))
    found = measure(data, None, schedule=Schedule(steps=300, learning_rate=0.05), seed=1, num_shadows=8)
    assert found.balanced_accuracy == pytest.approx(0.5, abs=1e-12)  # always the larger class
    assert found.group_gap == pytest.approx(1.0, abs=1e-12)
    assert found.accuracy == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / 500) ** 0.5)
    # Stated about 0.75, right in about 0.75, and in each bin of 50 rows within chance: at most the mean of |normal| times 0.061.
    assert found.calibration_error < 0.12
    assert abs(found.attack_auc - 0.5) < 0.05
