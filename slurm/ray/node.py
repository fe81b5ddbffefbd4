"""Ray on one node: one child process (`ray start --block`), with a short temp folder of its own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from proxygrm.core.runtime import held_folder
from proxygrm.core.runtime.child_process import ChildProcess
from proxygrm.core.runtime.job_secret import NODE_FOLDER, SECRET_FILE
from proxygrm.core.runtime.telemetry import NO_TELEMETRY
from proxygrm.core.runtime.vllm_plugins import plugins
from proxygrm.serving.services.gpus import NODE_GPUS
from slurm.ray import start_hook
from slurm.ray.plan import ClusterPlan, NodeRole

# Every port is chosen by the kernel in the moment it is opened: no other process can take it in between, and jobs on
# one node cannot collide. What this suite does not use is not opened at all: the autoscaler's monitor (it serves
# metrics to all users on port 44217), and what `start_hook` leaves out.
FREE_PORTS = [
    "--min-worker-port=0",
    "--max-worker-port=0",
    "--node-manager-port=0",
    "--object-manager-port=0",
    "--runtime-env-agent-port=0",
    "--dashboard-agent-listen-port=0",
    "--dashboard-agent-grpc-port=0",
    "--dashboard-port=0",
    "--metrics-export-port=0",
    "--no-monitor",
]
STOP_S = 15.0
PATIENCE_S = "300"
"""As long as a cluster may take to be complete."""


def child_environment(plan: ClusterPlan, rank: int, token: Path, interface: str, device: str) -> dict[str, str]:
    """Variables of Ray and of every worker it starts on the node of this rank."""
    role = plan.nodes[rank]
    # A site's HTTP proxy is for the outside (SwanLab's cloud); the job's own nodes are reached directly.
    own = ("127.0.0.1", *(node.address for node in plan.nodes))
    direct = ",".join(filter(None, [os.environ.get("no_proxy", ""), *own]))
    values = {
        "no_proxy": direct,
        "NO_PROXY": direct,
        # Ray turns authentication on by itself when ~/.ray/auth_token exists, and homes may differ between nodes.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        **NO_TELEMETRY,
        **plugins(),
        "RAY_DISABLE_IMPORT_WARNING": "1",
        # How long the driver looks for this node's raylet: a busy node takes more than Ray's minute to start it.
        "RAY_raylet_start_wait_time_s": PATIENCE_S,
        "RAY_gcs_server_request_timeout_seconds": PATIENCE_S,
        # Ray's metrics are not collected, and their port would answer without the token.
        "RAY_enable_metrics_collection": "0",
        # Ray Serve is not used: without this a node that ends waits half a minute to drain.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "VLLM_HOST_IP": role.address,
        "NCCL_SOCKET_IFNAME": interface,
        "GLOO_SOCKET_IFNAME": interface,
        "PYTHONUNBUFFERED": "1",
    }
    if device == "cpu":
        values["RAY_memory_monitor_refresh_ms"] = "0"
    if device == "cuda":
        # The job's GPUs on this node: the first ones are Ray's to hand out, the last ones are of services, which
        # find them by this variable because Ray changes CUDA_VISIBLE_DEVICES in every worker.
        count = role.trainer_gpus + sum(role.resources().values())
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
        values[NODE_GPUS] = gpus
        values["CUDA_VISIBLE_DEVICES"] = ",".join(gpus.split(",")[: role.trainer_gpus])
    return values


def private_folder() -> Path:
    """0700, on the node, for every socket and file of the job there. `RayNode.stop` removes it; where this task is
    killed, the next call does. In /tmp and not the run folder: Unix socket paths have at most 107 characters."""
    return held_folder.new("pgray", Path("/tmp"))  # noqa: S108 - a new folder in it


def secret_environment(secret: Path, private: Path) -> dict[str, str]:
    """Where the processes of this node find what belongs to the job alone, and where vLLM puts its Unix sockets."""
    return {SECRET_FILE: str(secret), NODE_FOLDER: str(private), "VLLM_RPC_BASE_PATH": str(private)}


class RayNode:
    """Starts, watches and ends the Ray processes of this node. private: a `private_folder`."""

    def __init__(
        self,
        role: NodeRole,
        environment: dict[str, str],
        private: Path,
        cpus: int,
        object_store_mb: int,
        log: Path,
    ) -> None:
        self.role, self.log, self.cpus, self.object_store_mb = role, log, cpus, object_store_mb
        self.private = private
        self.temp = private / "r"  # Ray makes its folder readable for all users, hence one level below
        self.environment = {**os.environ, **environment}
        self.process: ChildProcess | None = None

    def start_head(self) -> None:
        self._start(["--head", "--port=0", "--include-dashboard=false"])

    def head_address(self) -> str | None:
        """Where the head listens; None before it does. It writes its port into a folder only this user may enter."""
        for file in self.temp.glob("session_2*/gcs_server_port_*"):
            if port := file.read_text().strip():
                return f"{self.role.address}:{port}"
        return None

    def start_worker(self, head: str) -> None:
        self._start([f"--address={head}"])

    def _start(self, arguments: list[str]) -> None:
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *arguments),
            f"--node-ip-address={self.role.address}",
            f"--num-gpus={self.role.trainer_gpus}",
            f"--num-cpus={self.cpus}",
            f"--resources={json.dumps(self.role.resources())}",
            f"--object-store-memory={self.object_store_mb << 20}",
            f"--temp-dir={self.temp}",
            "--disable-usage-stats",
            *FREE_PORTS,
        ]
        environment = {**self.environment, "RAY_START_HOOK": start_hook.NAME}
        self.process = ChildProcess(command, self.log, environment=environment, grace_s=STOP_S)

    def death(self) -> str | None:
        """What happened to Ray on this node, or None while it lives."""
        if self.process is None or self.process.poll() is None:
            return None
        return f"Ray {self.process.how_it_ended()}"

    def stop(self, keep_logs: bool) -> None:
        """End Ray here. `--block` makes Ray take its own processes with it; what remains is killed."""
        if self.process is not None:
            self.process.stop()
        if keep_logs:
            self._copy_logs()
        held_folder.remove(self.private)

    def _copy_logs(self) -> None:
        """Ray's own logs out of the node's temp folder, so that a failure can be read from the login node."""
        target = self.log.with_suffix("")
        for source in sorted(self.temp.glob("session_2*/logs/*")):
            if source.is_file() and source.stat().st_size:
                target.mkdir(exist_ok=True)
                with source.open("rb") as file:
                    file.seek(max(0, source.stat().st_size - (1 << 20)))
                    (target / source.name).write_bytes(file.read())
