"""Which proxy a connection takes, and what its answer means."""

from __future__ import annotations

import pytest

from parties.transport.proxies import MAX_ANSWER_BYTES, Proxy, demand_passage, proxy_for, unused_setting
from protocols.errors import ConfideError, ErrorCode

P, Q = "http://proxy.example:3128", "http://other.example:8080"
HOST = "a.hospital.example:7443"
PROXY = Proxy("proxy.example:3128")


def chosen(endpoint: str = HOST, **environment: str) -> str | None:
    found = proxy_for(endpoint, environment)
    return None if found is None else found.address


# Which variable decides.


@pytest.mark.parametrize("name", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_each_variable_names_the_proxy(name: str) -> None:
    assert chosen(**{name: P}) == "proxy.example:3128"


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_variables_that_grpc_does_not_read_mean_nothing(name: str) -> None:
    assert chosen(**{name: P}) is None


def test_first_variable_that_is_set_decides_even_if_empty() -> None:
    assert chosen(grpc_proxy=Q, https_proxy=P, http_proxy=P) == "other.example:8080"
    assert chosen(https_proxy=Q, http_proxy=P) == "other.example:8080"
    assert chosen(grpc_proxy="", https_proxy=P) is None
    assert chosen(https_proxy=P, no_grpc_proxy="", no_proxy=HOST.split(":")[0]) == "proxy.example:3128"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://proxy.example", "proxy.example:443"),
        ("HTTP://proxy.example:1/path?query#part", "proxy.example:1"),
        ("http://[2001:db8::1]:3128", "[2001:db8::1]:3128"),
        ("http://[2001:db8::1]", "[2001:db8::1]:443"),
        ("http://@proxy.example:1", "proxy.example:1"),
    ],
)
def test_address_of_a_proxy(url: str, address: str) -> None:
    found = proxy_for(HOST, {"https_proxy": url})
    assert found is not None
    assert (found.address, found.credentials) == (address, None)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("name:word", b"name:word"), ("us%3Aer:p%40%2F%C3%BC", "us:er:p@/ü".encode()), ("name", b"name"), ("a:b@c", b"a:b@c")],
)
def test_credentials_are_read_and_not_shown(written: str, meant: bytes) -> None:
    found = proxy_for(HOST, {"https_proxy": f"http://{written}@proxy.example:1"})
    assert found is not None
    assert found.credentials is not None
    assert found.credentials.reveal() == meant
    assert written not in repr(found)


@pytest.mark.parametrize(
    "url", ["https://proxy.example:1", "socks5://proxy.example:1", "proxy.example:1", " http://proxy.example"]
)
def test_proxy_of_another_kind_is_not_taken_and_named(url: str) -> None:
    assert chosen(https_proxy=url) is None
    assert unused_setting({"https_proxy": url, "http_proxy": P}) == "https_proxy"


@pytest.mark.parametrize("environment", [{}, {"https_proxy": ""}, {"https_proxy": P}])
def test_setting_that_is_used_or_absent_is_not_named(environment: dict[str, str]) -> None:
    assert unused_setting(environment) == ""


@pytest.mark.parametrize(
    "where",
    [
        "proxy.example:0", "proxy.example:65536", "proxy.example:x", "proxy.example:", "[::1", "::1:2", "proxy..example:1",
        f"{'x' * 64}.example:1", "proxy\udcff.example:1",
    ],
)  # fmt: skip
def test_proxy_without_an_address_is_the_operators_to_correct(where: str) -> None:
    with pytest.raises(ConfideError) as caught:
        proxy_for(HOST, {"https_proxy": f"http://name:word@{where}"})
    assert caught.value.code is ErrorCode.INVALID_CONFIG
    assert "https_proxy" in caught.value.what
    assert "word" not in str(caught.value).replace("name:password", "")


@pytest.mark.parametrize("written", ["hospital:77/word", "hospital:77#word", "hospital:77?word", "hospital/word"])
def test_password_that_is_not_written_as_in_a_url_is_not_taken_for_an_address(written: str) -> None:
    """Its start would be shown, and looked up, as a port or a host."""
    with pytest.raises(ConfideError) as caught:
        proxy_for(HOST, {"https_proxy": f"http://{written}@proxy.example:1"})
    assert caught.value.code is ErrorCode.INVALID_CONFIG
    assert "hospital" not in str(caught.value)
    assert "77" not in str(caught.value)


# What is excepted.


@pytest.mark.parametrize(
    "exceptions",
    [
        "a.hospital.example", "hospital.example", ".hospital.example", "example", "A.HOSPITAL.EXAMPLE", "x, hospital.example ,y",
        ".a.hospital.example",
    ],
)  # fmt: skip
def test_name_and_all_below_it_are_excepted(exceptions: str) -> None:
    assert chosen(https_proxy=P, no_proxy=exceptions) is None


@pytest.mark.parametrize(
    "exceptions",
    [
        "",
        " , ",
        ".",
        "*",
        "*.hospital.example",
        "ospital.example",
        "b.a.hospital.example",
        "a.hospital.example:7443",
        "10.0.0.0/8",
    ],
)
def test_other_names_are_not_excepted(exceptions: str) -> None:
    assert chosen(https_proxy=P, no_proxy=exceptions) is not None


@pytest.mark.parametrize(
    ("endpoint", "exceptions"),
    [
        ("10.1.2.3:1", "10.1.2.3"), ("10.1.2.3:1", "10.0.0.0/8"), ("10.1.2.3:1", "10.9.9.9/8"), ("10.1.2.3:1", "10.1.2.3/33"),
        ("[2001:db8::7]:1", "2001:db8::7"), ("[2001:db8::7]:1", "2001:db8::/32"),
        ("[2001:db8::7]:1", "[2001:db8::]/32"),
    ],
)  # fmt: skip
def test_addresses_and_networks_are_excepted(endpoint: str, exceptions: str) -> None:
    assert chosen(endpoint, https_proxy=P, no_proxy=exceptions) is None


@pytest.mark.parametrize(
    ("endpoint", "exceptions"),
    [
        ("11.1.2.3:1", "10.0.0.0/8"), ("10.1.2.3:1", "10.1.2.3/"), ("10.1.2.3:1", "10.1.2.3/-1"), ("10.1.2.3:1", "/8"),
        ("10.1.2.3:1", "10.1.2.3/32/1"), ("[2001:db8::7]:1", "[2001:db8::7]"),
        ("10.1.2.3:1", "[10.0.0.0]/8"), ("[2001:db8::7]:1", "10.0.0.0/8"),
    ],
)  # fmt: skip
def test_other_addresses_and_networks_are_not_excepted(endpoint: str, exceptions: str) -> None:
    assert chosen(endpoint, https_proxy=P, no_proxy=exceptions) is not None


# What a proxy answers.


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n", b"HTTP/1.0 200 \r\n\r\n", b"HTTP/1.1 204\r\nVia: 1.1 x\r\nA: b\r\n\r\n",
    ],
)  # fmt: skip
def test_proxy_that_permits_passes_on(answer: bytes) -> None:
    demand_passage(answer, proxy=PROXY, endpoint=HOST)


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nServer: x\r\n\r\n<html>", ErrorCode.PROXY_REFUSED, "answers 403"),
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n", ErrorCode.PROXY_REFUSED, "credentials"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://x\r\n\r\n", ErrorCode.PROXY_REFUSED, "answers 302"),
        (b"HTTP/1.1 502 Bad\r\n\r\nbody", ErrorCode.PARTY_UNREACHABLE, "answers 502"),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", ErrorCode.PROXY_REFUSED, "says more"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", ErrorCode.PROXY_REFUSED, "does not speak"),
        (b"HTTP/2 200 OK\r\n\r\n", ErrorCode.PROXY_REFUSED, "does not speak"),
        (b"\x15\x03\x01\x00\x02\x02\x16", ErrorCode.PROXY_REFUSED, "does not speak"),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * MAX_ANSWER_BYTES, ErrorCode.PROXY_REFUSED, "does not speak"),
        (b"HTTP/1.1 200 OK\r\n", ErrorCode.PROXY_REFUSED, "does not speak"),
        (b"", ErrorCode.PROXY_REFUSED, "does not speak"),
    ],
)
def test_other_answers_are_refusals_that_say_whose_they_are(answer: bytes, code: ErrorCode, text: str) -> None:
    with pytest.raises(ConfideError) as caught:
        demand_passage(answer, proxy=PROXY, endpoint=HOST)
    assert caught.value.code is code
    assert text in caught.value.what
    assert "proxy.example:3128" in caught.value.what
