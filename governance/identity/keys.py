"""Keys of a member: Ed25519 to sign documents, ECDSA P-256 for TLS and for the consortium's certificate authority.

TLS keys are ECDSA because gRPC's TLS does not accept Ed25519 certificates by default. Secret keys live in holders that show
nothing and cannot be pickled; the only ways out have `export` in their name.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocols.errors import ConfideError, ErrorCode

SIGNATURE_BYTES = 64
_PUBLIC_HEX = re.compile(r"[0-9a-f]{64}")
_FINGERPRINT_TAG = b"confide key fingerprint 1\0"


@dataclass(frozen=True)
class VerifyingKey:
    """A public Ed25519 key.

    Attributes:
        hex: the raw 32 bytes as 64 hexadecimal digits.
    """

    hex: str

    def __post_init__(self) -> None:
        if not _PUBLIC_HEX.fullmatch(self.hex):
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, "a public signing key is 64 hexadecimal digits")

    @property
    def fingerprint(self) -> str:
        """SHA-256 over a tag and the key, 64 hexadecimal digits; what people compare out of band."""
        return hashlib.sha256(_FINGERPRINT_TAG + bytes.fromhex(self.hex)).hexdigest()

    def is_valid(self, signature: bytes, message: bytes) -> bool:
        """Returns whether the holder of the secret key signed the message."""
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.hex)).verify(signature, message)
        except (InvalidSignature, ValueError):  # ValueError: 32 bytes that are no point of the curve
            return False
        return True


class SigningKey:
    """A secret Ed25519 key; it shows nothing and cannot be pickled."""

    __slots__ = ("_key",)

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "SigningKey(secret)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key cannot be pickled")

    @property
    def public(self) -> VerifyingKey:
        """The public half."""
        return VerifyingKey(self._key.public_key().public_bytes_raw().hex())

    def sign(self, message: bytes) -> bytes:
        """Returns the 64-byte signature; deterministic. Call it through `governance.documents`, which separates domains."""
        return self._key.sign(message)

    def export_secret_pem(self) -> bytes:
        """Returns the secret key as unencrypted PKCS #8 PEM, for a file of mode 0600."""
        return _secret_pem(self._key)

    @staticmethod
    def from_pem(data: bytes) -> SigningKey:
        """Reads a secret key.

        Raises:
            ConfideError: INVALID_CONFIG (the operator's fault): not an Ed25519 key.
        """
        key = _load_pem(data)
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfideError(ErrorCode.INVALID_CONFIG, "the signing key file does not hold an Ed25519 key")
        return SigningKey(key)


class EcdsaKey:
    """A secret ECDSA P-256 key, of a TLS certificate or of the certificate authority; shows nothing, cannot be pickled."""

    __slots__ = ("_key",)

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "EcdsaKey(secret)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a TLS key cannot be pickled")

    @property
    def public(self) -> ec.EllipticCurvePublicKey:
        """The public half."""
        return self._key.public_key()

    def export_secret_object(self) -> ec.EllipticCurvePrivateKey:
        """Returns the library's key object, for the certificate and request builders only."""
        return self._key

    def export_secret_pem(self) -> bytes:
        """Returns the secret key as unencrypted PKCS #8 PEM, for a file of mode 0600 or for the TLS library."""
        return _secret_pem(self._key)

    @staticmethod
    def from_pem(data: bytes) -> EcdsaKey:
        """Reads a secret key.

        Raises:
            ConfideError: INVALID_CONFIG (the operator's fault): not an ECDSA P-256 key.
        """
        key = _load_pem(data)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ConfideError(ErrorCode.INVALID_CONFIG, "the TLS key file does not hold an ECDSA P-256 key")
        return EcdsaKey(key)


def generate_signing_key() -> SigningKey:
    """Draws a new Ed25519 key from the operating system."""
    return SigningKey(Ed25519PrivateKey.generate())


def generate_ecdsa_key() -> EcdsaKey:
    """Draws a new P-256 key from the operating system."""
    return EcdsaKey(ec.generate_private_key(ec.SECP256R1()))


def public_key_digest(key: ec.EllipticCurvePublicKey) -> str:
    """Returns SHA-256 of the public key's DER SubjectPublicKeyInfo, 64 hexadecimal digits."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _secret_pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _load_pem(data: bytes) -> object:
    try:
        return serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:  # the library's text may quote the file: it stays in the chain, not in ours
        raise ConfideError(ErrorCode.INVALID_CONFIG, "a key file does not hold an unencrypted PEM key") from error
