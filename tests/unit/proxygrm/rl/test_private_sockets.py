"""The job's sockets on a node that others use too: real TransferQueue, verl and vLLM classes, and strangers."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from proxygrm.core.checkpoints.attention import FLASH
from proxygrm.core.errors import UserError
from proxygrm.core.runtime import job_secret
from proxygrm.rl.config import RlSettings
from proxygrm.rl.guards import private_sockets
from proxygrm.rl.overrides import job_environment, verl_overrides
from proxygrm.serving.replicas.command import ReplicaSpec
from proxygrm.serving.replicas.server import ReplicaServer
from proxygrm.serving.services.server import wait_until_healthy
from proxygrm.serving.settings import ProxySettings
from slurm.ray.node import private_folder, secret_environment

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]
SCRIPTS = ROOT / "tests" / "support" / "rl"
SETTINGS = {"cpu": RlSettings.demo(), "cuda": replace(RlSettings.paper(), attn_implementation=FLASH)}


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The environment of a job's processes, with its secret and its folder on the node."""
    (tmp_path / "secret").write_text("s" * 64)
    folder = private_folder()
    variables = secret_environment(tmp_path / "secret", folder) | {"PYTHONPATH": str(ROOT)}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield {**os.environ, **variables}
    shutil.rmtree(folder)


def scene(script: str, environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPTS / script), *arguments]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


SERVERS = ("handshake_socket", "put_get_socket", "request_handle_socket")


@pytest.mark.heavy
def test_a_stranger_runs_code_in_an_unguarded_transferqueue(tmp_path: Path, job: dict[str, str]) -> None:
    """The strangers below can do harm if they are accepted."""
    (tmp_path / "loaded").mkdir()
    seen = scene("queue_attacks.py", job, "open", str(tmp_path / "loaded"))
    assert seen["loaded"] == [f"{name}, no keys" for name in SERVERS]
    assert seen["server"] == "accepted"


@pytest.mark.heavy
def test_a_stranger_gets_no_byte_into_a_job_s_transferqueue_and_the_job_does(
    tmp_path: Path, job: dict[str, str]
) -> None:
    (tmp_path / "loaded").mkdir()
    seen = scene("queue_attacks.py", job, "guarded", str(tmp_path / "loaded"))
    results = {name: list(strangers.values()) for name, strangers in seen["strangers"].items()}
    assert results == dict.fromkeys(SERVERS, ["refused"] * 3)
    assert seen["loaded"] == []
    assert seen["server"] == "refused"
    assert seen["own"] == [[0, 1], [2, 3], [4, 5]]


def overrides(device: str, output: Path) -> list[str]:
    return verl_overrides(
        SETTINGS[device],
        model=Path("/models/grm_sft"),
        train_file=Path("/data/train.parquet"),
        val_file=Path("/data/validation.parquet"),
        output=output,
        ray_address="10.0.0.1:6379",
        nnodes=1,
        gpus_per_node=1,
        reward_options=output / "options.json",
        run_name="grm_rl",
        device=device,
    )


@pytest.mark.heavy
def test_verl_s_weights_stay_in_the_job_s_folder_and_its_servers_ask_for_the_key(
    tmp_path: Path, job: dict[str, str]
) -> None:
    environment = job | job_environment(device="cuda", output=tmp_path)
    seen = scene("rollout_scene.py", environment | {"OVERRIDES": json.dumps(overrides("cuda", tmp_path))})
    name = "rl-colocate-zmq-01000000-replica-0-rank-0.sock"
    assert seen["weights"] == {
        "asked": f"ipc:///tmp/{name}",
        "bound": f"ipc://{job[job_secret.NODE_FOLDER]}/{name}",
        "received": "weights",
    }
    assert seen["hook"] == private_sockets.HOOK
    for path, (nothing, wrong, right) in seen["doors"].items():
        assert (nothing, wrong) == (401, 401), path
        assert right != 401, path


def test_every_device_s_processes_carry_the_guard_and_no_secret(tmp_path: Path, job: dict[str, str]) -> None:
    for device in ("cpu", "cuda"):
        modules = job_environment(device=device, output=tmp_path)["VERL_USE_EXTERNAL_MODULES"].split(",")
        assert modules[0] == "proxygrm.rl.guards.guarded_verl"
        assert "ssss" not in " ".join(overrides(device, tmp_path))


GUARD = """
import sys
from proxygrm.rl.guards.private_sockets import guard
guard()
guard()
print(sorted({"torch", "ray", "zmq", "verl", "transfer_queue"} & set(sys.modules)))
"""


LOG = """
import logging
import proxygrm.rl.guards.guarded_verl
from proxygrm.rl.guards.guarded_verl import log_to_stderr
log_to_stderr()
logging.basicConfig()  # as Hydra does in the driver
logging.getLogger("proxygrm.rl.plugins.sampler").info("step %d", 3)
logging.getLogger("other").info("nothing")
"""


def test_info_lines_of_the_plugins_reach_the_log_of_verl_s_processes_once(job: dict[str, str]) -> None:
    ran = subprocess.run([sys.executable, "-c", LOG], env=job, capture_output=True, text=True, timeout=300)
    assert (ran.returncode, ran.stderr) == (0, "INFO proxygrm.rl.plugins.sampler: step 3\n")


def test_the_guard_itself_imports_nothing_heavy(job: dict[str, str]) -> None:
    ran = subprocess.run([sys.executable, "-c", GUARD], env=job, capture_output=True, text=True, timeout=300)
    assert (ran.returncode, ran.stdout) == (0, "[]\n"), ran.stderr


@pytest.mark.parametrize("missing", [private_sockets.WEIGHTS, private_sockets.QUEUE])
def test_a_module_that_an_upgrade_has_moved_is_an_error_before_anything_is_started(missing: str) -> None:
    private_sockets._must_exist(missing)
    with pytest.raises(RuntimeError, match=f"has no {missing}_moved"):
        private_sockets._must_exist(f"{missing}_moved")
    with pytest.raises(RuntimeError, match=r"has no nowhere\.at\.all"):
        private_sockets._must_exist("nowhere.at.all")


@pytest.mark.parametrize("change", [private_sockets.keep_weights_private, private_sockets.keep_queue_private])
def test_a_name_that_an_upgrade_has_changed_is_an_error(change: Any) -> None:
    with pytest.raises(RuntimeError, match="cannot be guarded"):
        change(ModuleType("renamed"))


def test_transferqueue_makes_its_sockets_in_one_place_alone() -> None:
    """A socket created elsewhere would not be guarded: if an upgrade fails here, guard the new socket."""
    import importlib.util

    (folder,) = importlib.util.find_spec("transfer_queue").submodule_search_locations
    for path in Path(folder).rglob("*.py"):
        # yuanrong: another backend, which is not installed; it probes for a free port.
        if path.name not in ("zmq_utils.py", "yuanrong_utils.py"):
            text = path.read_text(encoding="utf-8")
            assert not [word for word in (".socket(", "start_server(", "import socketserver") if word in text], path


@pytest.mark.parametrize("kind", ["PUB", "PULL", "REP", "PAIR"])
def test_a_kind_of_socket_that_is_not_known_to_be_guarded_is_refused(kind: str, job: dict[str, str]) -> None:
    import zmq

    from proxygrm.rl.guards.curve import guarded

    created = []

    def create(context: Any, kind: int, ip: str) -> Any:
        created.append(context.socket(kind))
        return created[-1]

    with zmq.Context() as context:
        with pytest.raises(RuntimeError, match=f"opens a {kind} socket"):
            guarded(create)(context, getattr(zmq, kind), "127.0.0.1")
        assert created[0].closed


def test_a_context_with_guarded_servers_ends_when_its_owner_ends_it(job: dict[str, str]) -> None:
    import zmq

    from proxygrm.rl.guards.curve import guarded

    context = zmq.Context()
    sockets = [guarded(lambda ctx, kind: ctx.socket(kind))(context, zmq.ROUTER) for _ in range(3)]
    for socket in sockets:
        socket.bind_to_random_port("tcp://127.0.0.1")
        socket.close(linger=0)
    context.term()
    assert context.closed


@pytest.mark.parametrize("handle", ["tcp://10.0.0.1:5000", "", "ipc://relative.sock", "inproc://weights"])
def test_a_weight_socket_of_another_kind_is_refused(handle: str, job: dict[str, str]) -> None:
    with pytest.raises(RuntimeError, match="weight socket"):
        private_sockets.private_handle(handle)


def test_no_weight_is_sent_through_a_folder_that_others_may_enter(job: dict[str, str]) -> None:
    folder = Path(job[job_secret.NODE_FOLDER])
    for mode in (0o750, 0o701, 0o777):
        folder.chmod(mode)
        with pytest.raises(RuntimeError, match="permissions 0700"):
            private_sockets.private_handle("ipc:///tmp/a.sock")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to somebody else")
def test_no_weights_are_sent_through_a_folder_of_another_user(job: dict[str, str]) -> None:
    os.chown(job[job_secret.NODE_FOLDER], 65534, 65534)
    with pytest.raises(RuntimeError, match="folder of this user"):
        private_sockets.private_handle("ipc:///tmp/a.sock")


def test_no_weight_is_sent_through_a_link(job: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(job[job_secret.NODE_FOLDER])
    monkeypatch.setenv(job_secret.NODE_FOLDER, str(tmp_path / "link"))
    with pytest.raises(RuntimeError, match="permissions 0700"):
        job_secret.node_folder()


def test_without_the_job_s_secret_or_folder_nothing_is_opened_unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (job_secret.SECRET_FILE, job_secret.NODE_FOLDER):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(RuntimeError, match=job_secret.SECRET_FILE):
        job_secret.derive_key("anything")
    with pytest.raises(RuntimeError, match=job_secret.NODE_FOLDER):
        private_sockets.private_handle("ipc:///tmp/a.sock")


def test_a_secret_serves_each_purpose_with_another_key_and_a_cut_one_serves_none(job: dict[str, str]) -> None:
    assert job_secret.derive_key("a") == job_secret.derive_key("a")
    assert len({job_secret.derive_key(purpose) for purpose in ("a", "b", "")}) == 3
    Path(job[job_secret.SECRET_FILE]).write_text("short")
    with pytest.raises(RuntimeError, match="5 bytes"):
        job_secret.derive_key("a")


def test_vllm_s_sockets_are_in_a_private_folder_that_goes(job: dict[str, str]) -> None:
    with job_secret.vllm_sockets() as variables:
        folder = Path(variables["VLLM_RPC_BASE_PATH"])
        assert folder.parent == Path(job[job_secret.NODE_FOLDER])
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "left").touch()
    assert not folder.exists()


def test_outside_a_job_vllm_s_folder_is_short_enough_for_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(job_secret.NODE_FOLDER, raising=False)
    monkeypatch.setenv("TMPDIR", "/" + "d" * 100)
    with job_secret.vllm_sockets() as variables:
        assert len(variables["VLLM_RPC_BASE_PATH"]) + len("/") + 36 < 107


def test_a_proxy_replica_keeps_vllm_s_sockets_in_a_private_folder_also_when_it_is_killed(
    tmp_path: Path, job: dict[str, str]
) -> None:
    script = "import os, sys; open(sys.argv[1], 'w').write(os.environ['VLLM_RPC_BASE_PATH']); os.kill(os.getpid(), 9)"
    settings = ProxySettings(max_model_len=1024, max_tokens=64, max_restarts=0)
    spec = ReplicaSpec("proxy-0", "node", "/models/proxy", "127.0.0.1", "cpu", (), tmp_path, settings)
    server = ReplicaServer(spec, "key", lambda spec, port: [sys.executable, "-c", script, str(tmp_path / "said")])
    server.start()
    with pytest.raises(UserError, match="was killed"):
        wait_until_healthy(lambda: [server.status()], 120)
    server.stop()
    folder = Path((tmp_path / "said").read_text())
    assert folder.parent == Path(job[job_secret.NODE_FOLDER])
    assert not folder.exists()


ENGINE = """
import os, pathlib
from proxygrm.evaluate.judges.engine import _environment
_environment("cuda")
first = os.environ["VLLM_RPC_BASE_PATH"]
_environment("cuda")
print(first, os.environ["VLLM_RPC_BASE_PATH"] == first and pathlib.Path(first).is_dir())
"""


def test_an_evaluation_keeps_vllm_s_sockets_in_one_private_folder_that_goes_with_it() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ENGINE]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    folder, was_there = ran.stdout.split()
    assert was_there == "True"
    assert Path(folder).parent == Path("/tmp")
    assert not Path(folder).exists()
