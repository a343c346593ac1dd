"""Holders of secret values that refuse to show themselves."""

from __future__ import annotations

from typing import NoReturn


class SecretBytes:
    """Key material. It has no text form, no equality by value, and cannot be pickled; `reveal` can be grepped for."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """Returns the secret bytes."""
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not pickled")
