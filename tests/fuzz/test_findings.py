"""What is told of a finding suffices to repeat it, and a limit measures the decoder, not the machine."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.findings import MAX_INPUT_BYTES, MAX_LINE_CHARACTERS, MAX_LOG_LINES, read_finding
from tests.fuzz.limits import MAX_SECONDS_AN_INPUT, TRIES, TooSlow, check

LOADING = "".join(f"INFO: Instrumenting protocols.module_{number}\n" for number in range(300))
STATISTICS = "stat::number_of_executed_units: 6\nstat::peak_rss_mb:              40\n"


def uncaught(kept: Path) -> str:
    """What Atheris and libFuzzer print of an exception that nobody declared."""
    return f"""{LOADING}WARNING: Failed to find function "__sanitizer_print_stack_trace".
INFO: seed corpus: files: 3 min: 222b max: 1223b total: 1815b rss: 410Mb

 === Uncaught Python exception: ===
ValueError: 5000 is not a scale
Traceback (most recent call last):
  File "/a/protocols/wire.py", line 4, in scale
ValueError: 5000 is not a scale

==5784== ERROR: libFuzzer: fuzz target exited
SUMMARY: libFuzzer: fuzz target exited
MS: 4 InsertByte-ChangeBit-ChangeByte-CrossOver-; base unit: adc83b19e793491b1c6ea0fd8b46cd9f32e592fc
0x21,0xdd,0xa,
!\\335\\012
artifact_prefix='{kept.parent}/'; Test unit written to {kept}
Base64: Id0K
{STATISTICS}"""


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    file = tmp_path / "job-crash-f547"
    file.write_bytes(b"!\xdd\n")
    return file


def test_exception_is_told_with_its_name_where_it_arose_and_its_input(kept: Path) -> None:
    finding = read_finding("job", uncaught(kept), status=77)
    assert (finding.kind, finding.data) == ("ValueError: 5000 is not a scale", b"!\xdd\n")
    said = finding.to_text()
    assert said.startswith("FOUND in job: ValueError: 5000 is not a scale\n")
    assert 'File "/a/protocols/wire.py", line 4, in scale' in said
    assert "base64: Id0K\n" in said
    assert f"tests.fuzz.one job --replay {kept}" in said
    assert "Instrumenting" not in said


def test_timeout_and_memory_are_told_in_libfuzzer_s_words(kept: Path) -> None:
    for words in ("timeout after 121 seconds", "out-of-memory (used: 700Mb; limit: 666Mb)"):
        said = f"{LOADING}==7== ERROR: libFuzzer: {words}\nSUMMARY: libFuzzer: {words.split()[0]}\nTest unit written to {kept}\n"
        assert read_finding("job", said, status=70).kind == words


def test_seed_that_fails_before_libfuzzer_runs_is_told_with_its_input(kept: Path) -> None:
    said = (
        f"{LOADING}Test unit written to {kept}\nTraceback (most recent call last):\n"
        '  File "/a/one.py", line 1, in main\n    check(data)\n    ^^^^^^^^^^^\n'
        "tests.fuzz.limits.TooSlow: 3 bytes took 2 s\n"
    )
    finding = read_finding("job", said, status=1)
    assert (finding.kind, finding.file) == ("tests.fuzz.limits.TooSlow: 3 bytes took 2 s", kept)


def test_process_that_was_killed_is_told_by_its_signal() -> None:
    finding = read_finding("job", LOADING, status=-9)
    assert (finding.kind, finding.file, finding.log) == ("killed by signal 9", None, ())
    assert "no input was kept" in finding.to_text()


def test_long_log_and_input_are_cut_and_the_input_s_size_is_told(kept: Path) -> None:
    kept.write_bytes(bytes(range(256)) * 200)
    said = uncaught(kept).replace("line 4, in scale", "x" * 5000) + "a line\n" * 1000
    finding = read_finding("job", said, status=77)
    text = finding.to_text()
    assert len(text.splitlines()) <= MAX_LOG_LINES + 3
    assert max(map(len, finding.log)) <= MAX_LINE_CHARACTERS
    assert f"51200 bytes (the first {MAX_INPUT_BYTES})" in text
    assert base64.b64encode((bytes(range(256)) * 200)[:MAX_INPUT_BYTES]).decode() in text


def decodings(*seconds: float) -> Iterator[float]:
    """A clock that says that the decodings took so long, one after the other."""
    now = 0.0
    for taken in seconds:
        yield now
        now += taken
        yield now


def test_input_that_is_slow_once_is_no_finding() -> None:
    seen: list[bytes] = []
    clock = decodings(5 * MAX_SECONDS_AN_INPUT, MAX_SECONDS_AN_INPUT / 2)
    check(seen.append, b"slow at first", clock=lambda: next(clock))
    assert seen == [b"slow at first"] * 2


def test_input_that_is_slow_every_time_is_a_finding_that_tells_the_least_time() -> None:
    clock = decodings(*[4.0] * (TRIES - 1), MAX_SECONDS_AN_INPUT + 0.25)
    with pytest.raises(TooSlow, match=r"7 bytes took 1\.25 s"):
        check(lambda _: None, b"7 bytes", clock=lambda: next(clock))


def test_exception_of_a_decoder_passes_through_at_once() -> None:
    seen: list[bytes] = []

    def decode(data: bytes) -> None:
        seen.append(data)
        raise ValueError("not declared")

    with pytest.raises(ValueError, match="not declared"):
        check(decode, b"x")
    assert len(seen) == 1
