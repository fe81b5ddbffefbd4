"""Hyper-parameters of the RL stage and verl's overrides written from them."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxygrm.core.checkpoints.attention import FLASH
from proxygrm.core.errors import UserError
from proxygrm.rewards.proxy_agreement import ProxyAgreement
from proxygrm.rl.config import RlSettings
from proxygrm.rl.overrides import AGENT_LOOPS, job_environment
from support.refusals import refused
from support.rl.verl_overrides import as_dict, overrides

ROOT = Path(__file__).parents[4]
GOLDEN = ROOT / "tests" / "golden"


PAPER = dataclasses.replace(RlSettings.paper(), attn_implementation=FLASH)


def test_the_papers_overrides_are_the_ones_we_reviewed(request: pytest.FixtureRequest) -> None:
    lines = "\n".join(overrides(PAPER)) + "\n"
    golden = GOLDEN / "verl_paper_overrides.txt"
    assert lines == golden.read_text(encoding="utf-8"), f"if the change is meant, write the new list to {golden}"


def test_the_paper_settings_are_upstreams_hyper_parameters() -> None:
    keys = as_dict(overrides(PAPER))
    wanted = {
        "algorithm.adv_estimator": "grpo",
        "data.train_batch_size": "256",
        "actor_rollout_ref.actor.ppo_mini_batch_size": "128",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": "8",
        "actor_rollout_ref.rollout.n": "8",
        "actor_rollout_ref.actor.optim.lr": "3e-07",
        "actor_rollout_ref.actor.kl_loss_coef": "0.01",
        "actor_rollout_ref.actor.kl_loss_type": "low_var_kl",
        "actor_rollout_ref.actor.entropy_coeff": "0.0",
        "data.max_prompt_length": "4096",
        "data.max_response_length": "8192",
        "actor_rollout_ref.rollout.tensor_model_parallel_size": "2",
        "actor_rollout_ref.rollout.gpu_memory_utilization": "0.6",
        "trainer.save_freq": "5",
        "trainer.test_freq": "1",
        "trainer.total_epochs": "1",
    }
    assert {key: keys[key] for key in wanted} == wanted


def test_the_reward_function_is_set_by_the_name_that_this_verl_reads() -> None:
    keys = as_dict(overrides(RlSettings.demo(), "cpu"))
    assert keys["reward.custom_reward_function.name"] == "compute_score"
    assert not any(key.lstrip("+").startswith("custom_reward_function") for key in keys)


def test_the_cpu_platform_is_used_on_cpus_only() -> None:
    on_gpu, on_cpu = overrides(PAPER), overrides(RlSettings.demo(), "cpu")
    assert not any("proxygrm.rl.cpu" in line for line in on_gpu)
    assert "actor_rollout_ref.model.external_lib=proxygrm.rl.cpu.engine" in on_cpu
    assert "+ray_kwargs.ray_init.runtime_env.env_vars.VERL_PLATFORM=cpu" in on_cpu


def test_numbers_in_the_environment_stay_strings() -> None:
    keys = as_dict(overrides(RlSettings.demo(), "cpu"))
    assert keys["+ray_kwargs.ray_init.runtime_env.env_vars.OMP_NUM_THREADS"] == "'1'"


def test_no_secret_is_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWANLAB_API_KEY", "very-secret")
    assert "very-secret" not in json.dumps(job_environment(device="cpu", output=Path("/runs/rl")))


@pytest.mark.parametrize("address", ["auto", "", "10.0.0.1", "local"])
def test_an_address_without_host_and_port_is_refused(address: str) -> None:
    with refused("ray.bad-address", address=address):
        overrides(RlSettings.demo(), "cpu", ray_address=address)


def test_every_module_and_class_that_verl_loads_by_name_exists() -> None:
    lines = [*overrides(RlSettings.demo(), "cpu"), *overrides(PAPER), AGENT_LOOPS.read_text()]
    names = {name for line in lines for name in re.findall(r"\bproxygrm(?:\.\w+)+", line)}
    assert len(names) >= 8, names
    for name in names:
        path = ROOT / name.replace(".", "/")
        if not path.with_suffix(".py").exists():  # module.attribute
            assert re.search(rf"^(class|def) {path.name}\b", path.parent.with_suffix(".py").read_text(), re.M), name


def test_a_single_rollout_is_not_a_group() -> None:
    with refused("settings.out-of-range", name="n", value=1):
        RlSettings(n=1)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"kl_loss_type": "low_kl"}, "settings.unknown-value"),
        ({"attn_implementation": "flesh"}, "settings.unknown-value"),
        ({"learning_rate": -1e-6}, "settings.out-of-range"),
        ({"train_batch_size": 0, "ppo_mini_batch_size": 0}, "settings.out-of-range"),
        ({"temperature": 0.0}, "settings.out-of-range"),
        ({"kl_loss_coef": -0.1}, "settings.out-of-range"),
        ({"save_steps": 0}, "settings.out-of-range"),
        ({"num_train_epochs": 0}, "settings.out-of-range"),
        ({"max_steps": 0}, "settings.out-of-range"),
        ({"tensor_parallel_size": 0}, "settings.out-of-range"),
        ({"reward_num_workers": 0}, "settings.out-of-range"),
        ({"gpu_memory_utilization": 1.2}, "settings.out-of-range"),
    ],
)
def test_a_value_that_would_only_fail_in_the_job_is_refused_before(change: dict[str, Any], code: str) -> None:
    name, value = next(iter(change.items()))
    with refused(code, name=name, value=value):
        dataclasses.replace(PAPER, **change)


def test_a_learning_rate_that_is_not_a_number_is_refused() -> None:
    with refused("settings.out-of-range", name="learning_rate"):
        dataclasses.replace(PAPER, learning_rate=float("nan"))


@pytest.mark.parametrize("aggregation", ["bonsu", "11"])
def test_an_unknown_aggregation_is_refused_before_the_job(aggregation: str) -> None:
    with refused("reward.unknown-aggregation", name=aggregation):
        dataclasses.replace(PAPER, reward=ProxyAgreement(aggregation=aggregation))


def test_upstream_s_numbers_and_verl_s_kl_types_are_accepted() -> None:
    for number in (*range(11), "bonus"):
        dataclasses.replace(PAPER, reward=ProxyAgreement(aggregation=str(number)))
    for kind in ("low_var_kl", "k3+", "mse"):
        dataclasses.replace(PAPER, kl_loss_type=kind, kl_loss_coef=0.0)


def test_a_batch_that_is_not_a_multiple_of_the_mini_batch_is_refused() -> None:
    with refused("rl.indivisible-batch", batch=10, mini_batch=4):
        RlSettings(train_batch_size=10, ppo_mini_batch_size=4)


def test_too_few_rows_for_one_batch_are_refused_before_anything_starts() -> None:
    with refused("rl.too-few-rows", rows=100, batch=256):
        PAPER.check_against(rows=100, devices=8)


def test_devices_that_cannot_share_a_batch_are_refused() -> None:
    settings = dataclasses.replace(RlSettings.demo(), train_batch_size=2, ppo_mini_batch_size=2, n=2)
    with refused("rl.indivisible-devices", devices=3):
        settings.check_against(rows=100, devices=3)


COMPOSE = """
import json, sys, warnings
warnings.filterwarnings("ignore")
from pathlib import Path
from typing import Any
import verl.trainer
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config
found = []
for overrides in json.load(sys.stdin):
    with initialize_config_dir(str(Path(verl.trainer.__file__).parent / "config"), version_base=None):
        config = compose("ppo_trainer", overrides)
    OmegaConf.resolve(config)
    validate_config(config, need_reference_policy(config), need_critic(config))
    found.append(OmegaConf.to_container(config))
print("CONFIGS", json.dumps(found))
"""


@pytest.mark.heavy
def test_verl_composes_and_accepts_the_paper_and_the_demo_settings() -> None:
    # The second line is the demo in a folder whose name has everything Hydra's grammar acts on.
    awkward = "/runs/it's {a}, [b] = \\ c: $d"
    early = dataclasses.replace(PAPER, reward=ProxyAgreement(early_rubric=True))
    lists = [overrides(PAPER), overrides(RlSettings.demo(), "cpu", output=awkward), overrides(early)]
    run = subprocess.run(
        [sys.executable, "-c", COMPOSE], input=json.dumps(lists), capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    paper, demo, early_on = json.loads(run.stdout.split("CONFIGS ", 1)[1])
    assert early_on["actor_rollout_ref"]["rollout"]["agent"]["default_agent_loop"] == "early_rubric"
    assert paper["reward"]["custom_reward_function"]["path"] == "pkg://proxygrm.rl.plugins.reward_fn"
    assert paper["actor_rollout_ref"]["rollout"]["max_model_len"] == 4096 + 8192
    assert paper["actor_rollout_ref"]["actor"]["optim"]["lr"] == 3e-7
    assert demo["trainer"]["default_local_dir"] == f"{awkward}/checkpoints"
    assert demo["reward"]["custom_reward_function"]["reward_kwargs"]["options"] == f"{awkward}/reward_options.json"
    assert demo["ray_kwargs"]["ray_init"]["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(
    "settings",
    [
        RlSettings.paper(),
        RlSettings.demo(),
        RlSettings(ppo_micro_batch_size_per_gpu=16, train_batch_size=10, ppo_mini_batch_size=10),
    ],
)
def test_on_any_number_of_devices_every_share_is_a_number_of_full_passes(settings: RlSettings) -> None:
    """Three nodes of eight GPUs get 42 rollouts each: passes of 8 would stop verl minutes into the run."""
    for devices in [*range(1, 9), 16, 24, 32, 40, 56, 64, 120]:
        try:
            fitted = settings.fitted(devices)
        except UserError:
            assert settings.ppo_mini_batch_size * settings.n < devices * settings.n
            continue
        share, rest = divmod(fitted.ppo_mini_batch_size * fitted.n, devices)
        assert rest == 0
        assert share % fitted.ppo_micro_batch_size_per_gpu == 0
        assert 1 <= fitted.ppo_micro_batch_size_per_gpu <= settings.ppo_micro_batch_size_per_gpu
        assert fitted.train_batch_size % fitted.ppo_mini_batch_size == 0
    assert RlSettings.paper().fitted(24).ppo_micro_batch_size_per_gpu == 7
    assert RlSettings.paper().fitted(8) == RlSettings.paper()


@pytest.mark.parametrize("trusted", [False, True])
def test_verl_gets_whether_to_run_code_of_the_checkpoint(trusted: bool) -> None:
    keys = as_dict(overrides(dataclasses.replace(PAPER, trust_remote_code=trusted)))
    trust = {name: value for name, value in keys.items() if "trust_remote_code" in name}
    names = ("actor_rollout_ref.model.trust_remote_code", "data.trust_remote_code")
    assert trust == dict.fromkeys(names, str(trusted))
