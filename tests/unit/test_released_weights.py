"""Released weights: the licence travels with them, and the loader refuses whatever it does not permit."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from governance.licence import Licence, sign_licence
from parties.released import Released, is_released, keep_released, load_released, require_own_use
from protocols.canonical import parse_canonical
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, OutputKind, check
from protocols.model.weights import weights_to_safetensors
from tests.support.members import NOW, World, a_world
from tests.support.released import UNTIL, a_folder, a_release, handed_out, licence_of

LATER = NOW + timedelta(days=1)


@pytest.fixture(scope="module")
def world() -> World:
    return a_world()


@pytest.fixture
def folder(tmp_path: Path, world: World) -> Path:
    a_folder(tmp_path / "released", world)
    return tmp_path / "released"


def load(folder: Path, world: World, **other: object) -> Released:
    wanted = {"recipient": "alice", "purpose": "prognosis", "now": LATER} | other
    return load_released(folder, world.directory, **wanted)  # type: ignore[arg-type]


def refusal(folder: Path, world: World, **other: object) -> list[str]:
    """For which reasons the loader refuses."""
    with pytest.raises(ConfideError) as caught:
        load(folder, world, **other)
    assert caught.value.code is ErrorCode.LICENCE_REFUSED
    return [problem.where for problem in caught.value.problems]


def test_release_is_a_job_of_one_output() -> None:
    job = a_release()
    assert list(check(job)) == []
    assert Job.from_bytes(job.to_bytes()) == job
    assert not job.datasets


def test_weights_load_for_the_recipient_and_the_purpose(folder: Path, tmp_path: Path, world: World) -> None:
    expected = handed_out(world).weights
    found = load(folder, world)
    assert {name: array.tolist() for name, array in found.weights.items()} == {n: a.tolist() for n, a in expected.items()}
    assert found.licence.expires == UNTIL - timedelta(days=1)  # the first of the parties' licences that ends
    assert found.schema == a_release().schema
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}


def test_another_purpose_is_refused(folder: Path, world: World) -> None:
    assert refusal(folder, world, purpose="marketing") == ["purpose"]


def test_another_recipient_is_refused(folder: Path, world: World) -> None:
    assert refusal(folder, world, recipient="bob") == ["recipients"]


def test_time_past_the_expiry_of_any_party_is_refused(folder: Path, world: World) -> None:
    last = UNTIL - timedelta(days=1)
    load(folder, world, now=last - timedelta(seconds=1))
    assert refusal(folder, world, now=last) == ["expires"]
    assert refusal(folder, world, now=UNTIL + timedelta(days=900)) == ["expires"]
    assert refusal(folder, world, now=NOW - timedelta(seconds=1)) == ["issued"]


def test_all_reasons_are_told_at_once(folder: Path, world: World) -> None:
    found = refusal(folder, world, purpose="marketing", recipient="bob", now=UNTIL)
    assert sorted(found) == ["expires", "purpose", "recipients"]


def test_stripped_licences_are_refused(folder: Path, world: World) -> None:
    (folder / "licence-hospital-b.json").unlink()
    assert refusal(folder, world) == ["licence"]
    (folder / "licence-hospital-a.json").unlink()
    assert refusal(folder, world) == ["licence"]


@pytest.mark.parametrize("name", ["share-hospital-a.bin", "weights.safetensors", "manifest.json", "schema.json"])
def test_stripped_files_are_refused(folder: Path, world: World, name: str) -> None:
    (folder / name).unlink()
    assert refusal(folder, world) == ["weights"]


def test_altered_weights_are_refused(folder: Path, world: World) -> None:
    handed = handed_out(world)
    altered = {name: array.copy() for name, array in handed.weights.items()}
    next(iter(altered.values()))[...] += np.float32(2.0**-10)
    (folder / "weights.safetensors").write_bytes(weights_to_safetensors(altered, handed.job.model))
    assert refusal(folder, world) == ["weights"]


def test_weights_altered_with_their_share_are_refused(folder: Path, world: World) -> None:
    share = bytearray((folder / "share-hospital-a.bin").read_bytes())
    share[40] ^= 1
    (folder / "share-hospital-a.bin").write_bytes(share)
    assert refusal(folder, world) == ["weights"]
    (folder / "share-hospital-a.bin").write_bytes(share[:-8])
    assert refusal(folder, world) == ["weights"]


def test_another_architecture_is_refused(folder: Path, world: World) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace("linear", "lineal"))
    assert refusal(folder, world) == ["manifest_sha256"]


@pytest.mark.parametrize("field", ["purpose", "expires", "recipients"])
def test_altered_licence_is_refused(folder: Path, world: World, field: str) -> None:
    """An altered text no longer has its signature, and one that is signed anew is of nobody in the consortium."""
    path = folder / "licence-hospital-a.json"
    old = {"purpose": b"prognosis", "expires": b"2026-05", "recipients": b"alice"}[field]
    new = {"purpose": b"marketing", "expires": b"2036-05", "recipients": b"malic"}[field]
    body = path.read_bytes()
    altered = body.replace(old, new)
    if altered == body:  # the body travels encoded
        document = dict(parse_canonical(body))
        document["body"] = str(document["body"])[:-4] + "AAAA"
        altered = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    path.write_bytes(altered)
    with pytest.raises(ConfideError) as caught:
        load(folder, world)
    assert caught.value.code in (ErrorCode.BAD_SIGNATURE, ErrorCode.INVALID_DOCUMENT, ErrorCode.LICENCE_REFUSED)


def test_licences_of_two_releases_do_not_make_one(folder: Path, world: World) -> None:
    """Each is genuine, and together they permit nothing."""
    job = a_release()
    other = licence_of(job, "hospital-b", {"hospital-a": "0" * 64, "hospital-b": "1" * 64})
    (folder / "licence-hospital-b.json").write_bytes(sign_licence(other, world.hospital_b.signing).to_bytes())
    assert refusal(folder, world) == ["licence"]
    doubled = (folder / "licence-hospital-a.json").read_bytes()
    (folder / "licence-hospital-b.json").write_bytes(doubled)
    assert refusal(folder, world) == ["licence", "licence"]


def test_release_without_licences_is_not_kept(tmp_path: Path, world: World) -> None:
    handed = handed_out(world)
    handed.replies[1] = replace(handed.replies[1], licence=b"")
    with pytest.raises(ConfideError) as caught:
        keep_released(tmp_path / "released", handed.job, handed.replies, world.directory)
    assert caught.value.code is ErrorCode.LICENCE_REFUSED
    assert not (tmp_path / "released").exists()


@pytest.mark.parametrize("field", ["purpose", "job", "recipients"])
def test_licence_of_something_else_is_not_kept(tmp_path: Path, world: World, field: str) -> None:
    other = {"purpose": "marketing", "job": "f" * 32, "recipients": ("bob",)}[field]
    handed = handed_out(world, change=lambda licence: replace(licence, **{field: other}))  # type: ignore[arg-type]
    with pytest.raises(ConfideError) as caught:
        keep_released(tmp_path / "released", handed.job, handed.replies, world.directory)
    assert caught.value.code is ErrorCode.LICENCE_REFUSED


def test_existing_folder_is_left_alone(tmp_path: Path, world: World) -> None:
    with pytest.raises(ConfideError) as caught:
        keep_released(tmp_path, handed_out(world).job, [], world.directory)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_institution_of_the_recipient_may_publish_and_no_other(folder: Path, world: World) -> None:
    def own(party: str, purpose: str = "prognosis") -> Released:
        return require_own_use(folder, world.directory, party=party, purpose=purpose, now=LATER)

    assert own("hospital-a").licence.recipients == ("alice",)
    for party, purpose in (("hospital-b", "prognosis"), ("hospital-a", "marketing")):
        with pytest.raises(ConfideError) as caught:
            own(party, purpose)
        assert caught.value.code is ErrorCode.LICENCE_REFUSED
    assert is_released(folder)
    assert not is_released(folder.parent)
    (folder / "licence-hospital-a.json").unlink()
    (folder / "licence-hospital-b.json").unlink()
    assert is_released(folder), "what is left still says where it came from"
    with pytest.raises(ConfideError) as caught:
        own("hospital-a")
    assert caught.value.code is ErrorCode.LICENCE_REFUSED


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("expires", NOW),
        ("recipients", ()),
        ("parameters", 0),
        ("commitments", {"hospital-b": "0" * 64, "hospital-c": "0" * 64}),
        ("commitments", {"hospital-a": "0" * 64}),
        ("manifest_sha256", "0" * 63),
    ],
)
def test_licence_that_says_nothing_is_not_signed(world: World, field: str, value: object) -> None:
    sound = licence_of(a_release(), "hospital-a", {"hospital-a": "0" * 64, "hospital-b": "1" * 64})
    assert Licence.from_bytes(sound.to_bytes()) == sound
    with pytest.raises(ConfideError) as caught:
        sign_licence(replace(sound, **{field: value}), world.hospital_a.signing)  # type: ignore[arg-type]
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


def test_weights_are_no_output_of_other_jobs() -> None:
    job = a_release()
    label = replace(job, outputs=(replace(job.outputs[0], kind=OutputKind.LABEL),))
    assert [problem.where for problem in check(label)] == ["outputs"]
