"""Calls about notifications."""

from __future__ import annotations

from collections.abc import Sequence

from phasegate import v1
from phasegate.aio._caller import Caller


class NotificationCalls(Caller):
    """Looks at sinks, and mends what was not delivered."""

    async def list_sinks(self) -> v1.ListSinksResponse:
        """Returns all sinks, and how they are."""
        return await self._call(self._notifications.ListSinks, v1.ListSinksRequest())

    async def list_dead_letters(
        self, sink: str, *, page_size: int = 0, page_token: str = ""
    ) -> v1.ListDeadLettersResponse:
        """Returns a page of what was given up, oldest first.

        Args:
            sink: Id of the sink.
            page_size: 0 means 100; at most 1000.
            page_token: `next_page_token` of the page before.
        """
        request = v1.ListDeadLettersRequest(sink=sink, page_size=page_size, page_token=page_token)
        return await self._call(self._notifications.ListDeadLetters, request)

    async def replay_dead_letters(
        self,
        sink: str,
        *,
        ids: Sequence[str] = (),
        all: bool = False,  # noqa: A002 - the field's name
    ) -> v1.ReplayDeadLettersResponse:
        """Has what was given up sent again. Made again, it does nothing more.

        Args:
            sink: Id of the sink.
            ids: Of notifications, at most 1000. Either these or all.
            all: All that were given up.
        """
        request = v1.ReplayDeadLettersRequest(sink=sink, ids=ids, all=all)
        return await self._call(self._notifications.ReplayDeadLetters, request)

    async def send_test_notification(self, sink: str) -> v1.SendTestNotificationResponse:
        """Sends a test to a sink, by its id. Made again after a lost connection, it may arrive
        twice.
        """
        request = v1.SendTestNotificationRequest(sink=sink)
        return await self._call(self._notifications.SendTestNotification, request)
