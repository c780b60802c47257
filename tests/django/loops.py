"""Event loops whose threads leave no connection of Django's behind: a server drops no database that is in use."""

import asyncio

from asgiref.sync import sync_to_async
from django.db import connections


def run(coroutine):
    async def finish():
        try:
            return await coroutine
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(finish())
