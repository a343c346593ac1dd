"""Altered logs: the offline verifier finds every one and names the entry, or the few entries that it can be."""

from __future__ import annotations

import pytest

from tests.support.audit_logs import rewritten
from tests.support.log_mutations import Honest, an_honest_log, check_one

MUTATIONS = 3_000  # `python -m tests.support.log_mutations` makes 10,000


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    return an_honest_log(tmp_path_factory.mktemp("small"), jobs=2, checkpoint_every=1)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    return an_honest_log(tmp_path_factory.mktemp("large"), jobs=27, checkpoint_every=9)


def test_honest_logs_verify_and_show_what_was_checked(small: Honest, large: Honest) -> None:
    for honest, full_tiles in ((small, 0), (large, 1)):
        report = honest.verify(honest.files, with_older=True)
        assert (report.size, report.witnessed_size) == (len(honest.bodies), len(honest.bodies))
        assert sorted(report.witnesses) == ["confide/cardio/hospital-b", "confide/cardio/hospital-c"]
        assert report.trusted == 1
        assert len([name for name in honest.files if name.startswith("tile/0") and ".p/" not in name]) == full_tiles
        assert rewritten(honest.files, honest.bodies, key=None) == honest.files


def test_mutations_of_a_small_log_are_all_found_and_named(small: Honest) -> None:
    for seed in range(MUTATIONS):
        check_one(small, seed)


def test_mutations_of_a_log_with_full_tiles_are_all_found_and_named(large: Honest) -> None:
    for seed in range(20_000, 20_100):
        check_one(large, seed)
