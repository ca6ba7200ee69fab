"""What can be watched: how each asks for its stream, and what its messages say."""

from __future__ import annotations

import enum
from typing import Protocol, TypeVar

from phasegate import v1
from phasegate._fields import instant
from phasegate._updates import (
    AuditUpdate,
    Bookmark,
    Change,
    Changes,
    Entry,
    Position,
    ReleasesSnapshot,
    ReleasesUpdate,
    ReleaseUpdate,
    Snapshot,
)

Q = TypeVar("Q", covariant=True)
M = TypeVar("M", contravariant=True)
U = TypeVar("U", covariant=True)


class End(enum.Enum):
    """What an end with OK means."""

    OVER = enum.auto()
    """What was watched is over."""
    EARLY = enum.auto()
    """It is not; the stream ended before its time."""
    UNSURE = enum.auto()
    """That depends on the release as it is now."""


class Subject(Protocol[Q, M, U]):
    """What is watched. `Q` asks for its stream, `M` comes off the wire, `U` is handed on."""

    def begin(self, position: Position) -> Q:
        """The request for a stream behind this position. Forgets what does not reach up to it."""

    def take(self, message: M) -> tuple[Position, U | None]:
        """Takes a message in: where to resume from now on, and what to hand on, if anything."""

    def end(self) -> End:
        """What an end with OK means."""

    @property
    def name(self) -> str:
        """The release to look at if that is unsure."""


class OneRelease:
    """The watch of one release."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_over = False

    @property
    def name(self) -> str:
        """The release."""
        return self._name

    def begin(self, position: Position) -> v1.WatchReleaseRequest:
        """The request for a stream behind this position."""
        return v1.WatchReleaseRequest(
            name=self._name,
            resume_after_revision=position.revision,
            store_id=position.store_id,
        )

    def take(self, message: v1.WatchReleaseResponse) -> tuple[Position, ReleaseUpdate]:
        """A snapshot, a commit, or a bookmark."""
        position = Position(message.revision, message.store_id)
        time = instant(message.server_time)
        if not message.HasField("release"):
            return position, Bookmark(position, time)
        self._is_over = message.release.HasField("end_time")
        if not message.events:
            return position, Snapshot(message.release, position, time)
        return position, Change(message.release, message.events, position, time)

    def end(self) -> End:
        """OK after a resumption at or behind the end comes without a release: look at it."""
        return End.OVER if self._is_over else End.UNSURE


class MatchingReleases:
    """The watch of all releases that match a filter."""

    name = ""

    def __init__(self, filter: v1.ReleaseFilter | None) -> None:  # noqa: A002 - the field's name
        self._filter = filter
        # What has come of the initial set so far; none once it is complete. No revision of a set
        # that is not can be resumed from.
        self._set: list[v1.Release] | None = []

    def begin(self, position: Position) -> v1.WatchReleasesRequest:
        """The request for a stream behind this position. A broken initial set is begun anew."""
        self._set = [] if position.revision == 0 else None
        return v1.WatchReleasesRequest(
            resume_after_revision=position.revision,
            store_id=position.store_id,
            filter=self._filter,
        )

    def take(self, message: v1.WatchReleasesResponse) -> tuple[Position, ReleasesUpdate | None]:
        """A part of the initial set, the rest of it, commits, or a bookmark."""
        position = Position(message.revision, message.store_id)
        time = instant(message.server_time)
        if self._set is not None:
            self._set.extend(message.initial)
            if not message.synced:
                return Position(), None
            releases, self._set = self._set, None
            return position, ReleasesSnapshot(releases, position, time)
        if not message.changes:
            return position, Bookmark(position, time)
        return position, Changes(message.changes, position, time)

    def end(self) -> End:
        """The server never says that all releases there will ever be are over."""
        return End.EARLY


class AuditChain:
    """The watch of the audit chain."""

    name = ""

    def begin(self, position: Position) -> v1.WatchAuditEntriesRequest:
        """The request for a stream behind this position."""
        return v1.WatchAuditEntriesRequest(
            after_sequence=position.revision, store_id=position.store_id
        )

    def take(self, message: v1.WatchAuditEntriesResponse) -> tuple[Position, AuditUpdate]:
        """An entry, or a bookmark."""
        position = Position(message.sequence, message.store_id)
        if message.HasField("entry"):
            return position, Entry(message.entry, position)
        return position, Bookmark(position)

    def end(self) -> End:
        """The chain never ends."""
        return End.EARLY
