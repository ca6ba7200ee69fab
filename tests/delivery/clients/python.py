"""An application in Python: `python.py in-process|rpc|ofrep`; see README.md."""

import json
import os
import sys
import threading

from openfeature import api
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import ResolverType
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent

KIND = sys.argv[1]
PORT = int(os.environ["PHASEGATE_PORT"])
EVENTS = {
    ProviderEvent.PROVIDER_READY: "ready",
    ProviderEvent.PROVIDER_CONFIGURATION_CHANGED: "configuration_changed",
    ProviderEvent.PROVIDER_STALE: "stale",
    ProviderEvent.PROVIDER_ERROR: "error",
}
lock = threading.Lock()


def say(message):
    # Providers tell their events in threads of their own.
    with lock:
        print(json.dumps(message), flush=True)


def provider(environment):
    if KIND == "ofrep":
        return OFREPProvider(f"http://127.0.0.1:{PORT}/environments/{environment}")
    return FlagdProvider(
        host="127.0.0.1",
        port=PORT,
        tls=False,
        resolver_type=ResolverType(KIND),
        selector=f"flagSetId={environment}",
        deadline_ms=5000,
    )


def tell_events(client, environment):
    for event, name in EVENTS.items():

        def handler(details, name=name):
            say(
                {
                    "event": name,
                    "environment": environment,
                    "flags": details.flags_changed,
                    "message": details.message,
                }
            )

        client.add_handler(event, handler)


def evaluate(client, asked):
    attributes = dict(asked["context"])
    context = EvaluationContext(attributes.pop("targetingKey", None), attributes)
    ask = (
        client.get_boolean_details
        if asked["type"] == "boolean"
        else client.get_object_details
    )
    details = ask(asked["flag"], asked["default"], context)
    return {
        "value": details.value,
        "variant": details.variant,
        "reason": details.reason,
        "errorCode": details.error_code,
        "errorMessage": details.error_message,
        "flagMetadata": dict(details.flag_metadata),
    }


clients = {}
for name in os.environ["ENVIRONMENTS"].split():
    clients[name] = api.get_client(name)
    tell_events(clients[name], name)
    try:
        api.set_provider_and_wait(provider(name), name)
    except Exception as error:
        say({"event": "failed", "environment": name, "message": str(error)})

for line in sys.stdin:
    request = json.loads(line)
    client = clients[request["environment"]]
    answers = [evaluate(client, asked) for asked in request["evaluate"]]
    say({"id": request["id"], "answers": answers})
