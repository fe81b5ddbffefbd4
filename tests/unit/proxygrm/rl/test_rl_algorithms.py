"""Algorithms by name: their options, and whether verl knows what is written from them."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from proxygrm.core.settings import with_assignments
from proxygrm.rl.algorithms import ALGORITHMS
from proxygrm.rl.algorithms.base import ACTOR, CORRECTION, VERL_DEFAULTS
from proxygrm.rl.algorithms.gspo import Gspo
from proxygrm.rl.algorithms.reinforce_plus_plus import ReinforcePlusPlus
from proxygrm.rl.algorithms.stable_reinforce import OPTIONS, StableReinforce
from proxygrm.rl.config import RlSettings
from support.refusals import refused
from support.rl.verl_overrides import overrides

WRITTEN: dict[str, dict[str, object]] = {
    "grpo": {"algorithm.adv_estimator": "grpo"},
    "dr_grpo": {
        "algorithm.adv_estimator": "grpo",
        "algorithm.norm_adv_by_std_in_grpo": False,
        ACTOR + "loss_agg_mode": "seq-mean-token-sum-norm",
    },
    "dapo": {"algorithm.adv_estimator": "grpo", ACTOR + "clip_ratio_high": 0.28},
    "gspo": {
        "algorithm.adv_estimator": "grpo",
        ACTOR + "policy_loss.loss_mode": "gspo",
        ACTOR + "clip_ratio_low": 3e-4,
        ACTOR + "clip_ratio_high": 4e-4,
        ACTOR + "loss_agg_mode": "seq-mean-token-mean",
    },
    "rloo": {"algorithm.adv_estimator": "rloo"},
    "reinforce_plus_plus": {"algorithm.adv_estimator": "reinforce_plus_plus"},
    "stable_reinforce": {
        "algorithm.adv_estimator": "stable_reinforce",
        ACTOR + "clip_ratio_c": 1000.0,
        ACTOR + "loss_agg_mode": "seq-mean-token-mean",
    },
}


def test_every_algorithm_writes_what_differs_from_verl_s_defaults() -> None:
    assert {name: kind().overrides() for name, kind in ALGORITHMS.items()} == WRITTEN
    assert [kind().kind for kind in ALGORITHMS.values()] == list(ALGORITHMS)


def test_an_algorithm_is_chosen_and_its_options_are_set_in_one_go() -> None:
    settings = with_assignments(RlSettings(), ["algorithm.clip_ratio_high=0.3", "algorithm=rloo"])
    assert settings.algorithm == ALGORITHMS["rloo"](clip_ratio_high=0.3)
    lines = overrides(replace(settings, attn_implementation="sdpa"))
    assert {"algorithm.adv_estimator=rloo", f"{ACTOR}clip_ratio_high=0.3"} <= set(lines)


def test_rollout_correction_and_the_baseline_of_reinforce_are_options() -> None:
    algorithm = ReinforcePlusPlus(baseline=True, rollout_is="token", rollout_is_threshold=5.0, gamma=0.99)
    assert algorithm.overrides() == {
        "algorithm.adv_estimator": "reinforce_plus_plus_baseline",
        "algorithm.gamma": 0.99,
        CORRECTION + "rollout_is": "token",
        CORRECTION + "rollout_is_threshold": 5.0,
    }


def test_a_hyphen_in_a_name_is_as_good_as_an_underscore() -> None:
    settings = with_assignments(RlSettings(), ["algorithm=stable-reinforce", "algorithm.limit=inf", "n=1"])
    assert (settings.algorithm.kind, settings.algorithm.limit) == ("stable_reinforce", math.inf)
    assert with_assignments(RlSettings(), ["algorithm=dr-grpo"]).algorithm.kind == "dr_grpo"
    with refused("settings.unknown-name", name="stable-reinforced", near="stable_reinforce"):
        with_assignments(RlSettings(), ["algorithm=stable-reinforced"])


def test_kl_in_the_reward_replaces_the_default() -> None:
    assert StableReinforce(kl_in_reward=0.01).overrides()["algorithm.kl_ctrl.kl_coef"] == 0.01
    lines = overrides(replace(RlSettings(), algorithm=StableReinforce(kl_in_reward=1e-3), attn_implementation="sdpa"))
    assert [line for line in lines if "use_kl_in_reward" in line] == ["algorithm.use_kl_in_reward=True"]


@pytest.mark.parametrize(
    ("assignment", "code", "values"),
    [
        ("algorithm=ppo", "settings.unknown-name", {"name": "ppo", "known": list(ALGORITHMS)}),
        ("algorithm.gamma=0.9", "settings.unknown-name", {"path": "algorithm.gamma"}),
        ("algorithm.clip_ratio_low=0", "settings.out-of-range", {"name": "clip_ratio_low", "value": 0.0}),
        ("algorithm.clip_ratio_low=1.5", "settings.out-of-range", {"name": "clip_ratio_low", "value": 1.5}),
        ("algorithm.clip_ratio_high=nan", "settings.out-of-range", {"name": "clip_ratio_high"}),
        ("algorithm.loss_agg_mode=mean", "settings.wrong-type", {"value": "mean"}),
        ("algorithm.rollout_is=tokens", "settings.wrong-type", {"value": "tokens"}),
        ("algorithm.rollout_is_threshold=-1", "settings.out-of-range", {"name": "rollout_is_threshold"}),
        ("algorithm.bypass_mode=vllm", "settings.wrong-type", {"value": "vllm"}),
    ],
)
def test_a_bad_option_is_refused_by_its_name(assignment: str, code: str, values: dict[str, Any]) -> None:
    with refused(code, **values):
        with_assignments(RlSettings(), [assignment])


def test_what_would_do_nothing_without_the_trainer_s_probabilities_is_refused_with_bypass_mode() -> None:
    assert Gspo(bypass_mode=True).overrides()[CORRECTION + "bypass_mode"] is True
    with refused("settings.contradiction", name="rollout_is", value="token"):
        with_assignments(RlSettings(), ["algorithm.bypass_mode=true", "algorithm.rollout_is=token"])
    with refused("settings.contradiction", name="bypass_mode"):
        StableReinforce(bypass_mode=True)
    assert StableReinforce(bypass_mode=True, max_log_prob_distance=math.inf)


ACCEPT = """
import json, sys, warnings
warnings.filterwarnings("ignore")
from pathlib import Path
import verl.trainer
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from verl.trainer.ppo.core_algos import get_adv_estimator_fn, get_policy_loss_fn
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config
found = []
asked = json.load(sys.stdin)
for overrides in asked["lists"]:
    with initialize_config_dir(str(Path(verl.trainer.__file__).parent / "config"), version_base=None):
        config = compose("ppo_trainer", overrides)
    OmegaConf.resolve(config)
    validate_config(config, need_reference_policy(config), need_critic(config))
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    omega_conf_to_dataclass(config.algorithm)
    get_adv_estimator_fn(config.algorithm.adv_estimator), get_policy_loss_fn(actor.policy_loss.loss_mode)
    found.append({key: OmegaConf.select(config, key) for key in asked["keys"]})
print("CONFIGS", json.dumps(found))
"""


@pytest.mark.heavy
def test_verl_accepts_every_algorithm_and_its_defaults_are_the_ones_we_leave_out() -> None:
    algorithms = [*(kind() for kind in ALGORITHMS.values()), ReinforcePlusPlus(baseline=True, rollout_is="sequence")]
    algorithms += [StableReinforce(kl_in_reward=0.01, gamma=0.9), Gspo(bypass_mode=True)]
    keys = ["algorithm.adv_estimator", *VERL_DEFAULTS]
    settings = replace(RlSettings(), attn_implementation="sdpa")
    lists = [overrides(replace(settings, algorithm=algorithm)) for algorithm in algorithms]
    asked = json.dumps({"lists": lists, "keys": keys})
    plugins = [algorithm.plugin for algorithm in algorithms if algorithm.plugin]
    environment = os.environ | {"VERL_USE_EXTERNAL_MODULES": plugins[0], OPTIONS: "{}"}
    run = subprocess.run(
        [sys.executable, "-c", ACCEPT], input=asked, capture_output=True, text=True, check=False, env=environment
    )
    assert run.returncode == 0, run.stderr[-3000:]
    for algorithm, found in zip(algorithms, json.loads(run.stdout.split("CONFIGS ", 1)[1]), strict=True):
        assert found == VERL_DEFAULTS | algorithm.overrides()
