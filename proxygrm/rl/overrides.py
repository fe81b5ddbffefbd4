"""The only place where verl's Hydra overrides are written.

Key names are verl 0.9.1's. Upstream's script was written for an older verl: there the reward function was set by
`custom_reward_function.*`, which 0.9.1 silently ignores.
"""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from proxygrm.core.checkpoints.attention import FLASH, attention
from proxygrm.core.errors import UserError
from proxygrm.rl.algorithms import Algorithm
from proxygrm.rl.config import RlSettings
from proxygrm.rl.guards.private_sockets import HOOK, MIDDLEWARE

PROJECT = "proxygrm"
CPU_ENVIRONMENT = {
    "VERL_PLATFORM": "cpu",
    "VERL_USE_EXTERNAL_MODULES": "proxygrm.rl.guards.guarded_verl,proxygrm.rl.cpu.platform",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # "auto" pins every replica of the machine to the same core
    "OMP_NUM_THREADS": "1",
    # vLLM compiles parts with g++ even when it runs eagerly: 20 s at each start, and it needs a compiler.
    "TORCHDYNAMO_DISABLE": "1",
    # vLLM's engine process runs the model itself; otherwise it starts a third interpreter for that.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}


def job_environment(
    *, device: str, output: Path, attempt: int = 0, algorithm: Algorithm | None = None
) -> dict[str, str]:
    """Variables that every process of the training needs, the driver and Ray's workers. No secrets."""
    shared = {
        "VERL_USE_EXTERNAL_MODULES": "proxygrm.rl.guards.guarded_verl",
        "SWANLAB_LOG_DIR": str(output / "swanlog"),
        # verl opens its metrics file for writing, so each attempt has its own (train.py joins them).
        "HF_DATASETS_CACHE": str(output / "datasets_cache"),
        "VERL_FILE_LOGGER_PATH": str(output / "verl_metrics" / f"attempt_{attempt:03d}.jsonl"),
    }
    if device == "cpu":
        shared |= CPU_ENVIRONMENT
    if algorithm is not None:
        shared |= algorithm.environment
        modules = [shared["VERL_USE_EXTERNAL_MODULES"], algorithm.plugin]
        shared["VERL_USE_EXTERNAL_MODULES"] = ",".join(filter(None, modules))
    return shared


def verl_overrides(
    settings: RlSettings,
    *,
    model: Path,
    train_file: Path,
    val_file: Path,
    output: Path,
    ray_address: str,
    nnodes: int,
    gpus_per_node: int,
    reward_options: Path,
    run_name: str,
    device: str = "cuda",
    environment: dict[str, str] | None = None,
    nursery: Path | None = None,
) -> list[str]:
    """`key=value` arguments of `python -m verl.trainer.main_ppo`, in a stable order.

    `ray_address` is HOST:PORT of a running cluster, with HOST the address its head (where the driver runs) was
    started under; `nnodes` x `gpus_per_node` are the trainer's slots, so a proxy node must declare no GPUs.
    """
    if device not in ("cuda", "cpu"):
        raise UserError(
            f"rl: device is {device!r}; it must be cuda or cpu",
            code="settings.unknown-value",
            name="device",
            value=device,
            known=["cuda", "cpu"],
        )
    s = replace(settings, attn_implementation=attention(settings.attn_implementation, device))
    length = s.max_prompt_length + s.max_response_length
    cpu = device == "cpu"
    host = urlsplit(f"//{ray_address}").hostname
    if not host or ":" not in ray_address:
        raise UserError(
            f"rl: Ray's address is {ray_address!r}; it must be HOST:PORT", code="ray.bad-address", address=ray_address
        )
    if environment is None:
        environment = job_environment(device=device, output=output, algorithm=s.algorithm)
    values: dict[str, object] = {
        "algorithm.use_kl_in_reward": False,
        **s.algorithm.overrides(),
        "data.train_files": train_file,
        "data.val_files": val_file,
        "data.train_batch_size": s.train_batch_size,
        "data.max_prompt_length": s.max_prompt_length,
        "data.max_response_length": s.max_response_length,
        "data.filter_overlong_prompts": True,
        "data.truncation": "error",
        "data.image_key": "images",
        # verl's dataset, with an account of what it filters out.
        "data.custom_cls.path": "pkg://proxygrm.rl.plugins.dataset",
        "data.custom_cls.name": "AccountingDataset",
        "+data.account": output,
        "data.dataloader_num_workers": s.dataloader_num_workers,
        "data.seed": s.seed,
        "actor_rollout_ref.model.path": model,
        "actor_rollout_ref.model.trust_remote_code": s.trust_remote_code,
        "data.trust_remote_code": s.trust_remote_code,
        "actor_rollout_ref.model.use_remove_padding": s.attn_implementation == FLASH,  # verl packs rows for it alone
        "+actor_rollout_ref.model.override_config.attn_implementation": s.attn_implementation,
        "actor_rollout_ref.model.external_lib": "proxygrm.rl.guards.text_only",
        "actor_rollout_ref.model.use_fused_kernels": not cpu,
        "actor_rollout_ref.model.enable_gradient_checkpointing": not cpu,
        "actor_rollout_ref.actor.strategy": "fsdp2" if cpu else "fsdp",
        "actor_rollout_ref.actor.optim.lr": s.learning_rate,
        "actor_rollout_ref.actor.ppo_mini_batch_size": s.ppo_mini_batch_size,
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": s.ppo_micro_batch_size_per_gpu,
        "actor_rollout_ref.actor.use_kl_loss": True,
        "actor_rollout_ref.actor.kl_loss_coef": s.kl_loss_coef,
        "actor_rollout_ref.actor.kl_loss_type": s.kl_loss_type,
        "actor_rollout_ref.actor.entropy_coeff": s.entropy_coeff,
        "actor_rollout_ref.actor.data_loader_seed": s.seed,
        "actor_rollout_ref.actor.fsdp_config.param_offload": False,
        "actor_rollout_ref.actor.fsdp_config.optimizer_offload": False,
        # hf_model: every checkpoint is also a complete Hugging Face folder, ready to serve.
        "actor_rollout_ref.actor.checkpoint.save_contents": ["model", "optimizer", "extra", "hf_model"],
        "actor_rollout_ref.actor.checkpoint.load_contents": ["model", "optimizer", "extra"],
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu": s.ppo_micro_batch_size_per_gpu,
        "actor_rollout_ref.ref.fsdp_config.param_offload": not cpu,
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.n": s.n,
        "actor_rollout_ref.rollout.temperature": s.temperature,
        "actor_rollout_ref.rollout.seed": s.seed,
        "actor_rollout_ref.rollout.tensor_model_parallel_size": s.tensor_parallel_size,
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": s.ppo_micro_batch_size_per_gpu,
        "actor_rollout_ref.rollout.gpu_memory_utilization": s.gpu_memory_utilization,
        "actor_rollout_ref.rollout.enable_chunked_prefill": cpu,
        "actor_rollout_ref.rollout.max_model_len": length,
        "actor_rollout_ref.rollout.max_num_batched_tokens": max(length, 2048 if cpu else 0),
        "actor_rollout_ref.rollout.max_num_seqs": s.max_num_seqs,
        # vLLM's cache of prepared images stays on (upstream had it off; verl turns it off below vLLM 0.22 alone): the
        # rollouts of a prompt share their image, and one process prepares them all (0.1 s of CPU for a megapixel).
        "actor_rollout_ref.rollout.enforce_eager": True,
        "actor_rollout_ref.rollout.free_cache_engine": not cpu,
        "+actor_rollout_ref.rollout.engine_kwargs.vllm.middleware": MIDDLEWARE,
        "actor_rollout_ref.rollout.agent.num_workers": s.agent_num_workers,
        "reward.num_workers": s.reward_num_workers,
        "reward.custom_reward_function.path": "pkg://proxygrm.rl.plugins.reward_fn",
        "reward.custom_reward_function.name": "compute_score",
        "+reward.custom_reward_function.reward_kwargs.options": reward_options,
        "transfer_queue.backend.SimpleStorage.num_data_storage_units": s.num_data_storage_units,
        "trainer.device": device,
        "trainer.nnodes": nnodes,
        "trainer.n_gpus_per_node": gpus_per_node,
        "trainer.critic_warmup": 0,
        "trainer.logger": ["console", "swanlab", "file"],
        "trainer.project_name": PROJECT,
        "trainer.experiment_name": run_name,
        "trainer.val_before_train": s.eval_steps > 0,
        "trainer.test_freq": s.eval_steps if s.eval_steps > 0 else -1,
        "trainer.log_val_generations": 2 if s.eval_steps > 0 else 0,
        "trainer.save_freq": s.save_steps,
        "trainer.max_actor_ckpt_to_keep": s.save_total_limit,
        "trainer.default_local_dir": output / "checkpoints",
        "trainer.resume_mode": "auto",
        "trainer.total_epochs": s.num_train_epochs,
        "trainer.total_training_steps": s.max_steps,
        # verl's hook for its replay buffer: ours counts the parts of the reward, step by step.
        "trainer.v1.sampler.custom_sampler.path": "pkg://proxygrm.rl.plugins.sampler",
        "trainer.v1.sampler.custom_sampler.name": "CountingReplayBuffer",
        "+trainer.v1.sampler.sampler_kwargs.options": reward_options,
        "ray_kwargs.ray_init.num_cpus": None,
        "+ray_kwargs.ray_init.address": ray_address,
        "+ray_kwargs.ray_init._node_ip_address": host,
        # In every worker before anything else: TransferQueue's servers do not import verl.
        "+ray_kwargs.ray_init.runtime_env.worker_process_setup_hook": HOOK,
        "hydra.run.dir": output / "hydra",
    }
    if s.reward.judges_early:
        values["actor_rollout_ref.rollout.agent.default_agent_loop"] = "early_rubric"
        values["actor_rollout_ref.rollout.agent.agent_loop_config_path"] = AGENT_LOOPS
    if cpu:
        values |= _cpu_values()
    if cpu and nursery is not None:
        # -S -E: the stand-in is standard library only and starts in a few hundredths of a second.
        words = [sys.executable, "-S", "-E", str(Path(__file__).with_name("cpu") / "nursery.py"), str(nursery)]
        values["ray_kwargs.ray_init.runtime_env.py_executable"] = shlex.join(words)
    values |= {f"+ray_kwargs.ray_init.runtime_env.env_vars.{k}": _Text(v) for k, v in sorted(environment.items())}
    return [f"{key}={_hydra(value)}" for key, value in values.items()]


def _cpu_values() -> dict[str, object]:
    """Overrides for the CPU platform only: 32-bit numbers, small buffers."""
    return {
        "actor_rollout_ref.model.external_lib": "proxygrm.rl.cpu.engine",
        "actor_rollout_ref.actor.fsdp_config.use_torch_compile": False,
        "+actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype": "fp32",
        "actor_rollout_ref.ref.fsdp_config.use_torch_compile": False,
        "+actor_rollout_ref.ref.fsdp_config.mixed_precision.param_dtype": "fp32",
        "actor_rollout_ref.rollout.dtype": "float32",
        "+actor_rollout_ref.rollout.enable_sleep_mode": False,
        "+actor_rollout_ref.rollout.engine_kwargs.vllm.distributed_executor_backend": "uni",
        "+actor_rollout_ref.rollout.engine_kwargs.vllm.block_size": 32,  # or no prefix of a short prompt is reused
        "+actor_rollout_ref.rollout.engine_kwargs.vllm.skip_mm_profiling": True,
        "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes": 64,
        "transfer_queue.backend.SimpleStorage.total_storage_size": 2000,
    }


class _Text(str):
    """A value that must remain a string, even if it looks like a number."""


AGENT_LOOPS = Path(__file__).with_name("plugins") / "agent_loops.yaml"
_PLAIN = re.compile(r"[A-Za-z0-9_/.:@%+-]+")
_LOOKS_TYPED = re.compile(r"(?i)(true|false|null|none|nan|[+-]?inf|[+-]?[0-9._]+(e[+-]?[0-9]+)?)")


def _hydra(value: object) -> str:
    """One value in Hydra's override grammar: quoted when it holds anything the grammar would act on."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, list):
        return "[" + ",".join(_hydra(item) for item in value) + "]"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    typed = isinstance(value, _Text) and _LOOKS_TYPED.fullmatch(text)
    if _PLAIN.fullmatch(text) and not typed:
        return text
    # In quotes the grammar unescapes \' and an even run of backslashes before a quote; OmegaConf reads ${.
    escaped = re.sub(r"(\\*)'", lambda m: m.group(1) * 2 + r"\'", text)
    escaped = re.sub(r"(\\+)$", lambda m: m.group(1) * 2, escaped)
    return "'" + escaped.replace("${", r"\${") + "'"
