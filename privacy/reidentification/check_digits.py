"""Numbers with check digits: what tells an identifier from any row of digits. Cells come without spaces, dots and hyphens."""

from __future__ import annotations

_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"


def luhn(digits: str) -> bool:
    """Says whether a number fits the check of payment cards (ISO/IEC 7812-1), which Canadian insurance numbers use too."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (1 + position % 2)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def iban(text: str) -> bool:
    """Says whether a bank account fits its two check digits (ISO 13616, ISO 7064 mod 97-10)."""
    turned = text[4:] + text[:4]
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def nhs_number(digits: str) -> bool:
    """Says whether ten digits fit the check of patients in England and Wales (modulus 11)."""
    check = -sum(int(digit) * weight for digit, weight in zip(digits, range(10, 1, -1), strict=False)) % 11
    return check == int(digits[9])


def social_security_number(digits: str) -> bool:
    """Says whether nine digits may be a United States number: it has no check digit, but parts that are never given out."""
    return digits[:3] not in ("000", "666") and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


def nir(text: str) -> bool:
    """Says whether 15 characters fit the key of a French social security number (97 less the number modulo 97)."""
    number = text[:13].replace("2A", "19").replace("2B", "18")
    return int(text[13:]) == 97 - int(number) % 97


def dni(text: str) -> bool:
    """Says whether a Spanish identity number fits its letter; foreigners' numbers begin with X, Y or Z."""
    number = text[:-1].translate(str.maketrans("XYZ", "012"))
    return text[-1] == _DNI_LETTERS[int(number) % 23]


def steuer_id(digits: str) -> bool:
    """Says whether eleven digits fit the check of a German tax number (ISO 7064 mod 11,10)."""
    product = 10
    for digit in digits[:10]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def pesel(digits: str) -> bool:
    """Says whether eleven digits fit the check of a Polish number, and its month is one."""
    weights = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)
    check = -sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False)) % 10
    return check == int(digits[10]) and 1 <= int(digits[2:4]) % 20 <= 12
