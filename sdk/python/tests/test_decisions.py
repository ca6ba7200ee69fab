"""The tables: whether a call is made again, how long to wait, what the end of a stream means."""

from datetime import timedelta

import pytest

from phasegate import Code, Error, Reason, Retry
from phasegate._decisions import After, Backoff, Patience, after, is_passing, wait_of

PASSING = {
    (Code.UNAVAILABLE, Reason.NONE),
    (Code.UNAVAILABLE, Reason.SERVER_DRAINING),
    (Code.UNAVAILABLE, Reason.STORE_READ_ONLY),
    (Code.UNKNOWN, Reason.NONE),
    (Code.RESOURCE_EXHAUSTED, Reason.RATE_LIMITED),
    (Code.RESOURCE_EXHAUSTED, Reason.OVERLOADED),
}

NOT_PASSING = {
    (Code.UNKNOWN, Reason.INTERNAL),
    (Code.RESOURCE_EXHAUSTED, Reason.NONE),
    (Code.RESOURCE_EXHAUSTED, Reason.QUEUE_FULL),
    *((code, Reason.NONE) for code in Code if code not in (Code.UNAVAILABLE, Code.UNKNOWN)),
}


@pytest.mark.parametrize(("code", "reason"), sorted(PASSING, key=str))
def test_what_passes_is_tried_again(code: Code, reason: Reason) -> None:
    assert is_passing(Error(code, "", reason=reason))


@pytest.mark.parametrize(("code", "reason"), sorted(NOT_PASSING, key=str))
def test_what_stays_is_not_tried_again(code: Code, reason: Reason) -> None:
    assert not is_passing(Error(code, "", reason=reason))


ENDS = {
    (Code.OUT_OF_RANGE, Reason.REVISION_COMPACTED): After.RESTART,
    (Code.OUT_OF_RANGE, Reason.REVISION_IN_FUTURE): After.RESTART,
    (Code.OUT_OF_RANGE, Reason.VIEW_CHANGED): After.RESTART,
    (Code.OUT_OF_RANGE, Reason.NONE): After.FAIL,
    (Code.FAILED_PRECONDITION, Reason.STORE_REPLACED): After.RESTART,
    (Code.FAILED_PRECONDITION, Reason.NONE): After.RESUME,
    (Code.UNAUTHENTICATED, Reason.UNAUTHENTICATED): After.RENEW,
    (Code.UNAUTHENTICATED, Reason.NONE): After.RENEW,
    (Code.NOT_FOUND, Reason.RESOURCE_NOT_FOUND): After.FAIL,
    (Code.INVALID_ARGUMENT, Reason.INVALID_FIELD): After.FAIL,
    (Code.PERMISSION_DENIED, Reason.PERMISSION_MISSING): After.FAIL,
    (Code.UNIMPLEMENTED, Reason.NONE): After.FAIL,
    (Code.CANCELLED, Reason.NONE): After.RESUME,
    (Code.UNKNOWN, Reason.NONE): After.RESUME,
    (Code.DEADLINE_EXCEEDED, Reason.NONE): After.RESUME,
    (Code.ALREADY_EXISTS, Reason.NONE): After.RESUME,
    (Code.RESOURCE_EXHAUSTED, Reason.NONE): After.RESUME,
    (Code.RESOURCE_EXHAUSTED, Reason.SLOW_CONSUMER): After.RESUME,
    (Code.RESOURCE_EXHAUSTED, Reason.TOO_MANY_WATCHES): After.RESUME,
    (Code.ABORTED, Reason.NONE): After.RESUME,
    (Code.INTERNAL, Reason.NONE): After.RESUME,
    (Code.INTERNAL, Reason.INTERNAL): After.RESUME,
    (Code.UNAVAILABLE, Reason.NONE): After.RESUME,
    (Code.UNAVAILABLE, Reason.STREAM_EXPIRED): After.RESUME,
    (Code.UNAVAILABLE, Reason.SERVER_DRAINING): After.RESUME,
    (Code.DATA_LOSS, Reason.NONE): After.RESUME,
}


@pytest.mark.parametrize("end", ENDS, ids=str)
def test_an_end_of_a_stream_means_what_the_table_says(end: tuple[Code, Reason]) -> None:
    code, reason = end
    assert after(Error(code, "", reason=reason)) is ENDS[end]


def test_the_table_of_ends_has_every_code() -> None:
    assert {code for code, _ in ENDS} == set(Code) - {Code.OK}


def test_the_limit_doubles_up_to_the_longest_and_begins_anew_after_a_reset() -> None:
    backoff = Backoff(Retry(), draw=lambda: 1.0)
    gone = Error(Code.UNAVAILABLE, "gone")
    waits = [backoff.next(gone) for _ in range(9)]
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20.0, 20.0]
    for _ in range(2000):
        backoff.next(gone)
    assert backoff.next(gone) == 20.0
    backoff.reset()
    assert backoff.next(gone) == 0.2


def test_a_wait_is_drawn_between_nothing_and_the_limit() -> None:
    gone = Error(Code.UNAVAILABLE, "gone")
    drawn = iter([0.0, 0.25, 1.0])
    backoff = Backoff(Retry(), draw=lambda: next(drawn))
    assert [backoff.next(gone) for _ in range(3)] == [0.0, 0.1, 0.8]


def test_the_servers_wish_is_kept_to_the_letter() -> None:
    backoff = Backoff(Retry(), draw=lambda: 0.5)
    assert backoff.next(Error(Code.UNAVAILABLE, "draining", retry_after=77.0)) == 77.0
    # Also the wish for no wait at all.
    assert backoff.next(Error(Code.UNAVAILABLE, "draining", retry_after=0.0)) == 0.0


def test_a_call_is_made_as_often_as_it_may_be() -> None:
    patience = Patience(Retry(attempts=3), deadline=30.0, draw=lambda: 1.0)
    gone = Error(Code.UNAVAILABLE, "gone")
    assert [patience.after(gone, now=0.0) for _ in range(3)] == [0.2, 0.4, None]
    assert Patience(Retry(attempts=1), deadline=30.0).after(gone, now=0.0) is None


def test_a_call_is_not_made_again_behind_its_deadline() -> None:
    slow = Error(Code.UNAVAILABLE, "draining", retry_after=10.0)
    assert Patience(Retry(), deadline=30.0).after(slow, now=20.0) == 10.0
    assert Patience(Retry(), deadline=30.0).after(slow, now=20.1) is None


def test_a_call_that_was_refused_is_not_made_again() -> None:
    refused = Error(Code.FAILED_PRECONDITION, "", reason=Reason.ALREADY_PAUSED)
    assert Patience(Retry(), deadline=30.0).after(refused, now=0.0) is None


@pytest.mark.parametrize(
    ("max_wait", "seconds"), [(None, 30.0), (0.5, 0.5), (60, 60.0), (3600, 60.0), (-1, 0.0)]
)
def test_a_wait_lengthens_its_call_by_what_the_server_takes(
    max_wait: float | None, seconds: float
) -> None:
    asked = None if max_wait is None else timedelta(seconds=max_wait)
    assert wait_of(asked) == seconds
