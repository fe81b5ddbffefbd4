"""`run_in_cluster`: what every task of an RL job calls. Rank 0 drives, the others lend their node."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.runtime import save_now
from proxygrm.core.runtime.log_tail import last_words
from slurm.ray.addresses import interface_of, node_address, node_name
from slurm.ray.meeting import Meeting
from slurm.ray.node import RayNode, child_environment, end_group, private_folder, secret_environment, tie_to_job
from slurm.ray.plan import ClusterPlan, plan_cluster

WATCH_S = 1.0
LEAVE_S = 30.0
"""How long a node waits, after its Ray ended, for word that the job itself has ended (shared file systems lag)."""


@dataclass(frozen=True)
class ClusterOptions:
    """gpus_per_node: what the job has on each node. cpus: logical CPUs Ray hands out on each node."""

    gpus_per_node: int
    proxy_nodes: int
    shared_proxy_gpus: int
    cpus: int
    device: str
    interface: str = ""
    object_store_mb: int = 200
    ready_timeout_s: float = 300.0


class Lost(UserError):
    """Something the job cannot do without has died; the message names the node."""


@dataclass
class RayHandle:
    """What the driver gets: the plan, Ray's address, and a way to run processes that end when anything dies."""

    plan: ClusterPlan
    address: str
    folder: Path
    environment: dict[str, str]
    found: str = ""
    _over: threading.Event = field(default_factory=threading.Event)
    _telling: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, reason: Callable[[], str | None]) -> None:
        """Have `reason` asked every second: what it returns ends the job, wherever the driver is (None: all is well).

        Each has a thread of its own. One that asks Ray's head hangs when the head has died, and must not keep the
        others from saying so: Ray ends a process that waits for its head for a minute, without a word of ours.
        """

        def look() -> None:
            while not self._over.wait(WATCH_S):
                if found := reason():
                    with self._telling:
                        if not self._over.is_set():
                            self._over.set()
                            self.found = found
                            os.kill(os.getpid(), signal.SIGUSR1)
                    return

        threading.Thread(target=look, daemon=True).start()

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """The block ends with Lost at the first death of anything that is watched."""

        def interrupt(signum: int, frame: FrameType | None) -> None:
            raise Lost(self.found)

        before = signal.signal(signal.SIGUSR1, interrupt)
        try:
            yield
        finally:
            with self._telling:
                self._over.set()
            signal.signal(signal.SIGUSR1, before)

    def run(
        self, command: list[str], environment: dict[str, str], log: Path, watch: Callable[[], None], out: Path
    ) -> None:
        """Run a training to its end, output into `log`; `watch` is called every second and may raise. It answers in
        `out` when it is asked to save now.

        Raises UserError with the log's last telling line when the process fails.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            process = subprocess.Popen(
                command,
                env={**os.environ, **self.environment, **environment},
                cwd=out,  # as below, of the driver that the training is
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=tie_to_job,
            )
        try:
            with save_now.listening(out, process):
                while process.poll() is None:
                    watch()
                    time.sleep(WATCH_S)
        finally:
            end_group(process, 10.0)
        if process.returncode:
            code = process.returncode
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise UserError(f"{' '.join(command[1:3])} {how}: {last_words(log)} (log: {log})")


def run_in_cluster(
    rank: int, size: int, folder: Path, options: ClusterOptions, driver: Callable[[RayHandle], None]
) -> None:
    """Bring Ray up over the job's nodes, let rank 0 drive, take everything down again.

    folder: on the shared file system; gets the meeting point and one Ray log a node. Raises on every rank when
    anything failed, so that each task ends with a non-zero code.
    """
    # SLURM's GPU plugin sets AMD's variables beside NVIDIA's; verl refuses to start when it finds both.
    for variable in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        if "CUDA_VISIBLE_DEVICES" in os.environ:
            os.environ.pop(variable, None)
    deadline = time.monotonic() + options.ready_timeout_s
    meeting = Meeting(folder, rank, size)
    if rank == 0:
        meeting.create_secrets()
    name, address = node_name(), node_address(options.interface)
    records = meeting.nodes(name, address, deadline)
    plan = plan_cluster(records, options.gpus_per_node, options.proxy_nodes, options.shared_proxy_gpus)
    role = plan.nodes[rank]
    interface, private = options.interface or interface_of(address), private_folder()
    environment = child_environment(plan, rank, meeting.token, interface, options.device)
    environment |= secret_environment(meeting.secret, private)
    log = meeting.folder / f"ray-{name}.log"
    node = RayNode(role, environment, private, options.cpus, options.object_store_mb, log)
    failed = True
    try:
        if rank == 0:
            node.start_head()
            head = _head_address(node, deadline)
            meeting.say("plan.json", {**asdict(plan), "head": head, "other_ports": "free ones, by the kernel"})
            meeting.say("head.json", head)
            _drive(meeting, node, RayHandle(plan, head, meeting.folder, environment), deadline, driver)
        else:
            head = meeting.wait(lambda: meeting.heard("head.json"), deadline, lambda: "Ray's head has no address yet")
            node.start_worker(head)
            _lend(meeting, node)
        failed = False
    except BaseException as error:
        meeting.fail(name, _in_words(error))
        raise
    finally:
        if rank == 0:
            _dismiss(meeting, "failed" if failed else "ok")
        node.stop(keep_logs=failed)
        if rank == 0:
            meeting.forget_secrets()
        meeting.say(f"left-{rank}", "")
        if rank and failed:
            # srun kills every task as soon as one ends with an error; rank 0 should get to say why first.
            _wait_for(meeting, "left-0")
            time.sleep(2 * WATCH_S)


def _in_words(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "told to end"
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def _drive(
    meeting: Meeting, node: RayNode, handle: RayHandle, deadline: float, driver: Callable[[RayHandle], None]
) -> None:
    os.environ.update(handle.environment)
    import ray

    try:
        with handle.interrupted():
            handle.watch(lambda: _said(meeting, node))
            on_sigterm = signal.getsignal(signal.SIGTERM)
            own = handle.plan.nodes[0].address
            # Its workers import from the folder the driver is in before any other. The one the job was sent from may
            # hold a checkout, which is not the code of this job.
            with contextlib.chdir(handle.folder):
                ray.init(address=handle.address, _node_ip_address=own, log_to_driver=False, logging_level="ERROR")
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own would abort before anything is taken down
            wait_until_complete(handle.plan, ray.nodes, meeting, node, deadline)
            handle.watch(lambda: _lost_by_ray(handle.plan, ray.nodes))
            driver(handle)
    except Lost:
        raise  # without a farewell, for which a dead head would be waited for
    except BaseException:
        ray.shutdown()
        raise
    ray.shutdown()


def _head_address(node: RayNode, deadline: float) -> str:
    """Of the head that was just started, by its own word: nothing else that listens here can be taken for it."""
    while (address := node.head_address()) is None:
        if death := node.death():
            raise Lost(f"node {node.role.name}: {death}")
        if time.monotonic() > deadline:
            raise Lost(f"node {node.role.name}: Ray's head never opened a port; see {node.log}")
        time.sleep(0.1)
    return address


def wait_until_complete(
    plan: ClusterPlan, nodes: Callable[[], list[dict[str, Any]]], meeting: Meeting, node: RayNode, deadline: float
) -> None:
    """Ready means every node and every GPU counted; a deadline that passes shows the sum and who is missing."""
    while True:
        alive = {row["NodeManagerAddress"]: row["Resources"] for row in nodes() if row["Alive"]}
        missing = [role for role in plan.nodes if role.address not in alive]
        gpus = sum(resources.get("GPU", 0) for resources in alive.values())
        proxy = sum(resources.get("proxy_gpu", 0) for resources in alive.values())
        want_gpus = sum(role.trainer_gpus for role in plan.nodes)
        want_proxy = sum(role.proxy_gpus for role in plan.nodes)
        if not missing and gpus == want_gpus and proxy == want_proxy:
            return
        if failure := meeting.failure() or node.death():
            raise Lost(failure)
        if time.monotonic() > deadline:
            names = ", ".join(f"{role.name} ({role.address})" for role in missing) or "none"
            raise Lost(
                f"Ray is not complete: {len(alive)} of {len(plan.nodes)} nodes (missing: {names}), "
                f"{gpus:.0f} of {want_gpus} trainer GPUs, {proxy:.0f} of {want_proxy} proxy GPUs"
            )
        time.sleep(0.5)


def _said(meeting: Meeting, node: RayNode) -> str | None:
    """What this node sees of its own Ray, or another one has reported."""
    if death := node.death():
        return f"node {node.role.name}: {death}"
    return meeting.failure()


def _lost_by_ray(plan: ClusterPlan, nodes: Callable[[], list[dict[str, Any]]]) -> str | None:
    dead = {row["NodeManagerAddress"] for row in nodes() if not row["Alive"]}
    lost = [role for role in plan.nodes if role.address in dead]
    return f"node {lost[0].name}: Ray lost it" if lost else None


def _lend(meeting: Meeting, node: RayNode) -> None:
    """A node that does not drive: watch its own Ray until rank 0 says that the job has ended."""
    grace: float | None = None
    while True:
        end = meeting.end()
        if end == "ok":
            return
        if end == "failed":
            raise Lost(meeting.failure() or "the driving node reported a failure")
        if death := node.death():
            grace = grace or time.monotonic() + LEAVE_S
            others = meeting.failure()
            if others or _died_alone(meeting) or time.monotonic() > grace:
                meeting.fail(node.role.name, death)
                _wait_for(meeting, "end")  # rank 0 takes things down first
                raise Lost(others or f"node {node.role.name}: {death}")
        time.sleep(WATCH_S)


def _wait_for(meeting: Meeting, word: str) -> None:
    deadline = time.monotonic() + LEAVE_S
    while meeting.heard(word) is None and time.monotonic() < deadline:
        time.sleep(0.2)


def _died_alone(meeting: Meeting) -> bool:
    """True when Ray's head still answers: then this node's Ray did not end because the job did."""
    import socket

    host, _, port = (meeting.heard("head.json") or ":0").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def _dismiss(meeting: Meeting, how: str) -> None:
    """Tell the other nodes before Ray's head goes, and give them time to leave by themselves."""
    meeting.say("end", how)
    deadline = time.monotonic() + LEAVE_S
    while time.monotonic() < deadline:
        if all(meeting.heard(f"left-{rank}") is not None for rank in range(1, meeting.size)):
            return
        time.sleep(0.2)
