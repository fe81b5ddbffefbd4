"""Run coroutines together, and end with an error that users can read.

`asyncio.TaskGroup` wraps what its tasks raise in an ExceptionGroup. Unwrapping it with `except*` is a trap: before
Python 3.11.4 (Debian 12 has 3.11.2) an exception raised inside an `except*` block is wrapped once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from proxygrm.core.errors import UserError


async def run_together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all of them. The first that fails cancels the others.

    An error is raised as it was, the first UserError before others; an ExceptionGroup only where several coroutines
    failed together, one of them with an error that users cannot fix.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in work:
                group.create_task(coroutine)
    except ExceptionGroup as failed:
        _, bugs = failed.split(UserError)
        if bugs is not None and len(failed.exceptions) > 1:
            raise
        raise failed.exceptions[0] from None
