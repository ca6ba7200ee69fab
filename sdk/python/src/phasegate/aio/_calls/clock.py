"""The clock of a server that was started for a rehearsal, with `--clock=manual`."""

from __future__ import annotations

from datetime import datetime, timedelta

from phasegate._fields import duration, instant
from phasegate.aio._caller import Caller
from phasegate.rehearsal import v1 as rehearsal


class ClockCalls(Caller):
    """Moves the clock of a rehearsal. Any other server answers `Code.UNIMPLEMENTED`."""

    async def clock_now(self) -> datetime:
        """What the clock says, in UTC."""
        answer = await self._call(self._clock.Get, rehearsal.GetRequest(), has="now")
        return instant(answer.now)

    async def advance_clock(self, by: timedelta) -> datetime:
        """Moves the clock ahead, and returns what it says then, in UTC. All that came due on the way
        is done and on disk.

        This is the one call that is made once only: made again, it would move the clock twice.
        """
        request = rehearsal.AdvanceRequest(duration=duration(by))
        answer = await self._call_once(self._clock.Advance, request, has="now")
        return instant(answer.now)
