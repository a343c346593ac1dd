"""A raw file that a recipe prepares and a private intersection aligns: its owner signs how the registered rows were made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from governance.audit.entries import EntryKind
from governance.documents import DocumentKind, verify
from parties.linking import alignment
from parties.linking.dialling import conclude_again
from parties.linking.prepared import read_prepared_set
from parties.linking.staging import CheckedRows, Terms, mask, read_set
from parties.preparing.preparing import Instructions
from parties.preparing.registering import reproduce
from parties.registration import open_rows
from parties.storage.linking import IntersectionState
from protocols.errors import ConfideError, ErrorCode
from protocols.identifiers.intersection import Mode
from tests.support.command import confide
from tests.support.linking_world import (
    DIALS,
    HEAD,
    WAITS,
    Hospital,
    LinkingWorld,
    a_linking_world,
    linking_calls,
    mask_here,
)
from tests.support.preparing import CANARY, CONTRACT, STEPS, contract, recipe, ward_rows
from tests.support.preparing import HEAD as RECIPE_HEAD

pytestmark = pytest.mark.multiparty

INSTRUCTIONS = Instructions(
    contract(), recipe(RECIPE_HEAD + "  - {step: pseudonymise, column: patient, project: cohort}\n" + STEPS)
)
OTHER = HEAD + "  - {name: nodes, role: feature, type: integer, range: [0, 1000]}\n"
NUM_WARD, OTHERS = 80, range(40, 120)
NUM_COMMON = 41  # P40 to P80


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LinkingWorld:
    mask_here(monkeypatch)
    return a_linking_world(tmp_path, monkeypatch)


def token(identifier: str) -> str:
    """Stands for the pseudonym that the institutions of a project make together."""
    return hashlib.sha256(identifier.encode()).hexdigest()[:32]


def tokens(_project: str, identifiers: Sequence[str]) -> dict[str, str]:
    return {each: token(each) for each in identifiers}


def ward_of(hospital: Hospital) -> Path:
    return hospital.config.state / "ward.csv"


def raw_set(hospital: Hospital, terms: Terms) -> CheckedRows:
    ward_of(hospital).write_text(ward_rows(NUM_WARD))
    hospital.config.folder.member.create_keys()
    return read_prepared_set(hospital.config, terms, file=ward_of(hospital), instructions=INSTRUCTIONS, make_pseudonyms=tokens)


def plain_set(hospital: Hospital, terms: Terms) -> CheckedRows:
    file, schema = hospital.config.state / "rows.csv", hospital.config.state / "schema.yaml"
    file.write_text("\n".join(["patient,nodes", *(f"{token(f'P{n}')},{n}" for n in OTHERS), ""]))
    schema.write_text(OTHER)
    return read_set(hospital.config, terms, file=file, schema_file=schema)


def run(world: LinkingWorld, prepares: str, mode: Mode = Mode.ROWS) -> None:
    """Both sides' commands; one of them prepares a raw file."""
    theirs, ours = world.waits.terms(mode), world.dials.terms(mode)
    world.waits.offer(theirs, (raw_set if prepares == WAITS else plain_set)(world.waits, theirs))
    checked = (raw_set if prepares == DIALS else plain_set)(world.dials, ours)
    staged = mask(world.dials.config, ours, checked)
    record = alignment._record(ours, checked, staged, 0.0)
    world.dialler(ours).run(record, staged, wait_s=0.0)


def assert_signed_and_reproducible(hospital: Hospital) -> None:
    with hospital.database.transaction() as tables:
        (record,) = tables.datasets.latest()
        kept = tables.preparations.find("part", 1)
    assert kept is not None
    assert record.num_rows == NUM_COMMON
    key = hospital.config.folder.member.load_signing_key().public
    verify(kept.signed, kind=DocumentKind.PREPARATION, signer=hospital.config.party, key=key)
    said = kept.statement
    assert (said.dataset, said.num_rows, said.rows_commitment) == ("part/1", NUM_COMMON, record.commitment)
    assert (said.contract, said.recipe) == (INSTRUCTIONS.contract, INSTRUCTIONS.recipe)
    assert "raw" not in kept.outcome
    (registered,) = hospital.audit(EntryKind.DATASET_REGISTERED)
    assert registered["preparation"] == said.digest
    assert CANARY.encode() not in b"".join(path.read_bytes() for path in hospital.config.state.glob("confide.db*"))
    again = reproduce(hospital.config, name="part", number=None, file=ward_of(hospital))
    assert (again.is_same_file, again.is_same_rows) == (True, True)


def test_changed_file_gives_other_rows_if_those_of_common_people_changed(world: LinkingWorld) -> None:
    run(world, WAITS)
    text = ward_of(world.waits).read_text()
    born_p50, born_p5 = ("1980-06-10", "1970-06-10"), ("1935-06-15", "1945-06-15")
    fewer = ward_rows(20)  # than the rows that were chosen
    for changed, same in ((text.replace(*born_p50), False), (text.replace(*born_p5), True), (fewer, False)):
        assert changed != text
        ward_of(world.waits).write_text(changed)
        again = reproduce(world.waits.config, name="part", number=1, file=ward_of(world.waits))
        assert (again.is_same_file, again.is_same_rows) == (False, same)


def test_part_without_a_label_is_reproduced_too(world: LinkingWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner brings columns; the label is the other side's."""
    unlabelled = CONTRACT.replace("role: label, type: choice, negative: well, positive: ill", "role: sensitive")
    assert unlabelled != CONTRACT
    instructions = Instructions(contract(unlabelled), INSTRUCTIONS.recipe)
    assert not instructions.contract.schema.has_label
    monkeypatch.setitem(globals(), "INSTRUCTIONS", instructions)
    run(world, WAITS)
    assert_signed_and_reproducible(world.waits)


@pytest.mark.parametrize("prepares", [DIALS, WAITS])
def test_side_that_prepares_its_rows_signs_how(world: LinkingWorld, prepares: str) -> None:
    run(world, prepares)
    mine, other = (world.dials, world.waits) if prepares == DIALS else (world.waits, world.dials)
    with other.database.transaction() as tables:
        (record,) = tables.datasets.latest()
        assert tables.preparations.find("part", 1) is None
    nodes = np.rint((open_rows(other.config.folder.open_sealed(), record).features[:, 0] + 1) * 500).astype(int)
    assert sorted(nodes) == list(range(40, 81))
    with mine.database.transaction() as tables:
        (own,) = tables.datasets.latest()
    births = open_rows(mine.config.folder.open_sealed(), own).features[:, 0]
    years = 2024 - (births + 1) * 60  # of the range 0 to 120; birthdays move an age by less than a year
    assert np.abs(years - (1930 + nodes % 60)).max() < 1.01
    assert_signed_and_reproducible(mine)


def test_statement_survives_a_lost_answer(world: LinkingWorld) -> None:
    def lose(name: str, message: Any) -> Any:
        if name == "FinishIntersection":
            raise ConfideError(ErrorCode.PARTY_UNREACHABLE, "gone", party=WAITS)
        return message

    world.calls.alter_reply = lose
    with pytest.raises(ConfideError):
        run(world, DIALS)
    world.calls.alter_reply = lambda name, message: message
    with world.dials.database.transaction() as tables:
        record = tables.linking.find_open(WAITS, "cohort-1", IntersectionState.CONCLUDING)
    assert record is not None
    sealed = world.dials.config.folder.open_sealed()
    conclude_again(world.dials.database, sealed, linking_calls(world.calls), record, config=world.dials.config)
    assert_signed_and_reproducible(world.dials)


def test_sizes_alone_of_prepared_rows_register_and_sign_nothing(world: LinkingWorld) -> None:
    run(world, WAITS, Mode.SIZE)
    with world.waits.database.transaction() as tables:
        assert (tables.datasets.latest(), tables.preparations.all()) == ((), ())
    assert world.waits.audit(EntryKind.SETS_INTERSECTED)[0]["found"] == NUM_COMMON


def test_preparation_that_is_refused_leaves_nothing(world: LinkingWorld) -> None:
    terms = world.waits.terms()
    ward_of(world.waits).write_text(ward_rows(10) + "one field\n")
    with pytest.raises(ConfideError) as caught:
        read_prepared_set(world.waits.config, terms, file=ward_of(world.waits), instructions=INSTRUCTIONS, make_pseudonyms=tokens)
    assert caught.value.code is ErrorCode.INVALID_DATA
    assert world.waits.sealed_files() == 0


def test_recipe_that_leaves_the_linkage_key_behind_is_refused_before_anything(world: LinkingWorld) -> None:
    terms = world.waits.terms()
    plain, missing = Instructions(contract(), recipe()), Path("no-such-file.csv")
    with pytest.raises(ConfideError) as caught:
        read_prepared_set(world.waits.config, terms, file=missing, instructions=plain, make_pseudonyms=tokens)
    assert caught.value.code is ErrorCode.INVALID_RECIPE


def test_align_needs_a_schema_or_contract_and_recipe(tmp_path: Path) -> None:
    for given in ((), ("--contract", "c.yaml"), ("--schema", "s.yaml", "--recipe", "r.yaml")):
        said = confide(
            "dataset", "align", "--config", tmp_path / "party.yaml", "--with", WAITS, "--label", "cohort", "--name", "part",
            "--file", "rows.csv", "--format", "json", *given,
        )  # fmt: skip
        assert said.failure["code"] == "INVALID_ARGUMENT"
