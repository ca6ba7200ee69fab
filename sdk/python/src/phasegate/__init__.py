"""The client of Phasegate for Python programs.

- Every call of the API is a method of `Client`, or of `phasegate.aio.Client` for programs with
  asyncio, with the generated messages of `phasegate.v1`.
- A call that changes something carries a `request_id`, so that it is made again after a lost
  connection and still done once.
- Watches survive lost connections, restarts and upgrades of the server; they say so if they had to
  begin anew.
- There is one `Error`, with its `Reason`.

What is deliberately absent: caching, and the evaluation of flags inside the program.

```python
import phasegate
from phasegate import v1

with phasegate.Client("http://127.0.0.1:7433", principal="ann@example.com") as client:
    change = v1.Release(flag="flags/checkout-v2", feature_gate=v1.GateSpec(default_value=True))
    release = client.trigger_release(change)
    for update in client.watch_release(release.name):
        print(update)
```
"""

from phasegate._client import Client
from phasegate._decisions import Retry
from phasegate._error import Code, Error, Reason, Violation
from phasegate._updates import (
    AuditUpdate,
    Bookmark,
    Change,
    Changes,
    Entry,
    Interrupted,
    Position,
    ReleasesSnapshot,
    ReleasesUpdate,
    ReleaseUpdate,
    Restarted,
    Resumed,
    Snapshot,
)
from phasegate._version import __version__
from phasegate._watch import Watch

__all__ = [
    "AuditUpdate",
    "Bookmark",
    "Change",
    "Changes",
    "Client",
    "Code",
    "Entry",
    "Error",
    "Interrupted",
    "Position",
    "Reason",
    "ReleaseUpdate",
    "ReleasesSnapshot",
    "ReleasesUpdate",
    "Restarted",
    "Resumed",
    "Retry",
    "Snapshot",
    "Violation",
    "Watch",
    "__version__",
]
