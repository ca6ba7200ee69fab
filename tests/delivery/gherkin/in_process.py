"""Applications in Python that evaluate in process, for scenarios that ask by lines of JSON.

    {"number", "open", "port", "selector", "deadline", "grace", "backoff"}
    {"number", "evaluate", "type", "key", "fallback", "context"}
    {"number", "close"}

Each is answered by {"number", "answer"} or {"number", "problem"}; in between come {"event", "client"}.
"""

import json
import sys
import threading

from openfeature import api
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import ResolverType
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent

EVENTS = {
    ProviderEvent.PROVIDER_READY: "ready",
    ProviderEvent.PROVIDER_STALE: "stale",
    ProviderEvent.PROVIDER_ERROR: "error",
}
lock = threading.Lock()
providers = {}


def say(message):
    # Providers tell their events in threads of their own.
    with lock:
        print(json.dumps(message), flush=True)


def open_client(asked):
    name = asked["open"]
    client = api.get_client(str(name))
    for event, word in EVENTS.items():
        client.add_handler(event, lambda _, word=word: say({"event": word, "client": name}))
    providers[name] = FlagdProvider(
        host="127.0.0.1",
        port=asked["port"],
        tls=False,
        resolver_type=ResolverType.IN_PROCESS,
        selector=asked["selector"],
        deadline_ms=asked["deadline"],
        retry_grace_period=asked["grace"],
        retry_backoff_ms=asked["backoff"],
        retry_backoff_max_ms=asked["backoff"],
    )
    api.set_provider_and_wait(providers[name], str(name))


def evaluate(asked):
    attributes = dict(asked["context"])
    target = attributes.pop("targetingKey", None)
    context = EvaluationContext(targeting_key=target, attributes=attributes)
    client = api.get_client(str(asked["evaluate"]))
    method = getattr(client, f"get_{asked['type'].lower()}_details")
    told = method(asked["key"], asked["fallback"], context)
    return {
        "value": told.value,
        "variant": told.variant,
        "reason": told.reason,
        "errorCode": told.error_code,
        "metadata": told.flag_metadata,
    }


def answer(asked):
    try:
        if "open" in asked:
            said = {"answer": open_client(asked)}
        elif "evaluate" in asked:
            said = {"answer": evaluate(asked)}
        else:
            said = {"answer": providers.pop(asked["close"]).shutdown()}
    except Exception as problem:  # Whatever it is, the scenario is told.
        said = {"problem": repr(problem)}
    say({"number": asked["number"], **said})


for line in sys.stdin:
    # Each in a thread, because opening blocks.
    threading.Thread(target=answer, args=(json.loads(line),), daemon=True).start()
