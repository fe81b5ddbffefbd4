"""Keeps one `vllm serve` running: health checks, restarts after a pause, an end to crash loops, no orphans.

The same code works inside a Ray actor (`replica`) and in a plain process (`serve`).
"""

from __future__ import annotations

import contextlib
import http.client
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from proxygrm.core.errors import UserError
from proxygrm.core.runtime.child_process import ChildProcess
from proxygrm.core.runtime.job_secret import vllm_sockets
from proxygrm.core.runtime.log_tail import last_words
from proxygrm.serving.access.held_port import hold
from proxygrm.serving.access.proof import proves_key
from proxygrm.serving.replicas.command import ReplicaSpec, serve_command, serve_environment

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
    """detail: the most telling line of the log, when it is not healthy."""

    name: str
    node: str
    url: str
    state: State
    restarts: int
    detail: str = ""


def may_restart(restarts: int, max_restarts: int, was_ever_healthy: bool) -> bool:
    """A server that never answered is tried only twice: a wrong setting does not fix itself."""
    return restarts < (max_restarts if was_ever_healthy else min(1, max_restarts))


def pause_s(restarts: int) -> float:
    """Before the n-th restart (n from 1)."""
    return min(MAX_PAUSE_S, 2.0 ** (restarts - 1))


class ReplicaServer:
    """One supervised server. Its port is chosen once and kept over restarts, so its URL stays valid."""

    def __init__(
        self,
        spec: ReplicaSpec,
        api_key: str,
        command: Callable[[ReplicaSpec, int], list[str]] = serve_command,
        port: int = 0,
    ) -> None:
        """port: 0 takes a free one. UserError when the port or the address is not available."""
        self.spec = spec
        self._key, self._command = api_key, command
        try:
            self._port_holder = hold(spec.address, port)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(
                f"{spec.name} cannot listen on {spec.address} port {port}: {reason}; --port 0 takes a free one",
                code="proxy.port-unavailable",
                address=spec.address,
                port=port,
                reason=reason,
            ) from error
        self.port: int = self._port_holder.getsockname()[1]
        self._state: State = "starting"
        self._restarts = 0
        self._detail = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name=spec.name, daemon=True)

    @property
    def url(self) -> str:
        return f"http://{self.spec.address}:{self.port}"

    def start(self) -> None:
        self.spec.log_dir.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def status(self) -> ReplicaStatus:
        state = self._state
        detail = self._detail or ("" if state == "healthy" else last_words(self.spec.log))
        return ReplicaStatus(self.spec.name, self.spec.node, self.url, state, self._restarts, detail)

    def request_stop(self) -> None:
        """Without waiting, so that several servers can stop at the same time."""
        self._stopping.set()

    def stop(self) -> None:
        """Stop the server and everything it started; returns when it is gone."""
        self.request_stop()
        if self._thread.ident is not None:
            self._thread.join(STOP_GRACE_S + 10)
        self._port_holder.close()

    def _supervise(self) -> None:
        try:
            with vllm_sockets() as self._sockets:
                self._keep_running()
        except Exception as error:  # for example no memory for a process: the job must see it
            self._detail = f"its supervisor ended: {type(error).__name__}: {error}"
            self._state = "failed"
            raise

    def _keep_running(self) -> None:
        ever_healthy = False
        while True:
            healthy_s = self._run_once()
            ever_healthy |= healthy_s > 0
            if self._stopping.is_set():
                self._state = "stopped"
                return
            if healthy_s > RESET_AFTER_S:
                self._restarts = 0
            if not may_restart(self._restarts, self.spec.settings.max_restarts, ever_healthy):
                self._state = "failed"
                return
            self._restarts += 1
            self._state = "restarting"
            self._log(f"restart ({self._restarts} of {self.spec.settings.max_restarts}): {self._detail}")
            self._stopping.wait(pause_s(self._restarts))

    def _run_once(self) -> float:
        """Run the server until it ends; returns for how long it was healthy (s)."""
        command = self._command(self.spec, self.port)
        environment = serve_environment(self.spec, self._key, os.environ) | self._sockets
        process = ChildProcess(
            command, self.spec.log, environment=environment, grace_s=STOP_GRACE_S, log_room_bytes=LOG_ROOM_BYTES
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
                    self._state, self._detail = "healthy", ""
                elif last_healthy and time.monotonic() - last_healthy > HANGS_AFTER_S:
                    self._detail = f"did not answer for {HANGS_AFTER_S:.0f} s"
                    break
        finally:
            process.stop()
        return last_healthy - first_healthy + HEALTH_EVERY_S if first_healthy else 0.0

    def _is_healthy(self) -> bool:
        """Is the server healthy, and is it ours that answers?"""
        connection = http.client.HTTPConnection(self.spec.address, self.port, timeout=HEALTH_TIMEOUT_S)
        try:
            if not proves_key(connection, self._key):
                self._detail = f"something answers at {self.url} that does not hold the key, so it is not our server"
                return False
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _log(self, text: str) -> None:
        with contextlib.suppress(OSError), self.spec.log.open("a", encoding="utf-8") as log:
            log.write(f"[{time.strftime('%H:%M:%S')}] supervisor: {text}\n")


def failure_of(statuses: Sequence[ReplicaStatus]) -> str | None:
    """Why the group cannot continue, or None."""
    failed = next((status for status in statuses if status.state == "failed"), None)
    if failed is None:
        return None
    return f"proxy replica {failed.name} on {failed.node} failed after {failed.restarts} restarts: {failed.detail}"


def raise_if_failed(statuses: Sequence[ReplicaStatus]) -> None:
    if reason := failure_of(statuses):
        failed = next(status for status in statuses if status.state == "failed")
        raise UserError(
            reason,
            code="proxy.replica-failed",
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
    """Wait for all replicas; UserError names the one that is late or failed and quotes its log.

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
            on_message(f"proxy: {healthy} of {len(statuses)} replicas healthy after {time.monotonic() - started:.0f} s")
        if not pending:
            return statuses
        if time.monotonic() - started > timeout_s:
            first = pending[0]
            raise UserError(
                f"proxy: {healthy} of {len(statuses)} replicas healthy after {timeout_s:.0f} s; "
                f"{first.name} on {first.node} is {first.state}: {first.detail}",
                code="proxy.replica-late",
                replica=first.name,
                node=first.node,
                state=first.state,
                detail=first.detail,
                healthy=healthy,
                replicas=len(statuses),
            )
        time.sleep(1.0)
