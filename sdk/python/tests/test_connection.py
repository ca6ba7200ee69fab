"""What a client is given, and what it makes of it."""

from pathlib import Path
from typing import Any

import pytest

import phasegate
from phasegate import Code, Error
from phasegate._connection import Connection
from phasegate._places import WATCHES_PER_CHANNEL, Places


def connection(address: str, **options: Any) -> Connection:
    with phasegate.Client(address, **options) as client:
        return client._connection


def refusal(address: str, **options: Any) -> str:
    with pytest.raises(Error) as raised:
        phasegate.Client(address, **options)
    assert raised.value.code == Code.INVALID_ARGUMENT
    return raised.value.message


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("http://127.0.0.1:7433", "127.0.0.1:7433"),
        ("http://127.0.0.1:7433/", "127.0.0.1:7433"),
        ("http://[::1]:7433", "[::1]:7433"),
        ("https://gate.example", "gate.example:443"),
        ("http://gate.example", "gate.example:80"),
    ],
)
def test_an_address_says_where_to(address: str, target: str) -> None:
    assert connection(address).target == target
    assert (connection(address).credentials is not None) == address.startswith("https")


@pytest.mark.parametrize(
    "address",
    ["", "127.0.0.1:7433", "ftp://a.example", "http://", "http://a.example/path", "http://a:b:c"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    assert "is no address such as" in refusal(address)


@pytest.mark.parametrize("host", ["127.0.0.1:1", "[::1]:1", "localhost:1", "127.8.8.8:1"])
def test_a_token_may_stay_on_this_machine(host: str) -> None:
    assert ("authorization", "Bearer pgt_x") in connection(
        f"http://{host}", token="pgt_x"
    ).metadata()


@pytest.mark.parametrize("host", ["10.0.0.1:1", "a.example", "127.0.0.1.example:1"])
def test_a_token_goes_to_others_over_tls_only(host: str) -> None:
    assert "use https" in refusal(f"http://{host}", token="pgt_x")
    assert connection(f"https://{host}", token="pgt_x").token is not None
    allowed = connection(f"http://{host}", token="pgt_x", insecure_plaintext_token=True)
    assert allowed.token is not None
    assert connection(f"http://{host}").token is None


@pytest.mark.parametrize("token", ["", "two words", "pgt_ü", "a\nb"])
def test_a_token_is_one_word(token: str) -> None:
    assert refusal("http://127.0.0.1:1", token=token) == "a token is one word of printable ASCII"


def test_a_token_that_is_renewed_in_its_file_is_sent_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("pgt_one\n")
    known = connection("http://127.0.0.1:1", token_file=path)
    assert known.renewable
    assert known.metadata() == (("authorization", "Bearer pgt_one"),)
    path.write_text("pgt_number_two\n")
    assert known.metadata() == (("authorization", "Bearer pgt_number_two"),)
    # Half a renewal, or none, is no reason to send nothing.
    path.write_text("")
    assert known.metadata() == (("authorization", "Bearer pgt_number_two"),)
    path.unlink()
    assert known.metadata() == (("authorization", "Bearer pgt_number_two"),)
    assert str(path) in refusal("http://127.0.0.1:1", token_file=path)


def test_a_token_is_shown_to_nobody() -> None:
    assert "pgt_secret" not in repr(connection("http://127.0.0.1:1", token="pgt_secret"))


def test_a_caller_says_who_they_are() -> None:
    said = connection("http://127.0.0.1:1", principal="ann@example.com", groups=["sre", "ops"])
    assert said.metadata() == (
        ("phasegate-principal", "ann@example.com"),
        ("phasegate-groups", "sre,ops"),
    )
    assert not said.renewable


def test_what_cannot_be_said_is_refused() -> None:
    assert "comma" in refusal("http://127.0.0.1:1", groups=["a,b"])
    assert "groups are a list" in refusal("http://127.0.0.1:1", groups="sre")
    assert "printable ASCII" in refusal("http://127.0.0.1:1", principal="jürgen")
    assert "not both" in refusal("http://127.0.0.1:1", token="a", token_file="b")


def test_certificates_are_read_and_need_tls(tmp_path: Path) -> None:
    assert "/none" in refusal("https://a.example", ca_file="/none")
    assert "https" in refusal("http://127.0.0.1:1", ca_file="/none")
    assert "together" in refusal("https://a.example", certificate_file="/none")


def test_a_connection_carries_a_hundred_watches_and_a_freed_place_is_taken_again() -> None:
    places = Places(object)
    taken = [places.take() for _ in range(WATCHES_PER_CHANNEL)]
    assert len(places.channels) == 1
    beyond = places.take()
    assert len(places.channels) == 2
    assert beyond.channel is not taken[0].channel
    taken[7].leave()
    # Left twice, it is free for one.
    taken[7].leave()
    assert places.taken == WATCHES_PER_CHANNEL
    assert places.take().channel is taken[0].channel
    assert places.take().channel is beyond.channel
    assert len(places.channels) == 2
