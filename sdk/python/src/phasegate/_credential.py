"""By what a client is known: a bearer token, which may be kept in a file that somebody renews, and a
certificate.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import grpc

from phasegate._error import Code, Error

LOG = logging.getLogger("phasegate")


class Token:
    """A token that stays as it is."""

    renewable = False
    """Whether it may be another one later."""

    def __init__(self, token: str) -> None:
        self._value = bearer(token)

    def value(self) -> str:
        """What to send as `authorization`."""
        return self._value


class TokenFile:
    """A token in a file, read again whenever the file has changed."""

    renewable = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._stamp = _stamp(self._path)
        self._value = bearer(read(self._path, "the token in ").decode("utf-8", "replace"))

    def value(self) -> str:
        """What to send as `authorization`. A file that cannot be read any more leaves the last one."""
        with self._lock:
            now = _stamp(self._path)
            if now is not None and now != self._stamp:
                try:
                    token = read(self._path, "the token in ").decode("utf-8", "replace")
                    self._value = bearer(token)
                    self._stamp = now
                except Error as error:
                    LOG.warning("the last token is used further: %s", error)
            return self._value


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What tells one state of a file from another."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def bearer(token: str) -> str:
    """The value of `authorization` (RFC 6750). No message of an error shows the token."""
    token = token.strip()
    if not token or not all("!" <= character <= "~" for character in token):
        raise Error(Code.INVALID_ARGUMENT, "a token is one word of printable ASCII")
    return f"Bearer {token}"


def tls(
    ca_file: str | os.PathLike[str] | None,
    certificate_file: str | os.PathLike[str] | None,
    key_file: str | os.PathLike[str] | None,
) -> grpc.ChannelCredentials:
    """Whom a client trusts, and what it shows for itself."""
    if (certificate_file is None) != (key_file is None):
        raise Error(Code.INVALID_ARGUMENT, "a certificate and its key are given together")
    return grpc.ssl_channel_credentials(
        None if ca_file is None else read(Path(ca_file)),
        None if key_file is None else read(Path(key_file)),
        None if certificate_file is None else read(Path(certificate_file)),
    )


def read(path: Path, what: str = "") -> bytes:
    """A file's bytes."""
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"cannot read {what}{path}: {error.strerror or error}"
        raise Error(Code.INVALID_ARGUMENT, message) from error
