"""Runs the example, and the Python code of the README, each against a server of its own.

python examples.py PROGRAM
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent

LISTENING = re.compile(r"listening on (http://\S+)")

# What the code of the README finds there: a release under way that its first lines follow to its end.
BEFORE = """
import phasegate
from google.protobuf.duration_pb2 import Duration
from phasegate import v1

with phasegate.Client("http://127.0.0.1:7433", principal="ann@example.com") as client:
    rule = v1.TargetingRule(id="all")
    phase = v1.Phase(id="all", rules=[rule], bake_duration=Duration(seconds=BAKE))
    client.create_pipeline("web", v1.Pipeline(phases=[phase]))
    client.create_flag("checkout", v1.Flag(feature_gate=v1.GateSpec(), pipeline="pipelines/web"))
    change = v1.Release(flag="flags/checkout", feature_gate=v1.GateSpec(default_value=True))
    client.trigger_release(change, release_id="checkout-1")
"""


@contextmanager
def served(program: str) -> Iterator[str]:
    """A server in memory, on a free port of this machine."""
    arguments = [program, "serve", "--memory", "--listen", "127.0.0.1:0", "--log", "error"]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if found := LISTENING.search(line):
                    yield found[1]
                    break
            else:
                raise SystemExit("the server did not say where it listens")
        finally:
            server.kill()


def blocks() -> dict[str, str]:
    """The code of the README that has a name, in its order."""
    text = (HERE / "README.md").read_text()
    return dict(re.findall(r"^```python (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def run(code: str, address: str) -> str:
    """Runs code in a program of its own; gives what it printed."""
    code = code.replace("http://127.0.0.1:7433", address)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def main() -> None:
    """All of them."""
    program = sys.argv[1]
    code = blocks()
    first = code.pop("five-lines")
    with served(program) as address:
        printed = run(BEFORE.replace("BAKE", "1") + first, address)
        assert "Snapshot(" in printed
        assert "Change(" in printed
        print("README: five-lines")
    with served(program) as address:
        printed = run("\n".join([BEFORE.replace("BAKE", "3600"), *code.values()]), address)
        for said in ("RELEASE_STATE_PENDING", "under way", "Changes(", "Snapshot(", "PAUSED"):
            assert said in printed, f"the code of the README did not say {said!r}: {printed}"
        print("README:", ", ".join(code))
    with served(program) as address:
        example = [sys.executable, str(HERE / "example/release.py")]
        environment = {**os.environ, "PHASEGATE_ADDRESS": address}
        done = subprocess.run(
            example, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        print(done.stdout, end="")
        assert "somebody else must approve" in done.stdout
        assert "over; everyone gets True" in done.stdout


if __name__ == "__main__":
    main()
