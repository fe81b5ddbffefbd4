"""Services of one's own inside a job of Ray: on nodes of their own, beside the trainer, and when one dies."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.request
from pathlib import Path

import cloudpickle
import pytest
from conftest import eventually, send, until_ended

from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Artifact, Stage, StageRun
from jobs.engine.watch.why import explain_run
from jobs.stages.training.rl import nodes_of
from proxygrm.serving.services.command import CommandServer
from proxygrm.serving.services.running import running
from proxygrm.serving.services.service import Service, Surroundings
from slurm.profile import Health, Profile, Scheduler
from slurm.ray.cluster import ClusterOptions, run_in_cluster
from slurm.ray.handle import RayHandle
from slurm.ray.plan import Share
from slurm.sbatch import Resources

pytestmark = [pytest.mark.cluster, pytest.mark.heavy, pytest.mark.usefixtures("on_the_local_cluster")]
cloudpickle.register_pickle_by_value(sys.modules[__name__])

PROFILE = Profile("test", scheduler=Scheduler(partition="gpu"), health=Health(preflight=False))
TWO_NODES = Resources(nodes=2, gpus_per_node=2, cpus_per_task=2, mem_gb=4, timeout_min=10)
SERVER = """
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        said = {"pid": os.getpid(), "key": os.environ["SERVICE_API_KEY"], "node": os.environ["SLURMD_NODENAME"]}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())
address = os.environ["SERVICE_ADDRESS"], int(os.environ["SERVICE_PORT"])
http.server.ThreadingHTTPServer(address, Handler).serve_forever()
"""
SEARCH = CommandServer(name="search", command=("{python}", "-c", SERVER), nodes=1, gpus=1, max_restarts=0)
TOOLS = CommandServer(name="tools", command=("{python}", "-c", SERVER), gpus=1)


def ask(url: str) -> dict[str, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return json.loads(opener.open(url, timeout=60).read())


def serve(run: StageRun) -> None:
    """Both services; `config` says whether one dies."""
    shares = (Share("search", nodes=1), Share("tools", gpus=1))

    def driver(handle: RayHandle) -> None:
        def here(service: Service) -> Surroundings:
            return Surroundings(nodes_of(service, handle.plan), {}, run.out / service.folder, "cpu")

        with running([SEARCH, TOOLS], here, handle.watch, print) as services:
            said = {name: [ask(url) for url in each.urls] for name, each in services.items()}
            keys = {name: each.key_file.read_text() for name, each in services.items()}
            modes = [oct(each.key_file.stat().st_mode & 0o777) for each in services.values()]
            record = {"said": said, "keys": keys, "modes": modes, "nodes": [n.name for n in handle.plan.nodes]}
            (run.out / "seen.json").write_text(json.dumps(record))
            if run.config:
                os.kill(said["search"][0]["pid"], signal.SIGKILL)  # virtual nodes share one machine
                handle.run(["sleep", "613"], {}, run.out / "child.log", lambda: None, run.out)

    options = ClusterOptions(gpus_per_node=2, cpus=2, device="cpu", shares=shares)
    run_in_cluster(run.rank, run.nodes, run.out / "ray", options, driver)


def seen(ledger: Ledger) -> dict:
    return json.loads((ledger.folder / "rl" / "seen.json").read_text())


def assert_nothing_is_left(ledger: Ledger) -> None:
    for answers in seen(ledger)["said"].values():
        for answer in answers:
            process = Path(f"/proc/{answer['pid']}")
            eventually(lambda: not process.exists(), 10, lambda: f"{process} is left")  # noqa: B023 - called at once
    assert not [*ledger.folder.rglob("key")]


@pytest.mark.parametrize("dies", [False, True])
def test_services_run_on_their_nodes_and_the_death_of_one_ends_the_job(tmp_path: Path, dies: bool) -> None:
    stage, ledger = Stage("rl", serve, (Artifact("seen.json"),), TWO_NODES, config=dies), Ledger(tmp_path / "run")
    send([stage], ledger, PROFILE)
    ended = until_ended([stage], ledger, seconds=240)["rl"]
    record = seen(ledger)
    trainer, server = record["nodes"]
    places = {name: [answer["node"] for answer in answers] for name, answers in record["said"].items()}
    assert places == {"search": [server], "tools": [trainer]}
    assert {name: answers[0]["key"] for name, answers in record["said"].items()} == record["keys"]
    assert record["modes"] == ["0o600", "0o600"]
    assert_nothing_is_left(ledger)
    if not dies:
        assert ended.word == "done", ended
        return
    assert ended.word == "failed"
    assert f"search replica search-0 on {server} failed after 0 restarts: was killed by SIGKILL" in ended.detail
    explained = explain_run([stage], ledger)
    assert f"a service of the job, search-0 on {server}, died" in str(explained)
