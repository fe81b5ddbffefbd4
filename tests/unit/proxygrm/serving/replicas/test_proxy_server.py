"""Placement, command line and supervision of a replica, with a small real HTTP server in place of vLLM."""

from __future__ import annotations

import os
import signal
import threading
import urllib.request
from dataclasses import replace
from functools import partial

import pytest

from proxygrm.core.errors import UserError
from proxygrm.serving.replicas.command import serve_command, serve_environment
from proxygrm.serving.replicas.placement import place_replicas
from proxygrm.serving.replicas.serve import serve
from proxygrm.serving.replicas.server import ReplicaServer
from proxygrm.serving.services import server as supervision
from proxygrm.serving.services.gpus import NODE_GPUS, gpu_numbers
from proxygrm.serving.services.server import may_restart, pause_s, wait_until_healthy
from proxygrm.serving.services.service import ServiceNode
from proxygrm.serving.settings import ProxySettings
from support.proxy.small_servers import HTTP_SERVER, small_server, spec, wait_for
from support.refusals import refused

pytestmark = pytest.mark.slow


def get(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(url, timeout=60).read().decode()


def healthy_after(server: ReplicaServer, restarts: int) -> bool:
    """Whoever looks too late never sees that it was not healthy in between."""
    status = server.status()
    return (status.state, status.restarts) == ("healthy", restarts) and server._is_healthy()


def node(name: str, gpus: int, trainer_gpus: int = 0) -> ServiceNode:
    return ServiceNode(name, f"ip-{name}", tuple(range(trainer_gpus, trainer_gpus + gpus)))


def test_replicas_take_turns_over_the_proxys_nodes_and_never_span_two():
    places = place_replicas([node("a", 8), node("b", 8)], replicas=3, tensor_parallel_size=4)
    assert [(p.node, p.gpus) for p in places] == [("a", (0, 1, 2, 3)), ("b", (0, 1, 2, 3)), ("a", (4, 5, 6, 7))]


def test_on_a_shared_node_the_proxy_has_the_gpus_behind_the_trainers():
    assert place_replicas([node("a", 2, trainer_gpus=6)], 2, 1)[1].gpus == (7,)


def test_replicas_that_do_not_fit_are_refused_with_the_room_that_there_is():
    with refused("proxy.replicas-do-not-fit", replicas=2, room=1):
        place_replicas([node("a", 6), node("b", 2)], replicas=2, tensor_parallel_size=4)


def test_gpu_numbers_come_from_the_jobs_own_list(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # what Ray leaves to an actor without GPUs
    monkeypatch.setenv(NODE_GPUS, "2,3,GPU-ab12,5")
    assert gpu_numbers((2, 3)) == ("GPU-ab12", "5")
    with refused("service.too-few-gpus", needed=5, gpus=4):
        gpu_numbers((4,))


def test_the_key_is_in_the_environment_and_never_on_the_command_line(tmp_path):
    replica = spec(tmp_path)
    assert "secret" not in " ".join(serve_command(replica, 9000))
    environment = serve_environment(replica, "secret", {"RAY_JOB_ID": "1", "PATH": "/bin"})
    assert environment["VLLM_API_KEY"] == "secret"
    assert environment["PATH"] == "/bin"
    assert "RAY_JOB_ID" not in environment


def test_a_gpu_replica_is_given_its_devices_and_none_of_the_cpu_options(tmp_path):
    replica = replace(spec(tmp_path, tensor_parallel_size=2), device="cuda", gpus=("4", "5"))
    command = serve_command(replica, 9000)
    assert command[command.index("--tensor-parallel-size") + 1] == "2"
    assert "--enforce-eager" not in command
    environment = serve_environment(replica, "k", {})
    assert environment["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert "VLLM_CPU_KVCACHE_SPACE" not in environment


def test_restarts_have_an_end_and_a_server_that_never_answered_is_tried_twice():
    assert [may_restart(n, 3, was_ever_healthy=True) for n in (0, 2, 3)] == [True, True, False]
    assert [may_restart(n, 3, was_ever_healthy=False) for n in (0, 1)] == [True, False]
    assert not may_restart(0, 0, was_ever_healthy=True)
    assert [pause_s(n) for n in (1, 2, 9)] == [1.0, 2.0, 30.0]


def test_a_server_that_dies_comes_back_at_the_same_url_until_its_restarts_are_used_up(tmp_path):
    server = ReplicaServer(spec(tmp_path, max_restarts=2), "key", small_server())
    server.start()
    try:
        pids = []
        for restarts in range(3):
            wait_for(partial(healthy_after, server, restarts))
            pids.append(get(f"{server.url}/health"))
            with pytest.raises(OSError, match=r"closed|reset|without"):
                get(f"{server.url}/die")
        assert len(set(pids)) == 3
        wait_for(lambda: server.status().state == "failed")
        status = server.status()
        assert status.restarts == 2
        detail = f"ended with exit code 9: RuntimeError: the engine died (log: {server.spec.log})"
        assert status.detail == detail
        with refused("service.replica-failed", replica="proxy-0", node="h100-2", restarts=2, detail=detail):
            wait_until_healthy(lambda: [server.status()], 5)
    finally:
        server.stop()


def test_a_killed_server_is_reported_as_killed_and_not_by_the_last_line_of_its_log(tmp_path):
    server = ReplicaServer(spec(tmp_path, max_restarts=0), "key", small_server())
    server.start()
    try:
        wait_for(lambda: server.status().state == "healthy")
        os.kill(int(get(f"{server.url}/health")), signal.SIGKILL)
        wait_for(lambda: server.status().state == "failed")
        assert server.status().detail.startswith("was killed by SIGKILL (often")
    finally:
        server.stop()


def test_a_server_that_never_answers_is_named_at_the_deadline_with_a_line_of_its_log(tmp_path):
    server = ReplicaServer(
        spec(tmp_path), "key", small_server("import time; print('loading weights', flush=True); time.sleep(60)")
    )
    server.start()
    try:
        wait_for(lambda: server.status().detail == "loading weights")
        late = {"healthy": 0, "replicas": 1, "replica": "proxy-0", "node": "h100-2", "state": "starting"}
        with refused("service.replica-late", **late, detail="loading weights"):
            wait_until_healthy(lambda: [server.status()], 0.5)
    finally:
        server.stop()


def test_a_server_is_restarted_although_the_disk_of_its_log_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(supervision, "LOG_ROOM_BYTES", 1 << 60)  # more than any disk has
    server = ReplicaServer(spec(tmp_path), "key", small_server("print('words', flush=True)" + HTTP_SERVER))
    server.start()
    try:
        pids = set()
        for restarts in range(2):
            wait_for(partial(healthy_after, server, restarts))
            pids.add(get(f"{server.url}/health"))
            os.kill(int(get(f"{server.url}/health")), signal.SIGKILL)
        assert len(pids) == 2
        assert "words" not in server.spec.log.read_text()
    finally:
        server.stop()


def test_a_supervisor_that_fails_is_reported_and_not_waited_for(tmp_path):
    def no_memory(spec, port):
        raise OSError("Cannot allocate memory")

    server = ReplicaServer(spec(tmp_path), "key", no_memory)
    hook = threading.excepthook
    threading.excepthook = lambda args: None
    try:
        server.start()
        with refused("service.replica-failed", detail="its supervisor ended: OSError: Cannot allocate memory"):
            wait_until_healthy(lambda: [server.status()], 60)
    finally:
        threading.excepthook = hook
        server.stop()


def test_stopping_leaves_no_process(tmp_path):
    server = ReplicaServer(spec(tmp_path), "key", small_server())
    server.start()
    wait_for(lambda: server.status().state == "healthy")
    pid = int(get(f"{server.url}/health"))
    server.stop()
    assert server.status().state == "stopped"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIG_DFL)


def test_the_wait_for_replicas_ends_when_the_check_raises(tmp_path):
    def check() -> None:
        raise UserError("node h100-1: Ray lost it", code="ray.node-lost")

    with refused("ray.node-lost"):
        wait_until_healthy(list, 60, check=check)


def test_a_missing_checkpoint_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(UserError, match="no checkpoint"), serve(tmp_path / "gone", ProxySettings(), tmp_path / "out"):
        pass
    assert not (tmp_path / "out").exists()
