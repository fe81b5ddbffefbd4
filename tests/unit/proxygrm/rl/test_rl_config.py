"""Hyper-parameters of the RL stage and verl's overrides written from them."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxygrm.core.checkpoints.attention import FLASH
from proxygrm.core.errors import UserError
from proxygrm.rl.config import RlSettings
from proxygrm.rl.overrides import job_environment
from support.rl.verl_overrides import as_dict, overrides

GOLDEN = Path(__file__).parents[3] / "golden"


PAPER = dataclasses.replace(RlSettings.paper(), attention=FLASH)


def test_the_papers_overrides_are_the_ones_we_reviewed(request: pytest.FixtureRequest) -> None:
    found = "\n".join(overrides(PAPER)) + "\n"
    golden = GOLDEN / "verl_paper_overrides.txt"
    assert found == golden.read_text(encoding="utf-8"), f"if the change is meant, write the new list to {golden}"


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


def test_the_reward_function_stands_where_this_verl_reads_it() -> None:
    keys = as_dict(overrides(RlSettings.demo(), "cpu"))
    assert keys["reward.custom_reward_function.name"] == "compute_score"
    assert not any(key.lstrip("+").startswith("custom_reward_function") for key in keys)


def test_the_cpu_platform_is_asked_for_on_cpus_only() -> None:
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
    with pytest.raises(UserError, match="HOST:PORT"):
        overrides(RlSettings.demo(), "cpu", ray_address=address)


def test_a_single_rollout_is_no_group() -> None:
    with pytest.raises(UserError, match="at least 2"):
        RlSettings(n=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"aggregation": "bonsu"}, "did you mean 'bonus'"),
        ({"aggregation": "11"}, "0 to 10"),
        ({"kl_type": "low_kl"}, "kl_type is 'low_kl'; it is one of low_var_kl"),
        ({"lr": -1e-6}, "lr is -1e-06; it must be above 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"batch": 0, "mini_batch": 0}, "batch is 0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"kl_coefficient": -0.1}, "kl_coefficient is -0.1; it must be at least 0"),
        ({"save_every": 0}, "save_every is 0; it must be at least 1"),
        ({"epochs": 0}, "epochs is 0"),
        ({"total_steps": 0}, "total_steps is 0; it must be at least 1, or none"),
        ({"rollout_tensor_parallel": 0}, "rollout_tensor_parallel is 0"),
        ({"reward_workers": 0}, "reward_workers is 0"),
        ({"gpu_memory_utilisation": 1.2}, "gpu_memory_utilisation is 1.2; it is a share"),
    ],
)
def test_a_value_that_could_only_fail_in_the_job_is_refused_before(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        dataclasses.replace(PAPER, **change)
    assert said in str(caught.value)


def test_upstream_s_numbers_and_verl_s_kl_types_are_taken() -> None:
    for number in (*range(11), "bonus"):
        dataclasses.replace(PAPER, aggregation=str(number))
    for kind in ("low_var_kl", "k3+", "mse"):
        dataclasses.replace(PAPER, kl_type=kind, kl_coefficient=0.0)


def test_a_batch_that_no_mini_batch_divides_is_refused() -> None:
    with pytest.raises(UserError, match="multiple of mini_batch"):
        RlSettings(batch=10, mini_batch=4)


def test_too_few_rows_for_one_batch_are_refused_before_anything_starts() -> None:
    with pytest.raises(UserError, match="do not fill one batch"):
        PAPER.check_against(rows=100, devices=8)


def test_devices_that_cannot_share_a_batch_are_refused() -> None:
    settings = dataclasses.replace(RlSettings.demo(), batch=2, mini_batch=2, n=2)
    with pytest.raises(UserError, match="cannot be shared"):
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
    early = dataclasses.replace(PAPER, early_rubric=True)
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
    "settings", [RlSettings.paper(), RlSettings.demo(), RlSettings(micro_batch=16, batch=10, mini_batch=10)]
)
def test_on_any_number_of_devices_every_share_is_whole_passes(settings: RlSettings) -> None:
    """Three nodes of eight GPUs get 42 rollouts each: passes of 8 would stop verl minutes into the run."""
    for devices in [*range(1, 9), 16, 24, 32, 40, 56, 64, 120]:
        try:
            fitted = settings.fitted(devices)
        except UserError:
            assert settings.mini_batch * settings.n < devices * settings.n
            continue
        share, rest = divmod(fitted.mini_batch * fitted.n, devices)
        assert rest == 0
        assert share % fitted.micro_batch == 0
        assert 1 <= fitted.micro_batch <= settings.micro_batch
        assert fitted.batch % fitted.mini_batch == 0
    assert RlSettings.paper().fitted(24).micro_batch == 7
    assert RlSettings.paper().fitted(8) == RlSettings.paper()


@pytest.mark.parametrize("trusted", [False, True])
def test_verl_is_told_whether_to_run_code_of_the_checkpoint(trusted: bool) -> None:
    keys = as_dict(overrides(dataclasses.replace(PAPER, trust_remote_code=trusted)))
    told = {name: value for name, value in keys.items() if "trust_remote_code" in name}
    names = ("actor_rollout_ref.model.trust_remote_code", "data.trust_remote_code")
    assert told == dict.fromkeys(names, str(trusted))
