"""The course of a watch: what is done after what, without a server."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

import phasegate
from phasegate import Code, Error, Position, Reason, Retry, v1
from phasegate._course import (
    Course,
    Ended,
    Failed,
    Give,
    Look,
    Open,
    Opened,
    Receive,
    Received,
    Seen,
    Wait,
)
from phasegate._subjects import AuditChain, MatchingReleases, OneRelease

TIME = Timestamp(seconds=1_800_000_000)
GONE = Failed(Error(Code.UNAVAILABLE, "gone"))
COMPACTED = Failed(Error(Code.OUT_OF_RANGE, "", reason=Reason.REVISION_COMPACTED))
STRANGER = Failed(Error(Code.UNAUTHENTICATED, "", reason=Reason.UNAUTHENTICATED))


def course(subject: Any, after: Position = Position(), *, renewable: bool = False) -> Any:  # noqa: B008
    return Course(subject, after, Retry(), renewable=renewable, draw=lambda: 1.0)


def told(course: Any, *outcomes: Any) -> Iterator[Any]:
    """The steps, each answered by the next outcome; what is given and waits need none."""
    steps, left, outcome = course.steps(), list(outcomes), None
    while True:
        try:
            step = steps.send(outcome)
        except StopIteration:
            yield "over"
            return
        yield step
        needs_none = isinstance(step, Give | Wait)
        if not (needs_none or left):
            return
        outcome = None if needs_none else left.pop(0)


def given(course: Any, *outcomes: Any) -> list[Any]:
    return [step.update for step in told(course, *outcomes) if isinstance(step, Give)]


def of_one(revision: int, *events: v1.ReleaseEvent, over: bool = False) -> Received[Any]:
    release = v1.Release(name="releases/r", end_time=TIME if over else None)
    return Received(
        v1.WatchReleaseResponse(
            revision=revision, store_id="s", server_time=TIME, release=release, events=events
        )
    )


def of_many(revision: int, *names: str, synced: bool = False) -> Received[Any]:
    initial = [v1.Release(name=name) for name in names]
    return Received(
        v1.WatchReleasesResponse(
            revision=revision, store_id="s", server_time=TIME, initial=initial, synced=synced
        )
    )


EVENT = v1.ReleaseEvent(event_type=v1.RELEASE_EVENT_TYPE_PAUSED)


def kinds(updates: list[Any]) -> list[str]:
    return [type(update).__name__ for update in updates]


def test_a_snapshot_comes_first_then_changes_and_bookmarks() -> None:
    bookmark = Received(v1.WatchReleaseResponse(revision=9, store_id="s", server_time=TIME))
    watched = course(OneRelease("releases/r"))
    updates = given(watched, Opened(), of_one(3), of_one(5, EVENT), bookmark)
    assert kinds(updates) == ["Snapshot", "Change", "Bookmark"]
    assert [update.position.revision for update in updates] == [3, 5, 9]
    assert watched.position == Position(9, "s")
    assert list(updates[1].events) == [EVENT]
    assert updates[0].server_time.timestamp() == 1_800_000_000


def test_a_lost_stream_is_opened_again_behind_the_last_position() -> None:
    steps = list(told(course(OneRelease("releases/r")), Opened(), of_one(3), GONE, GONE, Opened()))
    opened = [step.request for step in steps if isinstance(step, Open)]
    assert [(r.resume_after_revision, r.store_id) for r in opened] == [(0, ""), (3, "s"), (3, "s")]
    updates = [step.update for step in steps if isinstance(step, Give)]
    assert kinds(updates) == ["Snapshot", "Interrupted", "Interrupted", "Resumed"]
    assert [step.seconds for step in steps if isinstance(step, Wait)] == [0.2, 0.4]


def test_waits_begin_small_again_after_a_message() -> None:
    steps = told(
        course(OneRelease("releases/r")), GONE, GONE, Opened(), GONE, Opened(), of_one(3), GONE
    )
    waits = [step.seconds for step in steps if isinstance(step, Wait)]
    assert waits == [0.2, 0.4, 0.8, 0.2]


def test_an_end_with_ok_is_the_end_if_the_release_was_seen_to_be_over() -> None:
    steps = list(
        told(course(OneRelease("releases/r")), Opened(), of_one(7, EVENT, over=True), Ended())
    )
    assert steps[-1] == "over"
    assert not any(isinstance(step, Look) for step in steps)


def test_an_end_with_ok_without_a_release_is_looked_into() -> None:
    behind = Position(7, "s")
    over = Seen(v1.Release(end_time=TIME))
    steps = list(told(course(OneRelease("releases/r"), behind), Opened(), Ended(), over))
    assert steps[-2:] == [Look("releases/r"), "over"]
    goes_on = given(course(OneRelease("releases/r"), behind), Opened(), Ended(), Seen(v1.Release()))
    assert kinds(goes_on) == ["Interrupted"]
    unreachable = given(course(OneRelease("releases/r"), behind), Opened(), Ended(), GONE)
    assert kinds(unreachable) == ["Interrupted"]


def test_a_log_that_was_cut_begins_the_watch_anew_without_a_wait() -> None:
    watched = course(OneRelease("releases/r"), Position(3, "s"))
    steps = list(told(watched, COMPACTED, Opened(), of_one(90)))
    assert kinds([step.update for step in steps if isinstance(step, Give)]) == [
        "Restarted",
        "Snapshot",
    ]
    assert not any(isinstance(step, Wait) for step in steps)
    opened = [step.request for step in steps if isinstance(step, Open)]
    assert [(r.resume_after_revision, r.store_id) for r in opened] == [(3, "s"), (0, "")]


def test_what_is_refused_without_a_position_is_tried_again_after_a_wait() -> None:
    steps = list(told(course(OneRelease("releases/r")), COMPACTED, COMPACTED))
    assert [step.seconds for step in steps if isinstance(step, Wait)] == [0.2, 0.4]


def test_what_nothing_helps_against_is_raised() -> None:
    missing = Error(Code.NOT_FOUND, "", reason=Reason.RESOURCE_NOT_FOUND)
    with pytest.raises(Error) as raised:
        list(told(course(OneRelease("releases/r")), Failed(missing)))
    assert raised.value is missing


def test_who_is_not_believed_and_has_no_file_is_told_at_once() -> None:
    with pytest.raises(Error) as raised:
        given(course(OneRelease("releases/r")), Opened(), of_one(3), STRANGER)
    assert raised.value.reason == Reason.UNAUTHENTICATED


def test_a_token_file_is_tried_twice_in_a_row() -> None:
    watched = course(OneRelease("releases/r"), renewable=True)
    outcomes = (Opened(), of_one(3), STRANGER, STRANGER, Opened(), of_one(4, EVENT))
    assert kinds(given(watched, *outcomes)) == [
        "Snapshot",
        "Interrupted",
        "Interrupted",
        "Resumed",
        "Change",
    ]
    # A message in between is a credential that was good.
    again = (*outcomes, STRANGER, STRANGER, Opened(), of_one(5, EVENT))
    assert len(given(course(OneRelease("releases/r"), renewable=True), *again)) == 9
    with pytest.raises(Error):
        given(course(OneRelease("releases/r"), renewable=True), *again, *[STRANGER] * 3)


def test_a_stream_that_was_not_interrupted_is_not_resumed() -> None:
    watched = course(OneRelease("releases/r"))
    outcomes = (Opened(), of_one(3), GONE, Opened(), of_one(4, EVENT), COMPACTED)
    assert kinds(given(watched, *outcomes, Opened(), of_one(90))) == [
        "Snapshot",
        "Interrupted",
        "Resumed",
        "Change",
        "Restarted",
        "Snapshot",
    ]


def test_a_set_is_given_once_it_is_complete() -> None:
    watched = course(MatchingReleases(v1.ReleaseFilter(unfinished_only=True)))
    updates = given(
        watched, Opened(), of_many(0, "a", "b"), of_many(0, "c"), of_many(8, synced=True)
    )
    assert kinds(updates) == ["ReleasesSnapshot"]
    assert [release.name for release in updates[0].releases] == ["a", "b", "c"]
    assert updates[0].position == Position(8, "s")


def test_a_broken_set_is_begun_anew() -> None:
    watched = course(MatchingReleases(None))
    outcomes = (Opened(), of_many(0, "a", "b"), GONE, Opened(), of_many(0, "b"))
    steps = list(told(watched, *outcomes, of_many(8, synced=True)))
    opened = [step.request for step in steps if isinstance(step, Open)]
    assert [(r.resume_after_revision, r.store_id) for r in opened] == [(0, ""), (0, "")]
    updates = [step.update for step in steps if isinstance(step, Give)]
    assert kinds(updates) == ["Interrupted", "Resumed", "ReleasesSnapshot"]
    assert [release.name for release in updates[-1].releases] == ["b"]


def test_a_resumed_set_has_no_beginning() -> None:
    watched = course(MatchingReleases(None), Position(8, "s"))
    changes = v1.WatchReleasesResponse(
        revision=9, store_id="s", server_time=TIME, changes=[v1.ReleaseChange(removed=True)]
    )
    updates = given(watched, Opened(), Received(changes), of_many(12))
    assert kinds(updates) == ["Changes", "Bookmark"]
    assert updates[0].changes[0].removed


def test_an_end_with_ok_never_ends_the_watch_of_many_or_of_the_chain() -> None:
    for subject in (MatchingReleases(None), AuditChain()):
        updates = given(course(subject), Opened(), Ended())
        assert kinds(updates) == ["Interrupted"]
        assert updates[0].error.code == Code.UNAVAILABLE


def test_the_chain_gives_entries_and_bookmarks_by_their_numbers() -> None:
    watched = course(AuditChain(), Position(4, "s"))
    entry = v1.WatchAuditEntriesResponse(entry=v1.AuditEntry(sequence=5), sequence=5, store_id="s")
    steps = list(
        told(
            watched,
            Opened(),
            Received(entry),
            Received(v1.WatchAuditEntriesResponse(sequence=6, store_id="s")),
        )
    )
    assert isinstance(steps[0], Open)
    assert (steps[0].request.after_sequence, steps[0].request.store_id) == (4, "s")
    updates = [step.update for step in steps if isinstance(step, Give)]
    assert kinds(updates) == ["Entry", "Bookmark"]
    assert isinstance(updates[0], phasegate.Entry)
    assert updates[0].entry.sequence == 5
    assert watched.position == Position(6, "s")


def test_the_first_step_of_a_stream_is_to_receive() -> None:
    steps = list(told(course(AuditChain()), Opened()))
    assert isinstance(steps[-1], Receive)
