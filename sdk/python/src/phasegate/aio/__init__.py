"""The client of Phasegate for programs with asyncio.

It has the same methods as the blocking one, to be awaited, and gives the same things; they are in
`phasegate`.

```python
import asyncio
from phasegate import aio

async def main() -> None:
    async with aio.Client("http://127.0.0.1:7433") as client:
        async for update in client.watch_release("releases/checkout-v2-1"):
            print(update)

asyncio.run(main())
```
"""

from phasegate.aio._client import Client
from phasegate.aio._watch import Watch

__all__ = ["Client", "Watch"]
