"""The program between a process and its child: it ends the child, and everything the child started, with the process.

`child_process.ChildProcess` starts it; it uses the standard library only and takes about 10 MB. The kernel tells it
when its starter dies, however that happens, and makes it the parent of every orphan of the command. On the starter's
death and on SIGTERM it sends SIGTERM to the command's process group and after a grace period kills whatever is left.
It exits with the command's exit code, 128 + N after signal N. Where it is killed itself, the command is killed too.

A program of its own, because the alternative, `preexec_fn`, runs Python between fork and exec, which can deadlock in
a process with threads. This one has none.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL_S = 0.1
KILL_S = 5.0
"""How long killed processes are waited for."""


def guarded(command: list[str], grace_s: float) -> list[str]:
    """The command line that runs `command` under a guard of the calling process.

    The kernel watches the *thread* that starts it, so start it from one that lives as long as the child should.
    """
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(os.getpid()), str(grace_s), *command]


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
    result, pending = [], [root]
    while pending:
        below = children.get(pending.pop(), [])
        result += below
        pending += below
    return result


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


def _kill_all() -> None:
    deadline = time.monotonic() + KILL_S
    while (remaining := _descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in remaining:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
        _reap()


def main(starter: int, grace_s: float, command: list[str]) -> int:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    stop_requests: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: stop_requests.append(number))
    # Batch systems announce the time limit to every process of a step. Our starter saves and requeues; the command,
    # which inherits this, would only die of it.
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # `ChildProcess` blocks them until here
    if os.getppid() != starter:  # it died before the kernel watched it
        return 1
    child = subprocess.Popen(
        command,
        start_new_session=True,
        preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
    )
    stopping_since: float | None = None
    while True:
        code = _reap().get(child.pid)
        if code is not None:
            _kill_all()
            return 128 - code if code < 0 else code
        if stop_requests and stopping_since is None:
            stopping_since = time.monotonic()
            with contextlib.suppress(ProcessLookupError):  # ended just now
                os.killpg(child.pid, signal.SIGTERM)
        if stopping_since is not None and time.monotonic() - stopping_since > grace_s:
            _kill_all()
            return 128 + signal.SIGKILL
        time.sleep(POLL_S)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
