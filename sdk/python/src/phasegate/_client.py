"""The blocking client."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from phasegate import v1
from phasegate._caller import closed
from phasegate._calls.access import AccessCalls
from phasegate._calls.audit import AuditCalls
from phasegate._calls.clock import ClockCalls
from phasegate._calls.flags import FlagCalls
from phasegate._calls.notifications import NotificationCalls
from phasegate._calls.pipelines import PipelineCalls
from phasegate._calls.releases import ReleaseCalls
from phasegate._course import Course
from phasegate._places import Places
from phasegate._silence import Silence
from phasegate._subjects import AuditChain, MatchingReleases, OneRelease, Subject
from phasegate._updates import BEGINNING, AuditUpdate, Position, ReleasesUpdate, ReleaseUpdate
from phasegate._watch import Watch
from phasegate.v1.audit_service_pb2_grpc import AuditServiceStub
from phasegate.v1.release_service_pb2_grpc import ReleaseServiceStub

if TYPE_CHECKING:
    from typing_extensions import Self

Q = TypeVar("Q")
M = TypeVar("M")
U = TypeVar("U")


class Client(
    FlagCalls,
    PipelineCalls,
    ReleaseCalls,
    AccessCalls,
    AuditCalls,
    NotificationCalls,
    ClockCalls,
):
    """A client of one server, for programs with threads. All threads may share it.

    Every call of the API is a method, and so are the watches. Calls that change something carry a
    `request_id`, so they are made again after a lost connection and still done once. All raise
    `phasegate.Error`.

    A client is closed by `close`, or at the end of a `with`.
    """

    def _begin(self) -> None:
        super()._begin()
        self._silence = Silence(self._connection.silence)
        self._places = Places(lambda: self._connect(watches=True))
        self._watches: weakref.WeakSet[Watch[Any]] = weakref.WeakSet()
        # No watch begins while the client is closed.
        self._beginning = threading.Lock()

    def watch_release(self, name: str, *, after: Position = BEGINNING) -> Watch[ReleaseUpdate]:
        """Follows one release to its end: a snapshot, then every change, each once, in order.

        Args:
            name: `releases/{release}`.
            after: The position of an earlier watch of the same release, to go on behind it: without a
                snapshot, unless the log no longer reaches back so far.

        ```python
        for update in client.watch_release("releases/checkout-v2-1"):
            match update:
                case phasegate.Snapshot(release=release):
                    print("is", v1.ReleaseState.Name(release.state))
                case phasegate.Change(events=events):
                    for event in events:
                        print(v1.ReleaseEventType.Name(event.event_type), event.phase_id)
        ```
        """
        return self._watch(OneRelease(name), after, lambda c: ReleaseServiceStub(c).WatchRelease)

    def watch_releases(
        self,
        filter: v1.ReleaseFilter | None = None,  # noqa: A002 - the field's name
        *,
        after: Position = BEGINNING,
    ) -> Watch[ReleasesUpdate]:
        """Follows all releases that match a filter, for ever: a snapshot of them, then every change,
        each once, in order.

        Args:
            filter: Only releases that match; without it, all.
            after: The position of an earlier watch with the same filter, to go on behind it: without a
                snapshot, unless the log no longer reaches back so far.
        """
        subject = MatchingReleases(filter)
        return self._watch(subject, after, lambda c: ReleaseServiceStub(c).WatchReleases)

    def watch_audit_entries(self, *, after: Position = BEGINNING) -> Watch[AuditUpdate]:
        """Follows the audit chain for ever: every entry, each once, in order.

        Args:
            after: The position of an earlier watch, to go on behind it. Without it, the beginning of
                the chain.
        """
        return self._watch(AuditChain(), after, lambda c: AuditServiceStub(c).WatchAuditEntries)

    def close(self) -> None:
        """Ends all calls and watches, and the connections. Who waits for one gets a `phasegate.Error`
        with `Code.CANCELLED`.
        """
        with self._beginning:
            self._closing.set()
            watches = list(self._watches)
        for watch in watches:
            watch._close_with_client()
        for channel in (self._calls, *self._places.channels):
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _watch(
        self,
        subject: Subject[Q, M, U],
        after: Position,
        method: Callable[[grpc.Channel], grpc.UnaryStreamMultiCallable[Q, M]],
    ) -> Watch[U]:
        with self._beginning:
            if self._closing.is_set():
                raise closed()
            place = self._places.take()
            watch = Watch(
                Course(
                    subject, after, self._connection.retry, renewable=self._connection.renewable
                ),
                place,
                method(place.channel),
                self.get_release,
                self._connection,
                self._silence,
            )
            self._watches.add(watch)
        return watch
