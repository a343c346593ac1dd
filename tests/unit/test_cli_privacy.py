"""`confide privacy choose` and `account`: what they print, in both formats, and what they refuse."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from typer.testing import CliRunner

from parties.cli.main import app

SUMS = ("--mechanism", "noisy_sums", "--steps", "100", "--nominal-rows", "5000", "--batch-size", "50")
SHARED = ("--mechanism", "shared_gradients", "--steps", "60", "--delta", "0.00001")


def confide(*arguments: str) -> tuple[int, str]:
    outcome = CliRunner().invoke(app, ["privacy", *arguments])
    return outcome.exit_code, outcome.output


def test_choose_prints_noise_that_account_finds_to_keep_the_limit() -> None:
    code, chosen = confide("choose", *SUMS, "--max-tpr", "0.02", "--at-fpr", "0.01", "--format", "json")
    data = json.loads(chosen)["data"]
    assert code == 0
    assert Decimal(data["tpr_at_1_percent"]) <= Decimal("0.02")
    assert (data["delta"], data["relation"]) == ("0.00001", "zero-out")
    code, accounted = confide("account", *SUMS, "--noise-multiplier", data["noise_multiplier"], "--format", "json")
    assert (code, json.loads(accounted)["data"]) == (0, data)


def test_account_says_epsilon_with_relation_and_ceiling_for_people() -> None:
    code, said = confide("account", *SHARED, "--noise-multiplier", "28.9")
    assert code == 0
    assert "epsilon: 0.9999 at delta 0.00001, zero-out, for one unit" in said
    assert "no attack finds more than 1.98 % of members at 1 % false alarms" in said


def test_delta_that_is_too_large_for_the_agreed_rows_is_refused_with_one_that_is_not() -> None:
    code, said = confide("choose", *SUMS, "--epsilon", "1", "--delta", "0.00003")
    assert (code, "one tenth of 1 / 5000" in said, "Write 0.00001" in said) == (2, True, True)
    assert confide("choose", *SUMS, "--epsilon", "1", "--delta", "0.00002")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("choose", *SHARED),
        ("choose", *SHARED, "--max-tpr", "0.02"),
        ("choose", *SHARED, "--max-tpr", "0.02", "--at-fpr", "0.01", "--epsilon", "1"),
        ("choose", *SHARED, "--max-tpr", "0.01", "--at-fpr", "0.01"),
        ("choose", *SHARED, "--epsilon", "much"),
        ("choose", "--mechanism", "shared_gradients", "--steps", "60", "--epsilon", "1"),
        ("choose", "--mechanism", "noisy_sums", "--steps", "60", "--epsilon", "1", "--nominal-rows", "100"),
        ("choose", *SUMS[:-1], "2501", "--epsilon", "1"),
        ("choose", "--mechanism", "shuffled", "--steps", "60", "--epsilon", "1"),
        ("choose", *SUMS, "--epsilon", "1", "--delta", "0.00003"),
        ("choose", *SUMS, "--epsilon", "1", "--delta", "small"),
        ("account", *SUMS, "--noise-multiplier", "2", "--delta", "0.00003"),
        ("account", *SHARED, "--noise-multiplier", "0"),
        ("account", *SHARED, "--noise-multiplier", "0.2"),
    ],
)
def test_limit_that_is_none_and_terms_that_say_nothing_are_refused(arguments: tuple[str, ...]) -> None:
    code, said = confide(*arguments)
    assert code == 2
    assert "Traceback" not in said


def test_batch_of_more_than_half_of_the_rows_is_refused_with_one_that_is_not() -> None:
    def said(*words: str) -> str:
        found = CliRunner().invoke(
            app, ["privacy", "choose", "--mechanism", "noisy_sums", "--steps", "9", "--epsilon", "1", *words]
        )
        assert found.exit_code
        return " ".join(found.output.split())

    assert "Give both." in said("--batch-size", "60", "--delta", "0.00001")
    both = said("--batch-size", "60", "--nominal-rows", "50")
    assert "60 are more than half of 50" in both
    assert "--batch-size 25 or less" in both
    assert "Give both." not in both
