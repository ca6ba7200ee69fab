"""Does what `sdk/conformance` says, with one of the two clients: see its README.

    python runner.py          # the blocking client, each command in a thread
    python runner.py --aio    # the client for asyncio

It decides nothing and compares nothing.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

import phasegate
import phasegate.aio
from phasegate import v1
from phasegate.rehearsal import v1 as rehearsal

Json = dict[str, Any]

COMMANDS_AT_A_TIME = 1000
"""Blocking commands that may wait at a time; each needs a thread."""

OPTIONS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "principal": ("principal", str),
    "groups": ("groups", list),
    "token": ("token", str),
    "tokenFile": ("token_file", str),
    "ca": ("ca_file", str),
    "certificate": ("certificate_file", str),
    "key": ("key_file", str),
    "timeoutMs": ("timeout", lambda milliseconds: milliseconds / 1000),
    "silenceMs": ("silence", lambda milliseconds: milliseconds / 1000),
    "retry": ("retry", lambda retry: retry_of(**retry)),
}
"""What `open` may say, and what a client calls it."""


class SenselessError(Exception):
    """A command that makes no sense."""


class Blocking:
    """The blocking client."""

    name = "python"

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(COMMANDS_AT_A_TIME)

    async def open(self, address: str, options: Json) -> Any:
        """A client."""
        return phasegate.Client(address, **options)

    async def do(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """What a method gives."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: method(*args, **named))

    async def next(self, watch: Any) -> Any:
        """The next update, or none."""
        return await self.do(next, watch, None)

    async def stop(self, watch: Any) -> None:
        """Ends a watch."""
        await self.do(watch.close)

    async def close(self, client: Any) -> None:
        """Closes a client."""
        await self.do(client.close)


class Aio:
    """The client for asyncio."""

    name = "python-aio"

    async def open(self, address: str, options: Json) -> Any:
        """A client."""
        return phasegate.aio.Client(address, **options)

    async def do(self, method: Callable[..., Awaitable[Any]], *args: Any, **named: Any) -> Any:
        """What a method gives."""
        return await method(*args, **named)

    async def next(self, watch: Any) -> Any:
        """The next update, or none."""
        return await anext(watch, None)

    async def stop(self, watch: Any) -> None:
        """Ends a watch."""
        await watch.aclose()

    async def close(self, client: Any) -> None:
        """Closes a client."""
        await client.aclose()


class Runner:
    """The clients and watches that have names."""

    def __init__(self, kind: Blocking | Aio) -> None:
        self._kind = kind
        self._clients: dict[str, Any] = {}
        self._watches: dict[str, Any] = {}

    async def answer(self, command: Json) -> Json:
        """What a command comes to."""
        try:
            return {"id": command.get("id"), "ok": await self._done(command)}
        except phasegate.Error as error:
            return {"id": command.get("id"), "error": of_error(error)}
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver has to see it
            message = f"{type(error).__name__}: {error}"
            return {"id": command.get("id"), "error": {"code": "RUNNER", "message": message}}

    async def close(self) -> None:
        """Closes all clients."""
        for client in self._clients.values():
            await self._kind.close(client)

    async def _done(self, command: Json) -> Any:
        match command["do"]:
            case "info":
                return {"client": self._kind.name}
            case "open":
                options = {
                    name: read(command[key])
                    for key, (name, read) in OPTIONS.items()
                    if key in command
                }
                client = await self._kind.open(command["address"], options)
                self._clients[command["client"]] = client
                return {}
            case "call":
                client = self._clients[command["client"]]
                return await self._call(client, command["method"], command.get("request", {}))
            case "watch":
                self._watches[command["watch"]] = self._watch(command)
                return {}
            case "next":
                update = await self._kind.next(self._watches[command["watch"]])
                return {"end": True} if update is None else of_update(update)
            case "stop":
                await self._kind.stop(self._watches.pop(command["watch"]))
                return {}
            case "close":
                await self._kind.close(self._clients.pop(command["client"]))
                return {}
            case other:
                raise SenselessError(f"nothing is called {other!r}")

    async def _call(self, client: Any, method: str, request: Json) -> Any:
        if method == "ClockNow":
            return {"now": of_time(await self._kind.do(client.clock_now))}
        if method == "AdvanceClock":
            by = ParseDict(request, rehearsal.AdvanceRequest()).duration.ToTimedelta()
            return {"now": of_time(await self._kind.do(client.advance_clock, by))}
        rpc = "TriggerRelease" if method == "PlanRelease" else method.removeprefix("Plan")
        message = ParseDict(request, getattr(v1, f"{rpc}Request")())
        words = re.sub(r"(?<!^)(?=[A-Z])", "_", method).lower()
        function = getattr(client, words)
        answer = await self._kind.do(function, **keywords(function, message))
        return {} if answer is None else MessageToDict(answer)

    def _watch(self, command: Json) -> Any:
        client = self._clients[command["client"]]
        named: Json = {}
        if command.get("from"):
            position = command["from"]
            revision = int(position.get("revision", 0))
            named["after"] = phasegate.Position(revision, position.get("storeId", ""))
        match command["kind"]:
            case "release":
                return client.watch_release(command["name"], **named)
            case "releases":
                matching = ParseDict(command.get("filter") or {}, v1.ReleaseFilter())
                return client.watch_releases(matching, **named)
            case "audit":
                return client.watch_audit_entries(**named)
            case other:
                raise SenselessError(f"nothing to watch is called {other!r}")


def retry_of(attempts: int = 5, firstMs: float = 200, longestMs: float = 20_000) -> phasegate.Retry:  # noqa: N803
    """How calls are made again."""
    return phasegate.Retry(attempts, firstMs / 1000, longestMs / 1000)


def keywords(method: Callable[..., Any], message: Message) -> Json:
    """What a method is given for a request."""
    parameters = inspect.signature(method).parameters
    given: Json = {}
    for set_field, value in message.ListFields():
        if set_field.name not in parameters:
            raise SenselessError(f"the method has no {set_field.name!r}")
        given[set_field.name] = of_field(value)
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and name not in given:
            field = message.DESCRIPTOR.fields_by_name[name]
            # Not set, which the types of Python programs forbid, and the server refuses.
            given[name] = None if field.has_presence else getattr(message, name)
    return given


def of_field(value: Any) -> Any:
    """A field of a request, as Python programs say it."""
    match value:
        case Duration():
            return value.ToTimedelta()
        case Timestamp():
            return value.ToDatetime(tzinfo=timezone.utc)
        case FieldMask():
            return list(value.paths)
        case Struct():
            return MessageToDict(value)
        case _:
            return value


def of_error(error: phasegate.Error) -> Json:
    """An error, as the driver compares it."""
    return {
        "code": error.code.name,
        "reason": error.reason.value,
        "metadata": dict(error.metadata),
        "fields": [violation.field for violation in error.violations],
        "message": error.message,
    }


def of_update(update: Any) -> Json:
    """An update, as the driver compares it."""
    said: Json = {}
    if hasattr(update, "position"):
        position = update.position
        said["position"] = {"revision": str(position.revision), "storeId": position.store_id}
    if getattr(update, "server_time", None) is not None:
        said["serverTime"] = of_time(update.server_time)
    match update:
        case phasegate.Snapshot():
            return {"type": "snapshot", "release": MessageToDict(update.release), **said}
        case phasegate.ReleasesSnapshot():
            return {
                "type": "snapshot",
                "releases": list(map(MessageToDict, update.releases)),
                **said,
            }
        case phasegate.Change():
            events = list(map(MessageToDict, update.events))
            release = MessageToDict(update.release)
            return {"type": "change", "release": release, "events": events, **said}
        case phasegate.Changes():
            return {"type": "changes", "changes": list(map(MessageToDict, update.changes)), **said}
        case phasegate.Entry():
            return {"type": "entry", "entry": MessageToDict(update.entry), **said}
        case phasegate.Bookmark():
            return {"type": "bookmark", "position": said["position"]}
        case phasegate.Interrupted() | phasegate.Restarted():
            return {"type": type(update).__name__.lower(), "error": of_error(update.error)}
        case phasegate.Resumed():
            return {"type": "resumed"}
        case _:
            raise SenselessError(f"the driver knows no {type(update).__name__}")


def of_time(time: datetime) -> str:
    """An instant, in proto JSON."""
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp.ToJsonString()


async def main() -> None:
    """Answers until stdin ends."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    runner = Runner(Aio() if sys.argv[1:] == ["--aio"] else Blocking())
    underway: set[asyncio.Task[None]] = set()

    async def answer(line: str) -> None:
        print(json.dumps(await runner.answer(json.loads(line))), flush=True)

    while (line := await lines.get()) is not None:
        task = asyncio.create_task(answer(line))
        underway.add(task)
        task.add_done_callback(underway.discard)
    await runner.close()
    await asyncio.gather(*underway)


if __name__ == "__main__":
    asyncio.run(main())
