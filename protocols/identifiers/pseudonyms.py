"""Keyed pseudonyms: an oblivious pseudo-random function whose key is the product of one secret exponent of each institution.

    token(x) = SHA-256( "confide.pseudonym/1" 00 | context | x | H(x)^(k1 * k2 * ... * kn) ), cut to 128 bits

H hashes the context and the normalised identifier to a point of P-256. This is 2HashDH (Jarecki, Kiayias, Krawczyk 2014) in the
shape of RFC 9497's base mode, the key split multiplicatively. Whoever asks raises H(x) to its own fresh random exponent for every
identifier, has the other institutions raise it in turn, divides its own exponent out and raises to its own key.

Learns: an institution that helps, how many evaluations it makes; what it is given are uniformly random points, whatever the
identifiers are and however often one is asked for. Whoever asks, the tokens of what it asks for and nothing of the keys.
Adversary: semi-honest and malicious helpers learn nothing of identifiers. One that uses another key is found by the check point;
that single points of a batch are answered wrongly is found with the probability that the check point is among them. Whoever may
ask for k evaluations can test k guesses against tokens that it holds: evaluations are counted and limited for that reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocols.errors import ConfideError, ErrorCode
from protocols.identifiers.group import BASE_POINT, POINT_BYTES, SECRET_BYTES, Exponent, check_points, field, split_points
from protocols.secrets import SecretBytes

MASTER_BYTES = 32
MAX_BATCH = 4096  # points of one request: some tenths of a second of a helper's processor
MIN_MEMBERS = 2
MAX_MEMBERS = 16
TOKEN_DIGITS = 32
_KEY_DOMAIN = b"confide.pseudonym-key/1\x00"
_INPUT_DOMAIN = b"confide.pseudonym-input/1\x00"
_TOKEN_DOMAIN = b"confide.pseudonym/1\x00"


@dataclass(frozen=True)
class Context:
    """Whose pseudonyms for what; public among the members. Tokens of two contexts never match, whatever differs.

    Attributes:
        consortium: its id.
        project: its name.
        rotation: counts the keys of a project, from 1.
        members: ids of the institutions whose keys make the tokens, sorted.
    """

    consortium: str
    project: str
    rotation: int
    members: tuple[str, ...]

    def __post_init__(self) -> None:
        sound = MIN_MEMBERS <= len(self.members) <= MAX_MEMBERS and list(self.members) == sorted(set(self.members))
        if not sound or not 1 <= self.rotation < 2**31:
            what = f"a project has {MIN_MEMBERS} to {MAX_MEMBERS} different institutions and a rotation from 1"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)

    def to_bytes(self) -> bytes:
        """Its one encoding."""
        members = b"".join(map(field, self.members))
        head = field(self.consortium) + field(self.project) + self.rotation.to_bytes(4, "little")
        return head + len(self.members).to_bytes(4, "little") + members


def project_key(master: SecretBytes, context: Context) -> Exponent:
    """Returns one institution's exponent in a context; secret.

    Args:
        master: 32 random bytes that never leave the institution.
        context: of the tokens.

    Raises:
        ConfideError: INTERNAL (ours): a master secret of another length.
    """
    if len(master.reveal()) != MASTER_BYTES:
        raise ConfideError(ErrorCode.INTERNAL, f"a master secret has {MASTER_BYTES} bytes")
    derived = HKDF(SHA256(), SECRET_BYTES, salt=None, info=_KEY_DOMAIN + context.to_bytes()).derive(master.reveal())
    return Exponent.from_secret(SecretBytes(derived))


@dataclass(frozen=True, eq=False, repr=False)
class Blinded:
    """A batch of identifiers on their way; `points` is what helpers see, everything else is secret to whoever asks.

    Attributes:
        points: (evaluations) 32 bytes each, uniformly random, in increasing order, which is a random order of the identifiers.
        order: for every point which identifier it belongs to; the number of identifiers for the check point.
        blinds: the exponent of every point.
    """

    points: bytes
    order: tuple[int, ...]
    blinds: tuple[Exponent, ...]


def blind(identifiers: Sequence[str], context: Context, *, randomness: SecretBytes) -> Blinded:
    """Blinds identifiers, each under its own exponent, with the check point among them.

    Args:
        identifiers: normalised, different, fewer than `MAX_BATCH`; secret.
        context: of the tokens.
        randomness: 48 uniform bytes for each identifier and 48 more, used once.

    Raises:
        ConfideError: INTERNAL (ours): too many identifiers, or another number of random bytes.
    """
    wanted, drawn = len(identifiers) + 1, randomness.reveal()
    if wanted > MAX_BATCH or len(drawn) != wanted * SECRET_BYTES:
        raise ConfideError(ErrorCode.INTERNAL, f"a batch holds fewer than {MAX_BATCH} identifiers, each with its randomness")
    found = []
    for number in range(wanted):
        exponent = Exponent.from_secret(SecretBytes(drawn[number * SECRET_BYTES : (number + 1) * SECRET_BYTES]))
        is_check = number == len(identifiers)
        point = exponent.power(BASE_POINT) if is_check else exponent.power_of_hash(_input(context, identifiers[number]))
        found.append((point, number, exponent))
    found.sort(key=lambda entry: entry[0])
    return Blinded(
        b"".join(point for point, _, _ in found), tuple(number for _, number, _ in found), tuple(r for _, _, r in found)
    )


def evaluate(points: bytes, key: Exponent) -> bytes:
    """Raises every point of a batch to a helper's key.

    Args:
        points: 1 to `MAX_BATCH` points as another institution sent them.
        key: the helper's.

    Returns:
        The powers in the same order.

    Raises:
        ConfideError: BAD_FRAME (the asker's fault): too many, none, cut off, twice the same, or no points of the curve.
    """
    values = list(split_points(points))
    if not 1 <= len(values) <= MAX_BATCH:
        raise ConfideError(ErrorCode.BAD_FRAME, f"1 to {MAX_BATCH} points are expected")
    if len(set(values)) != len(values):
        raise ConfideError(ErrorCode.BAD_FRAME, "a point stands twice in a batch")
    return b"".join(map(key.power, values))


def own_check_value(key: Exponent) -> bytes:
    """Returns the base point raised to one institution's key: by it the key is known again, and nothing of it."""
    return key.power(BASE_POINT)


def check_value(answered: bytes, blinded: Blinded) -> bytes:
    """Returns the base point raised to the keys of everybody who has answered so far; the same for every batch of a context.

    Args:
        answered: the points as they came back.
        blinded: the batch that was sent.

    Raises:
        ConfideError: BAD_FRAME (of whoever answered): another number of points, twice the same, or no points of the curve. All
            are checked here: the next institution would refuse them, and seem to be at fault.
    """
    values = _answers(answered, blinded)
    check_points(values)
    position = blinded.order.index(len(blinded.order) - 1)
    return Exponent(1).over(blinded.blinds[position]).power(values[position])


def finish(answered: bytes, blinded: Blinded, identifiers: Sequence[str], *, context: Context, key: Exponent) -> tuple[str, ...]:
    """Returns the tokens of a batch, 32 hexadecimal digits each, in the order of the identifiers.

    Args:
        answered: after every other institution has raised the points.
        blinded: the batch that was sent.
        identifiers: as they were blinded, secret.
        context: likewise.
        key: of whoever asks.

    Raises:
        ConfideError: BAD_FRAME (of whoever answered last): another number of points, or no points of the curve.
    """
    values = _answers(answered, blinded)
    tokens = [""] * len(identifiers)
    for value, number, exponent in zip(values, blinded.order, blinded.blinds, strict=True):
        if number < len(identifiers):
            power = key.over(exponent).power(value)
            text = identifiers[number]
            digest = hashlib.sha256(_TOKEN_DOMAIN + field(context.to_bytes()) + field(text) + power)
            tokens[number] = digest.hexdigest()[:TOKEN_DIGITS]
    return tuple(tokens)


def _answers(answered: bytes, blinded: Blinded) -> list[bytes]:
    values = list(split_points(answered))
    if len(values) * POINT_BYTES != len(blinded.points):
        raise ConfideError(ErrorCode.BAD_FRAME, "another number of points came back than was sent")
    return values


def _input(context: Context, text: str) -> bytes:
    return _INPUT_DOMAIN + field(context.to_bytes()) + field(text)
