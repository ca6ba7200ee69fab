"""What both clients do with a server: calls made again, deadlines, watches that are ended."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import grpc
import pytest

import phasegate
from phasegate import Code, Error, Position, Reason, Retry, aio, v1
from phasegate._places import WATCHES_PER_CHANNEL

from .scripted import WITHIN, Scripted, refuse, scripted

QUICK = Retry(attempts=5, first=0.001, longest=0.001)


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as script:
        yield script


@pytest.fixture(params=["blocking", "aio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def do(
    kind: str, server: Scripted, method: str, *args: Any, options: Any = None, **named: Any
) -> Any:
    """Makes one call with a client of its own."""
    options = {"retry": QUICK, **(options or {})}
    if kind == "blocking":
        with phasegate.Client(server.address, **options) as client:
            return getattr(client, method)(*args, **named)

    async def call() -> Any:
        async with aio.Client(server.address, **options) as client:
            return await getattr(client, method)(*args, **named)

    return asyncio.run(call())


def fails(times: int, code: Code, reason: str, retry: float = 0.0) -> Any:
    left = [times]

    def answer(_request: Any, context: grpc.ServicerContext) -> None:
        if left[0]:
            left[0] -= 1
            refuse(context, code, reason, retry)

    return answer


def test_a_call_is_made_again_with_the_same_id(kind: str, server: Scripted) -> None:
    server.answer = fails(2, Code.UNAVAILABLE, "STORE_READ_ONLY")
    assert do(kind, server, "pause_release", "releases/r").name == "releases/r"
    assert len(server.asked) == 3
    (request_id,) = {request.request_id for request in server.asked}
    assert len(request_id) == 36


def test_an_id_that_is_given_is_kept(kind: str, server: Scripted) -> None:
    do(kind, server, "pause_release", "releases/r", request_id="mine")
    assert server.asked[0].request_id == "mine"


def test_a_call_is_given_up_after_its_attempts(kind: str, server: Scripted) -> None:
    server.answer = fails(9, Code.UNAVAILABLE, "SERVER_DRAINING")
    with pytest.raises(Error) as raised:
        do(kind, server, "pause_release", "releases/r")
    assert raised.value.reason is Reason.SERVER_DRAINING
    assert raised.value.retry_after == 0.0
    assert len(server.asked) == 5


def test_a_refusal_is_the_answer(kind: str, server: Scripted) -> None:
    server.answer = fails(9, Code.FAILED_PRECONDITION, "ALREADY_PAUSED")
    with pytest.raises(Error) as raised:
        do(kind, server, "pause_release", "releases/r")
    assert raised.value.reason is Reason.ALREADY_PAUSED
    assert len(server.asked) == 1


def test_the_clock_is_advanced_once(kind: str, server: Scripted) -> None:
    server.answer = fails(1, Code.UNAVAILABLE, "SERVER_DRAINING")
    with pytest.raises(Error):
        do(kind, server, "advance_clock", timedelta(minutes=1))
    assert len(server.asked) == 1
    assert server.asked[0].duration.ToTimedelta() == timedelta(minutes=1)


def test_an_answer_without_its_resource_is_an_error(kind: str, server: Scripted) -> None:
    with pytest.raises(Error, match="the server's answer lacks `release`"):
        do(kind, server, "get_release", "releases/r")


def test_the_deadline_is_sent_and_is_one_for_all_attempts(kind: str, server: Scripted) -> None:
    server.answer = fails(1, Code.UNAVAILABLE, "SERVER_DRAINING", retry=0.5)
    do(kind, server, "pause_release", "releases/r", options={"timeout": 5.0})
    first, second = server.left
    assert first is not None
    assert second is not None
    # The transport rounds them, by less than a twentieth.
    assert 3 < second < first - 0.2 < 5
    do(kind, server, "wait_release", "releases/r", max_wait=timedelta(seconds=20))
    assert server.left[-1] is not None
    assert 45 < server.left[-1] < 50 * 1.05


def test_a_call_that_is_not_answered_ends_at_its_deadline(kind: str, server: Scripted) -> None:
    held = threading.Event()
    server.answer = lambda _request, _context: held.wait(WITHIN) and None
    try:
        with pytest.raises(Error) as raised:
            do(kind, server, "pause_release", "releases/r", options={"timeout": 0.3})
    finally:
        held.set()
    assert raised.value.code is Code.DEADLINE_EXCEEDED
    assert raised.value.is_unreachable


def test_a_server_that_is_not_there_is_an_error(kind: str) -> None:
    nowhere = Scripted()
    nowhere.address = "http://127.0.0.1:1"
    with pytest.raises(Error) as raised:
        do(kind, nowhere, "get_flag", "flags/f")
    assert raised.value.code is Code.UNAVAILABLE
    assert raised.value.is_unreachable


def test_who_calls_is_said_with_every_call(kind: str, server: Scripted) -> None:
    who = {"principal": "ann", "groups": ["sre", "ops"], "token": "pgt_x"}
    do(kind, server, "pause_release", "releases/r", options=who)
    assert server.said[0]["phasegate-principal"] == "ann"
    assert server.said[0]["phasegate-groups"] == "sre,ops"
    assert server.said[0]["authorization"] == "Bearer pgt_x"
    assert str(server.said[0]["user-agent"]).startswith("phasegate-python/")


def test_a_closed_client_makes_no_calls(server: Scripted) -> None:
    client = phasegate.Client(server.address)
    client.close()
    with pytest.raises(Error, match="the client is closed"):
        client.get_release("releases/r")
    with pytest.raises(Error, match="the client is closed"):
        client.watch_release("releases/r")


@pytest.mark.parametrize("waits_for", ["an answer", "another attempt"])
def test_closing_a_client_ends_its_calls(kind: str, server: Scripted, waits_for: str) -> None:
    asked, held = threading.Event(), threading.Event()

    def answer(_request: Any, context: grpc.ServicerContext) -> None:
        asked.set()
        if waits_for == "another attempt":
            refuse(context, Code.UNAVAILABLE, "SERVER_DRAINING", retry=WITHIN)
        held.wait(WITHIN)

    server.answer = answer
    began = time.monotonic()
    try:
        if kind == "blocking":
            raised = closed_while_it_calls(server, asked)
        else:
            raised = asyncio.run(closed_while_it_calls_too(server, asked))
    finally:
        held.set()
    assert raised.code is Code.CANCELLED
    assert time.monotonic() - began < WITHIN / 2


def closed_while_it_calls(server: Scripted, asked: threading.Event) -> Error:
    client = phasegate.Client(server.address)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.pause_release, "releases/r")
        assert asked.wait(WITHIN)
        client.close()
        error = call.exception(WITHIN)
    assert isinstance(error, Error)
    return error


async def closed_while_it_calls_too(server: Scripted, asked: threading.Event) -> Error:
    client = aio.Client(server.address)
    call = asyncio.create_task(client.pause_release("releases/r"))
    assert await asyncio.get_running_loop().run_in_executor(None, asked.wait, WITHIN)
    await client.aclose()
    with pytest.raises(Error) as raised:
        await call
    return raised.value


def test_a_task_that_is_cancelled_stays_cancelled(server: Scripted) -> None:
    asked, held = threading.Event(), threading.Event()

    def answer(_request: Any, _context: grpc.ServicerContext) -> None:
        asked.set()
        held.wait(WITHIN)

    server.answer = answer

    async def cancel() -> None:
        async with aio.Client(server.address) as client:
            call = asyncio.create_task(client.pause_release("releases/r"))
            assert await asyncio.get_running_loop().run_in_executor(None, asked.wait, WITHIN)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    try:
        asyncio.run(cancel())
    finally:
        held.set()


# Watches.


def commit(revision: int, *, over: bool = False) -> v1.WatchReleaseResponse:
    message = v1.WatchReleaseResponse(revision=revision, store_id="s")
    message.release.name = "releases/r"
    message.events.add(revision=revision)
    if over:
        message.release.end_time.seconds = 1
    return message


def follow(kind: str, server: Scripted, count: int, **options: Any) -> list[Any]:
    """The first updates of a watch, which is then closed."""
    options = {"retry": QUICK, **options}
    if kind == "blocking":
        with (
            phasegate.Client(server.address, **options) as client,
            client.watch_release("releases/r", after=Position(3, "s")) as watch,
        ):
            return list(itertools.islice(watch, count))

    async def collect() -> list[Any]:
        found: list[Any] = []
        async with (
            aio.Client(server.address, **options) as client,
            client.watch_release("releases/r", after=Position(3, "s")) as watch,
        ):
            async for update in watch:
                found.append(update)
                if len(found) == count:
                    break
        return found

    return asyncio.run(collect())


def test_a_watch_goes_on_where_it_was(kind: str, server: Scripted) -> None:
    def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        last = request.resume_after_revision
        yield commit(last + 1)
        if last < 5:
            refuse(context, Code.UNAVAILABLE, "STREAM_EXPIRED", retry=0.0)
        yield commit(last + 2, over=True)

    server.stream = stream
    updates = follow(kind, server, 99)
    assert [type(update).__name__ for update in updates] == [
        *["Change", "Interrupted", "Resumed"] * 2,
        "Change",
        "Change",
    ]
    told = [u.position.revision for u in updates if isinstance(u, phasegate.Change)]
    assert told == [4, 5, 6, 7]
    assert [request.resume_after_revision for request in server.asked] == [3, 4, 5]
    assert {request.store_id for request in server.asked} == {"s"}


def test_watches_and_calls_have_connections_of_their_own(kind: str, server: Scripted) -> None:
    server.stream = lambda _request, _context: iter([commit(4)])
    server.answer = lambda _request, _context: v1.GetReleaseResponse(
        release=commit(4, over=True).release
    )
    # An end with OK without the end of the release is looked into, by a call.
    updates = follow(kind, server, 99)
    assert len(updates) == 1
    watched, called = server.peers
    assert watched != called


def test_a_connection_carries_a_hundred_watches(server: Scripted) -> None:
    server.stream = lambda _request, _context: iter([commit(4)])
    with phasegate.Client(server.address) as client:
        watches = [client.watch_release("releases/r") for _ in range(WATCHES_PER_CHANNEL + 1)]
        for watch in watches:
            next(watch)
    assert len(set(server.peers[:-1])) == 1
    assert server.peers[-1] != server.peers[0]


def test_a_stream_that_is_silent_is_given_up(kind: str, server: Scripted) -> None:
    held = threading.Event()

    def stream(request: Any, _context: grpc.ServicerContext) -> Iterator[Any]:
        if request.resume_after_revision == 3 and len(server.asked) == 1:
            held.wait(WITHIN)
            return
        yield commit(4, over=True)

    server.stream = stream
    try:
        updates = follow(kind, server, 3, silence=1.0)
    finally:
        held.set()
    assert [type(update).__name__ for update in updates] == ["Interrupted", "Resumed", "Change"]
    assert updates[0].error.message == "the server was silent for too long"
    assert server.gone.wait(WITHIN)


def test_a_watch_that_is_closed_ends_on_the_server_too(kind: str, server: Scripted) -> None:
    held = threading.Event()

    def stream(_request: Any, _context: grpc.ServicerContext) -> Iterator[Any]:
        yield commit(4)
        held.wait(WITHIN)

    server.stream = stream
    try:
        assert len(follow(kind, server, 1)) == 1
        assert server.gone.wait(WITHIN)
    finally:
        held.set()


def test_a_watch_that_nobody_keeps_ends_on_the_server_too(kind: str, server: Scripted) -> None:
    held = threading.Event()

    def stream(_request: Any, _context: grpc.ServicerContext) -> Iterator[Any]:
        yield commit(4)
        held.wait(WITHIN)

    def forget() -> None:
        with phasegate.Client(server.address) as client:
            for _ in client.watch_release("releases/r"):
                break
            gc.collect()
            assert server.gone.wait(WITHIN)
            # Its place on the connection is free again, too.
            assert client._places.taken == 0

    async def forget_too() -> None:
        async with aio.Client(server.address) as client:
            async for _ in client.watch_release("releases/r"):
                break
            gc.collect()
            loop = asyncio.get_running_loop()
            assert await loop.run_in_executor(None, server.gone.wait, WITHIN)
            assert client._places.taken == 0

    server.stream = stream
    try:
        if kind == "blocking":
            forget()
        else:
            asyncio.run(forget_too())
    finally:
        held.set()


@pytest.mark.parametrize("closed", ["watch", "client"])
def test_closing_wakes_whoever_waits_for_an_update(server: Scripted, closed: str) -> None:
    opened, held = threading.Event(), threading.Event()

    def stream(_request: Any, _context: grpc.ServicerContext) -> Iterator[Any]:
        yield commit(4)
        held.wait(WITHIN)

    server.stream = stream
    client = phasegate.Client(server.address)
    watch = client.watch_release("releases/r")
    told: list[Any] = []

    def ask() -> None:
        next(watch)
        opened.set()
        try:
            told.append(next(watch, "ended"))
        except Error as error:
            told.append(error.code)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        assert opened.wait(WITHIN)
        (watch if closed == "watch" else client).close()
        thread.join(WITHIN)
    finally:
        held.set()
        client.close()
    assert told == ["ended" if closed == "watch" else Code.CANCELLED]


def test_a_watch_that_has_ended_has_ended_whatever_the_client_does(server: Scripted) -> None:
    server.stream = lambda _request, _context: iter([commit(4, over=True)])
    with phasegate.Client(server.address) as client:
        watch = client.watch_release("releases/r")
        assert len(list(watch)) == 1
    assert list(watch) == []


def test_to_ask_may_be_cancelled_without_losing_anything(server: Scripted) -> None:
    held = threading.Event()

    def stream(_request: Any, _context: grpc.ServicerContext) -> Iterator[Any]:
        yield commit(4)
        held.wait(WITHIN)
        yield commit(5)
        yield commit(6, over=True)

    server.stream = stream

    async def ask() -> list[int]:
        async with aio.Client(server.address) as client:
            watch = client.watch_release("releases/r")
            found = [await anext(watch)]
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(watch), 0.05)
            held.set()
            found += [update async for update in watch]
            return [u.position.revision for u in found if isinstance(u, phasegate.Change)]

    try:
        assert asyncio.run(ask()) == [4, 5, 6]
    finally:
        held.set()
    assert len(server.asked) == 1


def test_an_update_is_taken_when_it_is_asked_for(server: Scripted) -> None:
    sent: list[int] = []

    def stream(_request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        # Each larger than what a connection takes unread.
        for revision in range(1, 200):
            message = commit(revision)
            message.events[0].reason = "x" * 1_000_000
            sent.append(revision)
            yield message
            if not context.is_active():
                return

    server.stream = stream
    with (
        phasegate.Client(server.address) as client,
        client.watch_release("releases/r") as watch,
    ):
        next(watch)
        # A call on the other connection comes back while the stream stands still.
        assert client.pause_release("releases/r").name == "releases/r"
        assert len(sent) < 50


def test_a_message_that_is_too_large_ends_the_watch(kind: str, server: Scripted) -> None:
    def stream(_request: Any, _context: grpc.ServicerContext) -> Iterator[Any]:
        message = commit(4)
        message.events[0].reason = "x" * 5_000_000
        yield message

    server.stream = stream
    with pytest.raises(Error) as raised:
        follow(kind, server, 1)
    assert raised.value.code is Code.OUT_OF_RANGE
