"""verl's rollout classes as in a job's processes, on a machine without a GPU: the sockets they bind and serve.

`python rollout_scene.py` prints the results as JSON. It runs in a separate process, because verl reads its environment
while it is imported.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def weight_socket() -> dict[str, Any]:
    import ray
    from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver, BucketedWeightSender
    from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
    from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

    ray.get_runtime_context = lambda: SimpleNamespace(get_job_id=lambda: "01000000")
    os.environ |= {"RANK": "0", "RAY_LOCAL_WORLD_SIZE": "1", "VERL_RAY_JOB_ID": "01000000", "VERL_REPLICA_RANK": "0"}
    config = SimpleNamespace(
        tensor_model_parallel_size=1, data_parallel_size=1, pipeline_model_parallel_size=1, layered_summon=False
    )
    trainer = ServerAdapter(config, None, None).zmq_handle
    worker = SimpleNamespace(model_runner=SimpleNamespace(vllm_config=None), local_rank=0)
    sender = BucketedWeightSender(zmq_handle=trainer, bucket_size_mb=1)
    receiver = BucketedWeightReceiver(zmq_handle=vLLMColocateWorkerExtension._get_zmq_handle(worker), device=None)
    sender._init_socket()
    receiver._init_socket()
    sender.socket.send_pyobj("weights")
    received = receiver.socket.recv_pyobj() if receiver.socket.poll(120_000) else None
    bound = sender.socket.last_endpoint.decode().rstrip("\0")
    for end in (sender, receiver):
        end.socket.close(linger=0)
    return {"asked": trainer, "bound": bound, "received": received}


async def statuses(arguments: dict[str, Any]) -> dict[str, list[int]]:
    """HTTP statuses of each path without and with the job's key, of the app that vLLM builds, served as verl does."""
    import httpx
    from uvicorn.config import HTTP_PROTOCOLS
    from verl.workers.rollout.utils import run_uvicorn
    from verl.workers.rollout.vllm_rollout.utils import build_cli_args_from_config
    from vllm.entrypoints.openai.api_server import build_app
    from vllm.entrypoints.openai.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    from proxygrm.rl.guards.rollout_guard import job_key

    args = make_arg_parser(FlexibleArgumentParser()).parse_args(build_cli_args_from_config(arguments))
    app = build_app(args, supported_tasks=("generate",))
    by_path = {}
    app.state.log_stats = False
    port, serving = await run_uvicorn(app, args, "127.0.0.1")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=120) as client:
        for method, path in (("GET", "/version"), ("POST", "/invocations"), ("POST", "/tokenize"), ("GET", "/metrics")):
            attempts = [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {job_key()}"}]
            by_path[path] = [(await client.request(method, path, headers=headers)).status_code for headers in attempts]
    serving.cancel()
    assert HTTP_PROTOCOLS["auto"] == "proxygrm.serving.access.connections:LimitedProtocol"
    return by_path


def main() -> dict[str, Any]:
    import verl.trainer
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(Path(verl.trainer.__path__[0], "config")), version_base=None):
        config = compose("ppo_trainer", json.loads(os.environ["OVERRIDES"]))
    engine = OmegaConf.to_container(config.actor_rollout_ref.rollout.engine_kwargs.vllm)
    hook = config.ray_kwargs.ray_init.runtime_env.worker_process_setup_hook
    return {"weights": weight_socket(), "doors": asyncio.run(statuses(engine)), "hook": hook}


if __name__ == "__main__":
    print(json.dumps(main()), flush=True)
