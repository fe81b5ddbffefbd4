"""Runs a command that must not outlive the process that started it, nor leave children behind.

    Popen(leashed(command, grace_s=3))

Between the two stands a small process (this file, standard library only, about 10 MB) that is told by the kernel
when its starter dies, however it dies, and to which every orphan of the command falls. It then, or on SIGTERM, asks
the command to end, and after the grace kills whatever is left. It exits with the command's own code.
SIGTERM it: SIGKILL would take the leash off.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_TICK_S = 0.1


def leashed(command: list[str], grace_s: float = 5.0) -> list[str]:
    """The command line that runs `command` on a leash of the calling process.

    The kernel watches the *thread* that starts it, so start it from one that lives as long as it should.
    """
    return [sys.executable, "-S", "-E", str(Path(__file__).resolve()), str(os.getpid()), str(grace_s), *command]


def _descendants(root: int) -> list[int]:
    """Living processes below `root`, by the parent links of /proc."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            text = Path(entry.path, "stat").read_text(errors="replace")
        except OSError:
            continue  # it has just ended
        state, parent = text[text.rindex(")") + 2 :].split()[:2]
        if state not in "ZX":
            children.setdefault(int(parent), []).append(int(entry.name))
    found, open_ = [], [root]
    while open_:
        below = children.get(open_.pop(), [])
        found += below
        open_ += below
    return found


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _reap() -> dict[int, int]:
    """Exit statuses of children that have ended, orphans included."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def _kill_all(seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while (left := _descendants(os.getpid())) and time.monotonic() < end:
        _signal(left, signal.SIGKILL)
        time.sleep(0.02)
        _reap()


def main(starter: int, grace_s: float, command: list[str]) -> int:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    told = [False]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: told.__setitem__(0, True))
    # Batch systems announce the time limit to every process of a step. Our starter saves and requeues; the command,
    # which inherits this, would only die of it.
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    if os.getppid() != starter:  # it died before the kernel knew
        return 1
    child = subprocess.Popen(command, start_new_session=True)
    asked_at: float | None = None
    while True:
        code = _reap().get(child.pid)
        if code is not None:
            _kill_all()
            return 128 - code if code < 0 else code
        if told[0] and asked_at is None:
            asked_at = time.monotonic()
            _signal([child.pid], signal.SIGTERM)
        if asked_at is not None and time.monotonic() - asked_at > grace_s:
            _kill_all()
            return 128 + signal.SIGKILL
        time.sleep(_TICK_S)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
