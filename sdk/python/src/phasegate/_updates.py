"""What watches tell, and the position that they can be resumed behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from phasegate import v1
from phasegate._error import Error


@dataclass(frozen=True)
class Position:
    """A place in the log: everything up to it was delivered. What is needed to go on from there, also
    in another process.
    """

    revision: int = 0
    """The last revision that was delivered; of the audit chain, the number of the last entry. 0 is the
    beginning."""
    store_id: str = ""
    """The store whose revision it is. Another one has other revisions."""


BEGINNING = Position()
"""Behind nothing: where a watch begins that was not begun before."""


@dataclass(frozen=True)
class Snapshot:
    """One release as it is, with its `change` and `pipeline_snapshot`. Comes first, unless the watch
    was resumed, and after `Restarted`.
    """

    release: v1.Release
    """The release."""
    position: Position
    """Everything up to here is delivered."""
    server_time: datetime
    """Clock of the server: count its timers down by this, not by the clock at hand."""


@dataclass(frozen=True)
class Change:
    """What one commit did to one release."""

    release: v1.Release
    """The release after it, without `change` and `pipeline_snapshot`."""
    events: Sequence[v1.ReleaseEvent]
    """What happened, in order."""
    position: Position
    """Everything up to here is delivered."""
    server_time: datetime
    """Clock of the server."""


@dataclass(frozen=True)
class ReleasesSnapshot:
    """All releases that match, as of one revision. Replaces whatever was known before. Comes first,
    unless the watch was resumed, and after `Restarted`.
    """

    releases: Sequence[v1.Release]
    """The releases, without `change` and `pipeline_snapshot`."""
    position: Position
    """Everything up to here is delivered."""
    server_time: datetime
    """Clock of the server: count its timers down by this, not by the clock at hand."""


@dataclass(frozen=True)
class Changes:
    """What one or several whole commits did, in order."""

    changes: Sequence[v1.ReleaseChange]
    """Each with the release after it, and whether it stopped matching."""
    position: Position
    """Everything up to here is delivered."""
    server_time: datetime
    """Clock of the server."""


@dataclass(frozen=True)
class Entry:
    """The next entry of the audit chain."""

    entry: v1.AuditEntry
    """The entry."""
    position: Position
    """Everything up to here is delivered."""


@dataclass(frozen=True)
class Bookmark:
    """Nothing happened, at least every 15 s. For those who store positions."""

    position: Position
    """Everything up to here is delivered."""
    server_time: datetime | None = None
    """Clock of the server; none in the watch of the audit chain."""


@dataclass(frozen=True)
class Interrupted:
    """The stream broke, and is about to be resumed. Nothing is lost."""

    error: Error
    """Why."""


@dataclass(frozen=True)
class Resumed:
    """The stream that was interrupted is open again; what was missed comes now, if anything was."""


@dataclass(frozen=True)
class Restarted:
    """The log no longer reaches back to what was seen last, the store is another one, or the caller
    may see another set. Forget what was seen: a snapshot follows, or the whole audit chain. Events in
    between are not delivered.
    """

    error: Error
    """Why."""


ReleaseUpdate = Snapshot | Change | Bookmark | Interrupted | Resumed | Restarted
"""What a watch of one release tells."""

ReleasesUpdate = ReleasesSnapshot | Changes | Bookmark | Interrupted | Resumed | Restarted
"""What a watch of releases tells."""

AuditUpdate = Entry | Bookmark | Interrupted | Resumed | Restarted
"""What a watch of the audit chain tells."""
