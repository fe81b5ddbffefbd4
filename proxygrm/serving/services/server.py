"""Keeps one server running: health checks, restarts after a pause, an end to crash loops, no orphans.

The same code works inside a Ray actor (`group`) and in a plain process (`proxygrm.serving.replicas.serve`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from proxygrm.core.errors import UserError
from proxygrm.core.runtime.child_process import ChildProcess
from proxygrm.core.runtime.log_tail import last_words

State = Literal["starting", "healthy", "restarting", "failed", "stopped"]
HEALTH_EVERY_S = 1.0
HEALTH_TIMEOUT_S = 10.0
HANGS_AFTER_S = 120.0
"""A server that was healthy and has not answered for this long is restarted."""
RESET_AFTER_S = 1800.0
"""The count of restarts returns to 0 after this long without a failure."""
STOP_GRACE_S = 5.0
MAX_PAUSE_S = 30.0
LOG_ROOM_BYTES = 1 << 20
"""Free bytes on the log's disk: enough for the lines of one start. vLLM tolerates a log whose disk fills up while it
runs, but does not start with one."""


@dataclass(frozen=True)
class ReplicaStatus:
    """name: SERVICE-N. detail: the most telling line of the log, when it is not healthy."""

    name: str
    node: str
    url: str
    state: State
    restarts: int
    detail: str = ""

    @property
    def service(self) -> str:
        return self.name.rpartition("-")[0]


def may_restart(restarts: int, max_restarts: int, was_ever_healthy: bool) -> bool:
    """A server that never answered is tried only twice: a wrong setting does not fix itself."""
    return restarts < (max_restarts if was_ever_healthy else min(1, max_restarts))


def pause_s(restarts: int) -> float:
    """Before the n-th restart (n from 1)."""
    return min(MAX_PAUSE_S, 2.0 ** (restarts - 1))


class SupervisedServer(ABC):
    """One replica of a service, in a thread of its own. Subclasses say how it starts and what healthy means."""

    def __init__(self, name: str, node: str, log: Path, max_restarts: int) -> None:
        self.name, self.node, self.log, self.max_restarts = name, node, log, max_restarts
        self._state: State = "starting"
        self._restarts = 0
        self._detail = ""
        self._ever_healthy = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name=name, daemon=True)

    @property
    @abstractmethod
    def url(self) -> str:
        """Its base URL, which does not change once it has been healthy."""

    @abstractmethod
    def _command(self) -> tuple[list[str], Mapping[str, str]]:
        """For the next start: words and environment, all of it. UserError ends the replica, with that reason."""

    @abstractmethod
    def _is_healthy(self) -> bool:
        """Does it answer, and is it ours? May leave the reason in `_detail`."""

    def _while_supervised(self) -> AbstractContextManager[object]:
        """Around all of its starts, in the thread that supervises it."""
        return contextlib.nullcontext()

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def status(self) -> ReplicaStatus:
        state = self._state
        detail = self._detail or ("" if state == "healthy" else last_words(self.log))
        return ReplicaStatus(self.name, self.node, self.url, state, self._restarts, detail)

    def request_stop(self) -> None:
        """Without waiting, so that several servers can stop at the same time."""
        self._stopping.set()

    def stop(self) -> None:
        """Stop the server and everything it started; returns when it is gone."""
        self.request_stop()
        if self._thread.ident is not None:
            self._thread.join(STOP_GRACE_S + 10)

    def _supervise(self) -> None:
        try:
            with self._while_supervised():
                self._keep_running()
        except UserError as error:
            self._detail, self._state = str(error), "failed"
        except Exception as error:  # for example no memory for a process: the job must see it
            self._detail = f"its supervisor ended: {type(error).__name__}: {error}"
            self._state = "failed"
            raise

    def _keep_running(self) -> None:
        while True:
            healthy_s = self._run_once()
            if self._stopping.is_set():
                self._state = "stopped"
                return
            if healthy_s > RESET_AFTER_S:
                self._restarts = 0
            if not may_restart(self._restarts, self.max_restarts, self._ever_healthy):
                self._state = "failed"
                return
            self._restarts += 1
            self._state = "restarting"
            self._log(f"restart ({self._restarts} of {self.max_restarts}): {self._detail}")
            self._stopping.wait(pause_s(self._restarts))

    def _run_once(self) -> float:
        """Run the server until it ends; returns for how long it was healthy (s)."""
        command, environment = self._command()
        process = ChildProcess(
            command, self.log, environment=environment, grace_s=STOP_GRACE_S, log_room_bytes=LOG_ROOM_BYTES
        )
        first_healthy = last_healthy = 0.0
        try:
            while not self._stopping.wait(HEALTH_EVERY_S):
                if process.poll() is not None:
                    self._detail = process.how_it_ended()
                    break
                if self._is_healthy():
                    last_healthy = time.monotonic()
                    first_healthy = first_healthy or last_healthy
                    self._state, self._detail, self._ever_healthy = "healthy", "", True
                elif last_healthy and time.monotonic() - last_healthy > HANGS_AFTER_S:
                    self._detail = f"did not answer for {HANGS_AFTER_S:.0f} s"
                    break
        finally:
            process.stop()
        return last_healthy - first_healthy + HEALTH_EVERY_S if first_healthy else 0.0

    def _log(self, text: str) -> None:
        with contextlib.suppress(OSError), self.log.open("a", encoding="utf-8") as log:
            log.write(f"[{time.strftime('%H:%M:%S')}] supervisor: {text}\n")


def failure_of(statuses: Sequence[ReplicaStatus]) -> str | None:
    """Why the service cannot continue, or None."""
    failed = next((status for status in statuses if status.state == "failed"), None)
    if failed is None:
        return None
    how = f"{failed.service} replica {failed.name} on {failed.node} failed after {failed.restarts} restarts"
    return f"{how}: {failed.detail}"


def raise_if_failed(statuses: Sequence[ReplicaStatus]) -> None:
    if reason := failure_of(statuses):
        failed = next(status for status in statuses if status.state == "failed")
        raise UserError(
            reason,
            code="service.replica-failed",
            service=failed.service,
            replica=failed.name,
            node=failed.node,
            restarts=failed.restarts,
            detail=failed.detail,
        )


def wait_until_healthy(
    poll: Callable[[], Sequence[ReplicaStatus]],
    timeout_s: float,
    on_message: Callable[[str], None] = lambda line: None,
    check: Callable[[], None] = lambda: None,
) -> Sequence[ReplicaStatus]:
    """Wait for all replicas of a service; UserError names the one that is late or failed and quotes its log.

    check: called every second, and may raise, for example because the job has lost a node.
    """
    started = time.monotonic()
    healthy = -1
    while True:
        check()
        statuses = poll()
        raise_if_failed(statuses)
        pending = [status for status in statuses if status.state != "healthy"]
        if len(statuses) - len(pending) != healthy:
            healthy = len(statuses) - len(pending)
            seconds = time.monotonic() - started
            on_message(f"{_service(statuses)}: {healthy} of {len(statuses)} replicas healthy after {seconds:.0f} s")
        if not pending:
            return statuses
        if time.monotonic() - started > timeout_s:
            first = pending[0]
            raise UserError(
                f"{first.service}: {healthy} of {len(statuses)} replicas healthy after {timeout_s:.0f} s; "
                f"{first.name} on {first.node} is {first.state}: {first.detail}",
                code="service.replica-late",
                service=first.service,
                replica=first.name,
                node=first.node,
                state=first.state,
                detail=first.detail,
                healthy=healthy,
                replicas=len(statuses),
            )
        time.sleep(1.0)


def _service(statuses: Sequence[ReplicaStatus]) -> str:
    return statuses[0].service if statuses else "service"
