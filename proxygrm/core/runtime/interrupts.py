"""Ctrl-C, a closed terminal and SIGTERM: a command stops once, and not between two steps that belong together."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stopped_once() -> Iterator[list[int]]:
    """The first of these signals raises KeyboardInterrupt in the block; further ones do not disturb its cleanup, nor
    the commands it runs for that. Yields a list that gets the signal, if one arrives.

    Signals that the command was started to ignore (nohup, a job in the background) stay ignored.
    """
    received: list[int] = []

    def stop(signum: int, frame: FrameType | None) -> None:
        for number in before:
            signal.signal(number, lambda signum, frame: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, before)  # programs that are started inherit it
        received.append(signum)
        raise KeyboardInterrupt

    before = _handled()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        for number in before:
            signal.signal(number, stop)
        yield received
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """These signals wait until the block has ended, also for the commands that it runs."""
    received: list[int] = []
    before = _handled()
    for number in before:
        signal.signal(number, lambda signum, frame: received.append(signum))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, before)  # programs that are started inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def _handled() -> dict[signal.Signals, signal._HANDLER]:
    """The handlers of the signals that are not ignored; only the main thread may set any."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: handler for number in STOPS if (handler := signal.getsignal(number)) is not signal.SIG_IGN}
