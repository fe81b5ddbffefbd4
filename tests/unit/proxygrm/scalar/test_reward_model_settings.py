"""Settings of a scalar reward model, how they reach ms-swift, and how its checkpoints are recognised."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxygrm.core.checkpoints.limits import check_servable
from proxygrm.core.checkpoints.scalar import is_scalar_checkpoint, refuse_scalar
from proxygrm.scalar.settings import PLUGIN, VARIABLE, RewardModelSettings
from proxygrm.sft.arguments import by_name, environment, swift_arguments
from proxygrm.sft.merge import _other_plugins, _settings
from proxygrm.sft.settings import SftSettings
from support.refusals import refused

RM = SftSettings(command="rlhf", rlhf_type="rm")


def arguments(settings: SftSettings) -> dict[str, list[str]]:
    return by_name(swift_arguments(settings, Path("/model"), Path("/rows.jsonl"), Path("/out")))


def test_only_a_reward_model_loads_the_plugin_of_the_head() -> None:
    assert arguments(RM)["--external_plugins"][1:] == [str(PLUGIN)]
    assert len(arguments(SftSettings())["--external_plugins"]) == 1
    assert VARIABLE not in environment(SftSettings(), Path("/out"))
    more = replace(RM, extra_args=("external_plugins=/mine.py", "callbacks=mine"))
    assert arguments(more)["--external_plugins"][1:] == [str(PLUGIN), "/mine.py"]
    assert arguments(more)["--callbacks"] == ["save_when_asked", "mine"]


def test_the_options_are_off_by_default_and_reach_ms_swift() -> None:
    default = RewardModelSettings()
    assert (default.center_rewards_coefficient, default.length_normalisation, default.margin) == (0.0, False, 0.0)
    assert "--center_rewards_coefficient" not in arguments(RM)
    options = RewardModelSettings(3, "tanh", 0.01, True, 0.5)
    changed = replace(RM, reward_model=options)
    assert arguments(changed)["--center_rewards_coefficient"] == ["0.01"]
    assert RewardModelSettings.from_environment(environment(changed, Path("/out"))) == options
    assert RewardModelSettings.from_environment({}) == default


@pytest.mark.parametrize(
    ("values", "code", "name"),
    [
        ({"layers": 0}, "settings.out-of-range", "layers"),
        ({"margin": -0.1}, "settings.out-of-range", "margin"),
        ({"center_rewards_coefficient": float("nan")}, "settings.out-of-range", "center_rewards_coefficient"),
        ({"activation": "relu"}, "settings.unknown-value", "activation"),
    ],
)
def test_values_out_of_bounds_are_refused(values: dict[str, Any], code: str, name: str) -> None:
    with refused(code, name=name):
        RewardModelSettings(**values)


def test_settings_of_a_reward_model_are_refused_for_other_trainings() -> None:
    with refused("settings.contradiction", name="reward_model", rlhf_type="dpo"):
        SftSettings(command="rlhf", rlhf_type="dpo", reward_model=RewardModelSettings(layers=1))
    with refused("sft.reserved-argument", name="center_rewards_coefficient"):
        replace(RM, extra_args=("center_rewards_coefficient=0.1",))


@pytest.mark.parametrize(
    ("config", "scalar"),
    [
        ({"architectures": ["Qwen2_5_VLForConditionalGeneration"]}, False),
        ({"architectures": None}, False),
        ({"architectures": ["Qwen2_5_VLForSequenceClassification"]}, True),
        ({"architectures": ["Qwen2ForRewardModel"]}, True),
        ({"architectures": ["Other"], "reward_head": {"layers": 2}}, True),
    ],
)
def test_a_scalar_model_is_recognised_from_its_config(tmp_path: Path, config: dict[str, Any], scalar: bool) -> None:
    assert not is_scalar_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert is_scalar_checkpoint(tmp_path) == scalar
    if scalar:
        with refused("checkpoint.scalar", path=tmp_path):
            refuse_scalar(tmp_path, "a teacher")
        with refused("checkpoint.scalar", path=tmp_path):
            check_servable(tmp_path)
    else:
        refuse_scalar(tmp_path, "a teacher")


def test_the_merge_knows_the_head_of_an_adapter(tmp_path: Path) -> None:
    assert _settings(tmp_path, False) == SftSettings()
    (tmp_path / "reward_model.json").write_text(json.dumps({"layers": 4, "activation": "silu"}))
    assert _settings(tmp_path, True) == replace(RM, trust_remote_code=True, reward_model=RewardModelSettings(layers=4))
    recorded = ["/old/proxygrm/sft/plugin.py", "/old/proxygrm/scalar/plugin.py", "/mine/plugin.py"]
    (tmp_path / "args.json").write_text(json.dumps({"external_plugins": recorded}))
    assert _other_plugins(tmp_path) == ["/mine/plugin.py"]
