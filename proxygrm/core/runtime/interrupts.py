"""Ctrl-C, a closed terminal and SIGTERM: a command stops once, and never between two steps that belong together."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stopped_once() -> Iterator[list[int]]:
    """The first of these signals raises KeyboardInterrupt in the block; more of them do not disturb what it then does
    to end well, nor the commands it runs for that. Yields the signal that came, if any.

    What the command was started to ignore (nohup, a job in the background) stays ignored.
    """
    came: list[int] = []

    def stop(signum: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, lambda signum, frame: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, before)  # programs that are started inherit it
        came.append(signum)
        raise KeyboardInterrupt

    before = _handled()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        for each in before:
            signal.signal(each, stop)
        yield came
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """These signals wait until the block has ended, also for the commands that it runs."""
    came: list[int] = []
    before = _handled()
    for each in before:
        signal.signal(each, lambda signum, frame: came.append(signum))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, before)  # programs that are started inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for each, handler in before.items():
            signal.signal(each, handler)
        if came:
            signal.raise_signal(came[0])


def _handled() -> dict[signal.Signals, signal._HANDLER]:
    """What happens at each signal that is not ignored; Python lets the main thread alone say so."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {each: handler for each in STOPS if (handler := signal.getsignal(each)) is not signal.SIG_IGN}
