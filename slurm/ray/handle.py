"""What the driver of a Ray job gets: the cluster, and child processes that end when any part of it dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from proxygrm.core.errors import UserError
from proxygrm.core.runtime import save_now
from proxygrm.core.runtime.child_process import ChildProcess
from slurm.ray.plan import ClusterPlan

WATCH_S = 1.0
STOP_TRAINER_S = 10.0


class ClusterLost(UserError):
    """A part that the job cannot do without has died; the message names the node."""

    code = "ray.lost"


@dataclass
class RayHandle:
    """address: of Ray's head. environment: of every process that joins the cluster."""

    plan: ClusterPlan
    address: str
    folder: Path
    environment: dict[str, str]
    reason: str = ""
    _over: threading.Event = field(default_factory=threading.Event)
    _reporting: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, check: Callable[[], str | None]) -> None:
        """Call `check` every second: the reason it returns ends the job, wherever the driver is (None: all is well).

        Each has a thread of its own. One that asks Ray's head hangs when the head has died, and must not keep the
        others from reporting: Ray ends a process that has waited for its head for a minute, without our message.
        """

        def poll() -> None:
            while not self._over.wait(WATCH_S):
                if reason := check():
                    with self._reporting:
                        if not self._over.is_set():
                            self._over.set()
                            self.reason = reason
                            os.kill(os.getpid(), signal.SIGUSR1)
                    return

        threading.Thread(target=poll, daemon=True).start()

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """The block ends with ClusterLost at the first death of anything that is watched."""

        def interrupt(signum: int, frame: FrameType | None) -> None:
            raise ClusterLost(self.reason)

        before = signal.signal(signal.SIGUSR1, interrupt)
        try:
            yield
        finally:
            with self._reporting:
                self._over.set()
            signal.signal(signal.SIGUSR1, before)

    def run(
        self, command: list[str], environment: dict[str, str], log: Path, watch: Callable[[], None], out: Path
    ) -> None:
        """Run a training to its end, output into `log`; `watch` is called every second and may raise. It runs in `out`,
        where it also answers a request to save now.

        Raises UserError with the line of the log that says most when the process fails.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        complete = {**os.environ, **self.environment, **environment}
        # `out`, because its workers import from the driver's folder first (see `cluster._drive`).
        child = ChildProcess(command, log, environment=complete, folder=out, grace_s=STOP_TRAINER_S)
        with child as process, save_now.listening(out, process):
            while process.poll() is None:
                watch()
                time.sleep(WATCH_S)
        process.raise_if_failed(" ".join(command[1:3]))
