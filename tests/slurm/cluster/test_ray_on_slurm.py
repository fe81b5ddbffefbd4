"""Ray over the nodes of one job, on the real local scheduler."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import multiprocessing.synchronize
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest
from conftest import send, until_ended

from jobs.engine import state
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Artifact, Stage, StageRun
from slurm.profile import Health, Profile, Scheduler
from slurm.ray.cluster import ClusterOptions, run_in_cluster
from slurm.ray.handle import RayHandle
from slurm.ray.plan import Share
from slurm.sbatch import Resources

pytestmark = [pytest.mark.cluster, pytest.mark.heavy, pytest.mark.usefixtures("on_the_local_cluster")]
cloudpickle.register_pickle_by_value(sys.modules[__name__])

NO_PREFLIGHT = Health(preflight=False)  # of GPUs that are names only
PROFILE = Profile("test", scheduler=Scheduler(partition="gpu"), health=NO_PREFLIGHT)
TWO_NODES = Resources(nodes=2, gpus_per_node=1, cpus_per_task=2, mem_gb=4, timeout_min=10)
OPTIONS = ClusterOptions(gpus_per_node=1, cpus=2, device="cpu", shares=(Share("proxy", nodes=1),))


def look_around(run: StageRun) -> None:
    """Where Ray puts a task that asks for a trainer's GPU and one that asks for the proxy's."""

    def driver(handle: RayHandle) -> None:
        import ray

        @ray.remote(num_cpus=0)
        def where() -> str:
            return os.environ["SLURMD_NODENAME"]

        seen = {
            "cluster": {key: value for key, value in ray.cluster_resources().items() if "GPU" in key or "gpu" in key},
            "trainer": ray.get(where.options(num_gpus=1).remote()),
            "proxy": ray.get(where.options(resources={"proxy_gpu": 1}).remote()),
            "plan": [role.name for role in handle.plan.nodes],
            "listens": listening_below(os.getpid()),
        }
        seen["tells a stranger"] = [port for port in seen["listens"] if tells_a_stranger(port)]
        handle.run([sys.executable, "-c", "print('child ran')"], {}, run.out / "child.log", lambda: None, run.out)
        (run.out / "seen.json").write_text(json.dumps(seen))

    run_in_cluster(run.rank, run.nodes, run.out / "ray", OPTIONS, driver)


def listening_below(pid: int) -> list[int]:
    """Ports on which a process and its descendants listen."""
    import psutil

    below = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sorted({c.laddr.port for p in below for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN})


def tells_a_stranger(port: int) -> bool:
    """Whether somebody without Ray's token is shown metrics."""
    try:
        with socket.create_connection(("localhost", port), timeout=2) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            return connection.recv(4096).startswith((b"HTTP/1.0 200", b"HTTP/1.1 200"))
    except OSError:
        return False  # it listens on the node's own address, or does not speak HTTP


def share_a_node(run: StageRun) -> None:
    """Both jobs have Ray up at the same time, and each sees itself alone."""

    def driver(handle: RayHandle) -> None:
        import ray

        mine, other = run.out / "up.json", run.run_dir / run.config / "up.json"
        resources = {key: value for key, value in ray.cluster_resources().items() if key in ("GPU", "proxy_gpu")}
        mine.write_text(json.dumps({"node": os.environ["SLURMD_NODENAME"], "resources": resources}))
        deadline = time.time() + 300
        while not other.exists() and time.time() < deadline:
            time.sleep(0.2)
        (run.out / "met").write_text(str(other.exists()))
        ray.get(ray.remote(lambda: None).options(num_gpus=1, num_cpus=0).remote())

    options = ClusterOptions(gpus_per_node=2, cpus=2, device="cpu", shares=(Share("proxy", gpus=1),))
    run_in_cluster(run.rank, run.nodes, run.out / "ray", options, driver)


CHILD = ["sleep", "612"]


def lose_a_part(run: StageRun) -> None:
    """Kills Ray on the other node, the cluster's head or the trainer, while the driver waits for the trainer."""

    def driver(handle: RayHandle) -> None:
        import ray

        head, other = handle.plan.nodes
        patterns = {
            "raylet": f"raylet.*--node_ip_address={other.address}",
            "head": f"gcs_server.*--session-name={ray._private.worker._global_node.session_name}",
            "trainer": " ".join(CHILD),
        }
        (run.out / "killed").write_text(other.name if run.config == "raylet" else head.name)

        def kill() -> None:
            if not (run.out / "at").exists():
                subprocess.run(["pkill", "-KILL", "-f", patterns[run.config]], check=True)
                (run.out / "at").write_text(str(time.time()))

        handle.run(CHILD, {}, run.out / "child.log", kill, run.out)

    run_in_cluster(run.rank, run.nodes, run.out / "ray", OPTIONS, driver)


@pytest.fixture
def ports_of_somebody_else() -> Iterator[list[int]]:
    """Every port that Ray's manual names is taken by another user of the node, who does not share it."""
    if os.getuid():
        pytest.skip("only root can be another user")
    ready = multiprocessing.Event()
    holder = multiprocessing.get_context("fork").Process(target=hold, args=(DEFAULT_PORTS, ready), daemon=True)
    holder.start()
    assert ready.wait(120)
    yield DEFAULT_PORTS
    holder.kill()
    holder.join()


DEFAULT_PORTS = [6379, 8265, 10001, 44217, 44227, 52365]


def hold(ports: list[int], ready: multiprocessing.synchronize.Event) -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    held = [socket.socket() for _ in ports]
    for one, port in zip(held, ports, strict=True):
        with contextlib.suppress(OSError):  # already taken by a third, which is as good
            one.bind(("", port))
            one.listen()
    ready.set()
    signal.pause()


def finished(stage: Stage, folder: Path) -> tuple[state.StageState, Ledger]:
    ledger = Ledger(folder)
    send([stage], ledger, PROFILE)
    return until_ended([stage], ledger, seconds=240)[stage.name], ledger


def ray_processes_of(folder: Path) -> list[str]:
    """Command lines of Ray processes that carry this run's token path in their environment."""
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (
                str(folder).encode() in (process / "environ").read_bytes()
                and b"ray" in (process / "cmdline").read_bytes()
            ):
                left.append((process / "cmdline").read_text().replace("\0", " ")[:120])
        except OSError:
            continue
    return left


def assert_no_ray_is_left(folder: Path) -> None:
    deadline = time.time() + 60
    while (left := ray_processes_of(folder)) and time.time() < deadline:
        time.sleep(0.2)
    assert left == []
    assert [*folder.rglob("token"), *folder.rglob("secret")] == []


def test_ray_spans_the_job_and_keeps_the_proxy_s_gpus_from_the_trainer(
    tmp_path: Path, ports_of_somebody_else: list[int]
) -> None:
    stage = Stage("ray_here", look_around, (Artifact("seen.json"),), TWO_NODES)
    found, ledger = finished(stage, tmp_path / "run")
    assert found.word == "done", found
    seen = json.loads((ledger.folder / "ray_here" / "seen.json").read_text())
    assert seen["cluster"] == {"GPU": 1.0, "proxy_gpu": 1.0}
    assert [seen["trainer"], seen["proxy"]] == seen["plan"]
    assert len(seen["listens"]) > 5
    assert not {*ports_of_somebody_else} & {*seen["listens"]}
    assert seen["tells a stranger"] == []
    (record,) = [json.loads(path.read_text()) for path in ledger.folder.glob("ray_here/ray/*/plan.json")]
    head, proxy = record["nodes"]
    assert [head["name"], proxy["name"]] == seen["plan"]
    assert [(role["trainer_gpus"], role["services"]) for role in (head, proxy)] == [(1, {}), (0, {"proxy": [0]})]
    assert record["head"].rpartition(":")[0] == head["address"]
    assert (ledger.folder / "ray_here" / "child.log").read_text() == "child ran\n"
    assert_no_ray_is_left(ledger.folder)


@pytest.mark.parametrize(
    ("part", "said"), [("raylet", "node {victim}"), ("head", "{victim}"), ("trainer", "was killed by SIGKILL")]
)
def test_the_death_of_a_part_ends_the_job_says_which_and_leaves_no_process(
    tmp_path: Path, part: str, said: str
) -> None:
    stage = Stage("ray_lost", lose_a_part, (Artifact("never"),), TWO_NODES, config=part)
    found, ledger = finished(stage, tmp_path / "run")
    victim = (ledger.folder / "ray_lost" / "killed").read_text()
    assert found.word == "failed"
    assert said.format(victim=victim) in found.detail, found.detail
    record = json.loads((ledger.folder / "ray_lost" / "FAILED.0.json").read_text())
    assert record["time"] - float((ledger.folder / "ray_lost" / "at").read_text()) < 200
    assert_no_ray_is_left(ledger.folder)


def test_two_jobs_on_one_node_do_not_meet(tmp_path: Path) -> None:
    on = Resources(nodes=1, gpus_per_node=2, cpus_per_task=2, mem_gb=4, timeout_min=10)
    made = (Artifact("met"),)
    stages = [Stage(name, share_a_node, made, on, config=other) for name, other in (("one", "two"), ("two", "one"))]
    ledger = Ledger(tmp_path / "run")
    send(stages, ledger, PROFILE)
    assert [found.word for found in until_ended(stages, ledger, seconds=240).values()] == ["done", "done"]
    seen = [json.loads((ledger.folder / stage.name / "up.json").read_text()) for stage in stages]
    assert seen[0]["node"] == seen[1]["node"]
    assert [one["resources"] for one in seen] == [{"GPU": 1.0, "proxy_gpu": 1.0}] * 2
    assert [(ledger.folder / stage.name / "met").read_text() for stage in stages] == ["True", "True"]
    assert_no_ray_is_left(ledger.folder)
