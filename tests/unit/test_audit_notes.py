"""Signed notes, checkpoints and cosignatures, against published ones where there are any."""

import base64
from datetime import UTC, datetime, timedelta

import pytest

from governance.audit.checkpoints import (
    Checkpoint,
    check_cosignature,
    cosign,
    find_cosignature,
    open_checkpoint,
    origin,
    parse_checkpoint,
    sign_checkpoint,
)
from governance.audit.notes import Note, SignatureType, check_note, key_id, parse_note, parse_signature, sign_note
from governance.documents import DocumentKind, sign
from governance.identity.keys import VerifyingKey, generate_signing_key
from protocols.errors import ConfideError, ErrorCode
from tests.support.members import NOW

# The example of the package that the format comes from (golang.org/x/mod/sumdb/note).
NEUMANN_KEY = VerifyingKey(base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")[1:].hex())
NEUMANN = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# The example of C2SP tlog-cosignature.
SOFA = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
LOG, WITNESS = origin("cardio", "hospital-a"), origin("cardio", "hospital-b")
HEAD = Checkpoint(LOG, 42, bytes(range(32)))


def refused(code: ErrorCode, match: str = ".") -> pytest.RaisesExc[ConfideError]:
    return pytest.RaisesExc(ConfideError, match=match, check=lambda error: error.code is code)


def test_published_note_verifies_and_has_the_published_key_id() -> None:
    note = parse_note(NEUMANN.encode())
    check_note(note, name="PeterNeumann", key=NEUMANN_KEY)
    assert key_id("PeterNeumann", SignatureType.ED25519, NEUMANN_KEY).hex() == "c74f20a3"
    assert note.to_bytes() == NEUMANN.encode()


def test_published_checkpoint_is_read() -> None:
    note = parse_note(SOFA.encode())
    checkpoint = parse_checkpoint(note.text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.text == note.text
    line = note.signatures[1]
    assert (line.name, int.from_bytes(line.signature[:8], "big")) == ("witness.example.com/w1", 1679315147)
    assert parse_signature(line.line) == line


def test_signed_checkpoint_opens_for_its_log_alone() -> None:
    key, other = generate_signing_key(), generate_signing_key()
    data = sign_checkpoint(HEAD, key=key).to_bytes()
    assert open_checkpoint(data, origin=LOG, key=key.public)[0] == HEAD
    with refused(ErrorCode.BAD_SIGNATURE, "not signed by"):
        open_checkpoint(data, origin=LOG, key=other.public)
    with refused(ErrorCode.BAD_SIGNATURE, "one of confide/cardio/hospital-b"):
        open_checkpoint(data, origin=WITNESS, key=key.public)
    with refused(ErrorCode.BAD_SIGNATURE, "does not verify"):
        open_checkpoint(data.replace(b"\n42\n", b"\n43\n"), origin=LOG, key=key.public)


def test_cosignature_states_its_time_and_fits_one_checkpoint_and_witness() -> None:
    key, other = generate_signing_key(), generate_signing_key()
    line = cosign(HEAD, name=WITNESS, key=key, now=NOW + timedelta(microseconds=5))
    assert check_cosignature(HEAD, line, name=WITNESS, key=key.public) == NOW
    assert check_cosignature(HEAD, parse_signature(line.line), name=WITNESS, key=key.public) == NOW
    larger = Checkpoint(LOG, 43, HEAD.root)
    for checkpoint, name, public in ((larger, WITNESS, key), (HEAD, LOG, key), (HEAD, WITNESS, other)):
        with refused(ErrorCode.BAD_SIGNATURE):
            check_cosignature(checkpoint, line, name=name, key=public.public)
    later = type(line)(line.name, line.key_id, (1).to_bytes(8, "big") + line.signature[8:])
    with refused(ErrorCode.BAD_SIGNATURE, "does not verify"):
        check_cosignature(HEAD, later, name=WITNESS, key=key.public)


def test_cosignature_is_found_in_a_note_beside_the_logs_own_signature_of_the_same_key() -> None:
    """One key signs and cosigns: the key ids differ, so a verifier never takes one for the other."""
    key = generate_signing_key()
    signed = sign_checkpoint(HEAD, key=key)
    line = cosign(HEAD, name=LOG, key=key, now=NOW)
    note = parse_note(Note(signed.text, (*signed.signatures, line)).to_bytes())
    assert find_cosignature(note, name=LOG, key=key.public) == line
    check_note(note, name=LOG, key=key.public)
    assert find_cosignature(signed, name=LOG, key=key.public) is None


def test_what_a_key_signs_is_told_apart_by_its_first_bytes() -> None:
    """Domains: a note's text, a cosignature and a document of ours can never be the same bytes."""
    key = generate_signing_key()
    document = sign({"a": "b"}, kind=DocumentKind.GRANT, signer="hospital-a", key=key)
    message = b"confide signature 1\0grant\0hospital-a\0" + document.body
    assert key.public.is_valid(document.signature, message)
    with refused(ErrorCode.INVALID_ARGUMENT):
        sign_note(message.decode() + "\n", name=LOG, key=key)
    with refused(ErrorCode.INVALID_DOCUMENT):
        parse_checkpoint(f"cosignature/v1\ntime 1\n{HEAD.text}")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\nno signature\n",
        NEUMANN.encode()[:-1],
        NEUMANN.replace("=\n", "\n").encode(),
        NEUMANN.replace("AM=", "AN=").encode(),  # other unused bits, same value
        NEUMANN.replace("problem,\n", "problem,\t").encode(),
        NEUMANN.replace("PeterNeumann ", "Peter+Neumann ").encode(),
        "a\n\n— name AAAA\n".encode(),  # a key id and nothing else
        b"\xff\n\n" + NEUMANN.encode(),
        b"a" * 65_537,
        ("a\n\n" + "— name AAAAAAAA\n" * 301).encode(),
    ],
)
def test_note_that_is_none_is_refused(data: bytes) -> None:
    with refused(ErrorCode.INVALID_DOCUMENT):
        parse_note(data)


@pytest.mark.parametrize(
    ("old", "new"),
    [("\n42\n", "\n042\n"), ("\n42\n", "\n-1\n"), ("\n42\n", "\n"), ("=\n", "=\nextension\n"), ("=\n", "\n"), ("confide/", " /")],
)
def test_checkpoint_in_another_form_is_refused(old: str, new: str) -> None:
    assert old in HEAD.text
    with refused(ErrorCode.INVALID_DOCUMENT):
        parse_checkpoint(HEAD.text.replace(old, new, 1))


def test_cosignature_with_an_impossible_time_is_refused() -> None:
    key = generate_signing_key()
    line = cosign(HEAD, name=WITNESS, key=key, now=datetime(2026, 1, 1, tzinfo=UTC))
    for value in (line.signature[:-1], b"\xff" * 8 + line.signature[8:], b""):
        with refused(ErrorCode.BAD_SIGNATURE, "form"):
            check_cosignature(HEAD, type(line)(line.name, line.key_id, value), name=WITNESS, key=key.public)
