"""Ctrl-C and its like: once, and never between two steps that belong together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from proxygrm.core.runtime.interrupts import STOPS, stopped_once, uninterrupted

ASK = [
    sys.executable,
    "-c",
    "import signal; stop = signal.SIGINT\n"
    "print(signal.getsignal(stop) == signal.SIG_IGN, stop in signal.pthread_sigmask(signal.SIG_BLOCK, []))",
]
"""Does a program that is started now ignore Ctrl-C, or is it kept from it?"""


def asked() -> str:
    return subprocess.run(ASK, capture_output=True, text=True, check=True).stdout.strip()


def handlers() -> list[object]:
    return [signal.getsignal(each) for each in STOPS]


@pytest.mark.parametrize("which", STOPS)
def test_the_first_signal_stops_the_block_and_more_of_them_do_not_disturb_its_end(which: signal.Signals) -> None:
    before: list[object] = handlers()
    ended: list[object] = []

    def stopped() -> None:
        with stopped_once() as received:
            try:
                os.kill(os.getpid(), which)
            finally:
                for each in STOPS:
                    os.kill(os.getpid(), each)
                ended.extend([*received, asked()])

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert (ended, handlers()) == ([which, "False True"], before)


def test_what_a_command_was_started_to_ignore_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopped_once() as received:
            os.kill(os.getpid(), signal.SIGHUP)
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_waits_until_what_belongs_together_is_done_and_programs_do_not_get_it() -> None:
    before: list[object] = handlers()
    done: list[str] = []

    def work() -> None:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            done.append(asked())

    with pytest.raises(KeyboardInterrupt):
        work()
    assert (done, handlers()) == (["False True"], before)


def test_in_a_thread_that_gets_no_signals_nothing_is_changed() -> None:
    found: list[object] = []

    def work() -> None:
        with uninterrupted(), stopped_once():
            found.extend(handlers())

    before = handlers()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == before
