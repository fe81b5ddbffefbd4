"""The one way a job starts a long-running child process, watches it and ends it.

    with ChildProcess(command, out / "trainer.log") as trainer:
        while trainer.poll() is None:
            ...
    trainer.raise_if_failed("the trainer")

Its output is appended to a log. It leads a process group of its own, and all of it ends with this process, even when
this one is killed (`child_guard`). An error quotes the line of its log that says most.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

from proxygrm.core.errors import UserError
from proxygrm.core.runtime.child_guard import KILL_S, guarded
from proxygrm.core.runtime.log_tail import last_words

ANNOUNCEMENTS = (signal.SIGUSR1, signal.SIGUSR2)
"""What SLURM sends to every process of a step before the time limit or a preemption."""
_GUARD_EXITS_S = 5.0


class ChildProcess:
    """A started child. The kernel watches the thread that starts it: use one that lives as long as the child should."""

    def __init__(
        self,
        command: list[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        grace_s: float = 5.0,
        log_room_bytes: int = 0,
    ) -> None:
        """environment: all of it; None is this process's own. folder: where it runs. grace_s: between SIGTERM and
        SIGKILL. log_room_bytes: where above 0, the output is dropped when the log cannot be opened or its disk has less
        space; else OSError is raised.
        """
        self.log, self.grace_s = log, grace_s
        with _output(log, log_room_bytes) as output:
            self._log_start = log.stat().st_size if log.exists() else 0
            # An announcement that arrives before the guard ignores it would end the guard.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, ANNOUNCEMENTS)
            try:
                self._process = subprocess.Popen(
                    guarded(command, grace_s),
                    env=None if environment is None else {**environment},
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def poll(self) -> int | None:
        """The exit code, 128 + N after signal N; None while it runs."""
        code = self._process.poll()
        return 128 - code if code is not None and code < 0 else code

    def wait(self, timeout_s: float | None = None) -> int | None:
        """`poll` after at most timeout_s; None there means without limit."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self.poll()

    def stop(self) -> None:
        """SIGTERM to its process group, SIGKILL to what is left after the grace. Returns when all of it is gone."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(self.grace_s + KILL_S + _GUARD_EXITS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the command dies with its guard
            self._process.wait()

    def last_words(self, length: int = 300) -> str:
        """The line of its own part of the log that says most."""
        return last_words(self.log, length, since=self._log_start)

    def how_it_ended(self) -> str:
        """In words. A killed process had no time to write why, so its log is named and not quoted."""
        code = self.poll()
        if code is None:
            return "is still running"
        if code == 128 + signal.SIGKILL:
            return f"was killed by SIGKILL (often because the node ran out of memory); log: {self.log}"
        with contextlib.suppress(ValueError):  # not a signal
            return f"was killed by {signal.Signals(code - 128).name}; log: {self.log}"
        return f"ended with exit code {code}: {self.last_words()} (log: {self.log})"

    def raise_if_failed(self, name: str) -> None:
        """UserError when it has ended with another exit code than 0. name: what users call it."""
        if code := self.poll():
            raise UserError(f"{name} {self.how_it_ended()}", code="child.failed", exit_code=code, log=self.log)


@contextlib.contextmanager
def _output(log: Path, room_bytes: int) -> Iterator[IO[bytes] | int]:
    """The log, opened to append, or subprocess.DEVNULL."""
    stack = contextlib.ExitStack()
    output: IO[bytes] | int
    try:
        output = stack.enter_context(log.open("ab"))
        disk = os.statvfs(log.parent)
        if room_bytes and disk.f_bavail * disk.f_frsize < room_bytes:
            output = subprocess.DEVNULL
    except OSError:
        if not room_bytes:
            raise
        output = subprocess.DEVNULL
    with stack:
        yield output
