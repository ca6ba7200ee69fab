"""The connection: where to, as whom, how patiently."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import grpc

from phasegate._credential import Token, TokenFile, tls
from phasegate._decisions import Retry
from phasegate._error import Code, Error
from phasegate._version import __version__

PRINCIPAL = "phasegate-principal"
GROUPS = "phasegate-groups"
AUTHORIZATION = "authorization"

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
"""Larger messages are not taken; the server makes none."""

CONNECT_TIMEOUT_MS = 5_000
"""A connection that does not come about in this time will not."""

RECONNECT_MS = 1_000
"""Longest rest of grpcio itself between two attempts to connect, during which calls fail at once. The
waits of calls and watches are longer and have jitter; without this they would meet its 120 s."""

PING_INTERVAL_MS = 30_000
PING_TIMEOUT_MS = 20_000
"""A peer that does not answer a ping for so long is gone: how a cut cable is found."""


DEFAULT_RETRY = Retry()


@dataclass(frozen=True)
class Connection:
    """What all channels and calls of a client have in common."""

    target: str
    """Where to, as grpcio spells it."""
    credentials: grpc.ChannelCredentials | None
    """None: plain text."""
    is_local: bool
    """The server is on this machine."""
    said: tuple[tuple[str, str], ...]
    """Metadata that says who calls."""
    token: Token | TokenFile | None
    """What proves it."""
    timeout: float
    """Seconds that one call may take, all its attempts together."""
    silence: float
    """Seconds after which a watch that heard nothing takes its connection for dead."""
    retry: Retry
    """How calls are made again."""

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What is sent with a call: who calls."""
        if self.token is None:
            return self.said
        return (*self.said, (AUTHORIZATION, self.token.value()))

    @property
    def renewable(self) -> bool:
        """Whether the server may be told something better later, if it does not believe this."""
        return self.token is not None and self.token.renewable

    def options(self, *, watches: bool) -> list[tuple[str, str | int]]:
        """Of a channel for watches, or for calls."""
        return [
            ("grpc.primary_user_agent", f"phasegate-python/{__version__}"),
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.keepalive_time_ms", PING_INTERVAL_MS),
            ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
            # An idle watch sends nothing, and must find a dead peer all the same.
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.keepalive_permit_without_calls", int(watches)),
            ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_MS),
            ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS // 10),
            ("grpc.max_reconnect_backoff_ms", RECONNECT_MS),
            # Else channels to one server share one connection, and watches would fill that of calls.
            ("grpc.use_local_subchannel_pool", 1),
            # No proxy leads to this machine.
            ("grpc.enable_http_proxy", int(not self.is_local)),
        ]


class Connecting:
    """How a client of either kind is made."""

    def __init__(
        self,
        address: str,
        *,
        principal: str | None = None,
        groups: Sequence[str] = (),
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        insecure_plaintext_token: bool = False,
        ca_file: str | os.PathLike[str] | None = None,
        certificate_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
        timeout: float = 30.0,
        silence: float = 45.0,
        retry: Retry = DEFAULT_RETRY,
    ) -> None:
        """A client that connects when it is first used. A connection that is lost is made again.

        Args:
            address: Of the server, such as `http://127.0.0.1:7433` or `https://gate.example.com:7433`.
            principal: Who calls, where the server believes it: on loopback without an authentication
                file. Without it such a server takes the caller for `anonymous`.
            groups: The groups the caller is in, which approvals are counted by; where the server
                believes it.
            token: A bearer token, by which the server knows the caller.
            token_file: A file with such a token, which is read again whenever it has changed.
            insecure_plaintext_token: Sends a token over http to another machine too, where others can
                read it.
            ca_file: Authorities to trust instead of those that grpcio trusts, as PEM.
            certificate_file: The client's certificate with its chain, as PEM. With `key_file`.
            key_file: The key of the certificate, as PEM.
            timeout: Seconds that one call may take, all its attempts together. Watches have no limit.
            silence: Seconds after which a watch that heard nothing takes its connection for dead. The
                server is never silent for more than 15 s.
            retry: How calls are made again.

        Raises:
            Error: With `Code.INVALID_ARGUMENT`, if the address, a file, or what the client says of
                itself cannot be used.
        """
        scheme, host, target = _target(address)
        is_local = is_loopback(host)
        self._connection = Connection(
            target=target,
            is_local=is_local,
            said=_said(principal, groups),
            token=_token(token, token_file),
            credentials=None,
            timeout=timeout,
            silence=silence,
            retry=retry,
        )
        if scheme == "https":
            credentials = tls(ca_file, certificate_file, key_file)
            self._connection = replace(self._connection, credentials=credentials)
        elif not (ca_file is None and certificate_file is None and key_file is None):
            raise _wrong("certificates need an https address")
        elif self._connection.token and not insecure_plaintext_token and not is_local:
            raise _wrong(
                f"a token is not sent to {host} over http, where others can read it; use https"
            )
        self._begin()

    def _begin(self) -> None:
        """It is known now how to connect."""


def _token(
    token: str | None, token_file: str | os.PathLike[str] | None
) -> Token | TokenFile | None:
    if token is not None and token_file is not None:
        raise _wrong("a token is given, or a file with one, not both")
    if token_file is not None:
        return TokenFile(token_file)
    return None if token is None else Token(token)


def _said(principal: str | None, groups: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Who calls, as metadata."""
    said = []
    if principal is not None:
        said.append((PRINCIPAL, _header("principal", principal)))
    # A text is a sequence too, of groups with one letter.
    if isinstance(groups, str):
        raise _wrong("groups are a list")
    for group in groups:
        if "," in group:
            raise _wrong(f"the group {group!r} must not contain a comma")
    if groups:
        said.append((GROUPS, _header("groups", ",".join(groups))))
    return tuple(said)


def _target(address: str) -> tuple[str, str, str]:
    """Scheme, host, and both with the port as grpcio spells it."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    plain = (parts.path in ("", "/")) and not (parts.query or parts.fragment or parts.username)
    if parts.scheme not in ("http", "https") or not host or not plain:
        raise _wrong(f"{address!r} is no address such as http://127.0.0.1:7433")
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    return parts.scheme, host, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """This machine, as it is written: a name is not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _header(what: str, text: str) -> str:
    """Metadata is printable ASCII; anything else would be refused without a word about which key."""
    if not all(" " <= character <= "~" for character in text):
        raise _wrong(f"the {what} {text!r} must be printable ASCII")
    return text


def _wrong(message: str) -> Error:
    return Error(Code.INVALID_ARGUMENT, message)
