"""The recipe R1-Reward as a chain: what needs what, what its settings change, and whether profiles can run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.engine import sweep
from jobs.engine.plan import within_limits
from jobs.engine.request import Request
from jobs.engine.stage import Given, Stage
from jobs.recipes import resolve, shipped
from jobs.recipes.r1_reward import RECIPE, chain, demo, paper
from jobs.stages.measuring import benchmarks
from proxygrm.rewards.consistency import JUDGE
from slurm import profile

DRAWN = [f"benchmarks_{bench}" for bench in benchmarks.WITH_IMAGES]


def stages_of(*assignments: str, preset: str = "paper") -> dict[str, Stage]:
    request = Request(recipe=f"r1-reward:{preset}", assignments=assignments)
    return {stage.name: stage for stage in resolve(request).stages}


@pytest.mark.parametrize("name", RECIPE.presets)
def test_every_preset_is_the_same_chain(name: str) -> None:
    drawn = [] if name == "paper" else DRAWN
    assert {stage.name: {parent.name for parent in stage.upstream()} for stage in chain(RECIPE.presets[name]())} == {
        "distill": set(),
        "split": {"distill"},
        "r1_sft": {"split"},
        "r1_rl": {"split", "r1_sft"},
        "evaluate": {"r1_sft", "r1_rl"},
        **{stage: {"r1_sft", "r1_rl"} for stage in drawn},
        "report": {"evaluate", *drawn},
    }


def test_every_stage_asks_for_r1_s_instruction_and_rl_s_judge_for_the_consistency_question() -> None:
    found = stages_of(preset="demo")
    assert {name: stage.prompts for name, stage in found.items() if stage.prompts} == {
        "distill": ("r1",), "split": ("r1",), "r1_rl": ("consistency",), "evaluate": ("r1",),
        **dict.fromkeys(DRAWN, ("r1",)),
    }  # fmt: skip
    assert {type(need) for need in stages_of()["r1_rl"].needs.values() if isinstance(need, Given)} == {Given}
    assert stages_of()["r1_rl"].needs[f"{JUDGE}.model"] == Given("Qwen/Qwen2.5-VL-7B-Instruct")


def test_the_paper_s_values_are_those_of_its_table() -> None:
    c = paper()
    rl, sft = c.r1_rl, c.r1_sft
    assert (rl.n, rl.train_batch_size, rl.ppo_mini_batch_size, rl.learning_rate, rl.kl_loss_coef) == (
        1,
        256,
        128,
        1e-6,
        0,
    )
    algorithm = rl.algorithm
    assert (algorithm.kind, algorithm.rule, algorithm.limit, algorithm.clip_ratio_c) == (  # type: ignore[attr-defined]
        "stable_reinforce", "paper", 3.0, 1000.0,
    )  # fmt: skip
    assert sft.per_device_train_batch_size * sft.gradient_accumulation_steps * sft.on.gpus_per_node == 256
    assert (c.distill.tries, c.distill.contract) == (3, "r1")


@pytest.mark.parametrize("name", ["h100", "a100"])
def test_the_shipped_profiles_can_run_the_paper_s_preset(name: str) -> None:
    site = profile.load(name)
    for stage in chain(paper()):
        assert within_limits(stage, site) is None, stage.name
        if stage.validate:
            stage.validate(stage, site)


def test_released_rows_replace_the_hard_pairs_in_rl_only() -> None:
    found = stages_of("released=data/r1-reward-rl")
    assert {parent.name for parent in found["r1_rl"].upstream()} == {"released", "r1_sft"}
    assert {parent.name for parent in found["r1_sft"].upstream()} == {"split"}
    assert set(found["released"].needs) == {"pairs"}
    assert found["split"].fingerprint() == stages_of()["split"].fingerprint()


def test_without_rl_the_model_of_the_cold_start_is_the_trained_judge() -> None:
    found = stages_of("training=sft")
    assert "r1_rl" not in found
    assert {parent.name for parent in found["evaluate"].upstream()} == {"r1_sft"}
    assert {"start", "trained"} < set(found["evaluate"].needs)


def test_a_reward_that_asks_no_judge_starts_none() -> None:
    assert JUDGE in stages_of(preset="demo")["r1_rl"].config.services
    without = stages_of("r1_rl.reward=judgement", preset="demo")["r1_rl"]
    assert without.config.services == {}
    assert without.prompts == ()


def test_the_shipped_ablations_train_a_judge_for_each_cell_that_has_rl() -> None:
    specs = {spec.name: spec for spec in shipped(RECIPE)}
    assert {name: len(spec.cells) for name, spec in specs.items()} == {
        "consistency": 3, "filter": 3, "off-policy": 18, "parts": 6,
    }  # fmt: skip
    for spec in specs.values():
        names = [stage.name for stage in sweep.stages(RECIPE, demo(), spec.cells)]
        trained = [name for name in names if name.startswith("cells/") and name.endswith("/r1_rl")]
        assert len(trained) == len(spec.cells) - sum("training=sft" in cell.settings for cell in spec.cells)
        assert sum(name.endswith("/evaluate") for name in names) == len(spec.cells)
        assert names.count("r1_sft") == 1, "made once"
    prints = {
        cell.name: {stage.name: stage.fingerprint() for stage in chain(sweep.settings_of(paper(), cell))}.get("r1_rl")
        for cell in specs["parts"].cells
    }
    assert len(set(prints.values())) == len(prints)
    assert Path(RECIPE.ablations).is_dir()
