"""The recipe of a policy's RL as a chain: its stages and edges, its reward model, what a plan refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.engine import sweep
from jobs.engine.request import Request, Resolved
from jobs.engine.stage import Given, Stage
from jobs.recipes import resolve, shipped
from jobs.recipes.policy_rl import RECIPE
from jobs.stages.training import rl
from proxygrm.core.checkpoints.kinds import mark_process
from proxygrm.critique.prompts.process import POLICY, STEP
from proxygrm.serving.services.command import CommandServer
from slurm.profile import Node, Profile
from support.refusals import refused
from support.small_checkpoints import write_checkpoint

CPUS, GPUS = Profile("test", node=Node(device="cpu")), Profile("test", node=Node(device="cuda"))


def resolved(preset: str, *assignments: str) -> Resolved:
    return resolve(Request(recipe=f"policy-rl:{preset}", assignments=assignments))


def stages(preset: str, *assignments: str) -> dict[str, Stage]:
    return {stage.name: stage for stage in resolved(preset, *assignments).stages}


def edges(preset: str, *assignments: str) -> dict[str, set[str]]:
    return {name: {parent.name for parent in stage.upstream()} for name, stage in stages(preset, *assignments).items()}


def checkpoint(folder: Path) -> Path:
    folder.mkdir()
    return write_checkpoint(folder)


def test_the_demo_trains_its_reward_model_and_shows_the_policy_some_answers() -> None:
    quick = {
        "ask": set(),
        "preferences": set(),
        "train_1": {"preferences"},
        "start_sft": {"ask"},
        "rl_policy": {"ask", "start_sft", "train_1"},
        "measure": {"ask", "start_sft", "rl_policy", "train_1"},
        "report": {"ask", "measure"},
    }
    assert edges("quick") == quick
    second = {"train_2": {"preferences"}, "measure": quick["measure"] | {"train_2"}}
    assert edges("demo") == quick | second, "a second judge, which RL does not ask"
    assert stages("demo")["train_1"].config.seed != stages("demo")["train_2"].config.seed


def test_the_paper_starts_from_the_policy_and_takes_a_reward_model_that_is_there() -> None:
    assert edges("paper") == {
        "ask": set(),
        "rl_policy": {"ask"},
        "measure": {"ask", "rl_policy"},
        "report": {"ask", "measure"},
    }
    settings = resolved("paper").settings.rl_policy
    assert (settings.n, settings.train_batch_size, settings.num_train_epochs) == (8, 256, 1)
    assert (settings.algorithm.kind, settings.reward.kind) == ("grpo", "hybrid")


def test_the_demo_s_reward_model_is_the_one_of_base_reward_s_demo(tmp_path) -> None:
    ours, theirs = stages("demo"), {s.name: s for s in resolve(Request(recipe="base-reward:demo")).stages}
    for name in ("preferences", "train_1"):
        assert ours[name].settings() == theirs[name].settings()
        assert ours[name].run == theirs[name].run
        assert set(ours[name].needs) == set(theirs[name].needs)


@pytest.mark.parametrize("reward", ["hybrid", "reward_model"])
def test_a_reward_model_is_a_service_of_the_rl_job(reward: str) -> None:
    found = stages("paper", f"rl_policy.reward={reward}")["rl_policy"]
    service = found.config.services["reward_model"]
    assert isinstance(service, CommandServer)
    assert {"serve-reward", "{model}", "{images}", "{key_file}"} < set(service.command)
    assert found.needs["reward_model.images"] == found.upstream()[0] / "images"
    rl.validate(found, GPUS)


def test_a_model_that_judges_steps_is_asked_for_them_from_questions_to_measurement(tmp_path: Path) -> None:
    judge, writes = checkpoint(tmp_path / "judge"), checkpoint(tmp_path / "writes")
    mark_process(judge, {})
    given = ("reward=reward_model", "reward.steps=true", "servers.auditor=models/auditor", "servers.gpus=2")
    asks = [f"rl_policy.{each}" for each in given]
    found = stages("paper", f"reward_model={judge}", f"second_judge={judge}", *asks)
    assert found["ask"].config.steps
    assert found["measure"].config.steps
    assert POLICY in found["ask"].prompts
    assert {POLICY, STEP} < set(found["measure"].prompts)
    command, needs = found["rl_policy"].config.services["reward_model"].command, found["rl_policy"].needs
    assert command[command.index("--auditor") + 1] == "{auditor}"
    assert "--extractor" not in command
    assert needs["reward_model.auditor"].path == found["measure"].needs["helper.auditor"].path == "models/auditor"

    def check(need: str, stage: str, *more: str) -> None:
        checked = stages("paper", "rl_policy.reward=reward_model", *more)[stage].needs[need]
        assert isinstance(checked, Given)
        checked.check(checked.resolve())

    check("reward_model.model", "rl_policy", f"reward_model={judge}", "rl_policy.reward.steps=true")
    check("reward_model.model", "rl_policy", f"reward_model={writes}", "rl_policy.reward.compares=true")
    unmarked = (f"reward_model={writes}", "rl_policy.servers.kind=process", "rl_policy.reward.steps=true")
    check("reward_model.model", "rl_policy", *unmarked)
    assert stages("paper", *unmarked)["measure"].config.kinds == {"reward": "process"}
    for more in ((), ("rl_policy.reward.compares=true",)):
        with refused("reward.needs-steps", path=judge):
            check("reward_model.model", "rl_policy", f"reward_model={judge}", *more)
    with refused("reward.idle-helper", path=writes):
        check("reward_model.model", "rl_policy", f"reward_model={writes}", "rl_policy.servers.auditor=a")
    with refused("reward.needs-comparison", path=writes):
        check("reward_model.model", "rl_policy", f"reward_model={writes}")
    with refused("reward.needs-steps", path=judge):
        check("judge.second", "measure", f"second_judge={judge}")


def test_its_own_node_is_one_that_does_not_train() -> None:
    found = stages("demo")["rl_policy"]
    rl.validate(found, CPUS)
    with refused("ray.no-training-node"):
        rl.validate(stages("demo", "rl_policy.servers.nodes=2")["rl_policy"], CPUS)
    with refused("service.too-few-gpus", needed=9):
        rl.validate(stages("paper", "rl_policy.servers.gpus=9")["rl_policy"], GPUS)


def test_the_rule_asks_no_reward_model_and_trains_none() -> None:
    found = stages("demo", "rl_policy.reward=answer")
    assert "train_1" not in found
    assert not found["rl_policy"].config.services
    assert not [need for need in found["measure"].needs if need.startswith("judge.")]


def test_a_second_judge_is_asked_after_training_alone() -> None:
    found = stages("paper", "second_judge=models/other")
    assert "judge.second" in found["measure"].needs
    assert not [need for need in found["rl_policy"].needs if "second" in need]
    one, other = stages("paper"), found
    assert one["rl_policy"].fingerprint() == other["rl_policy"].fingerprint()
    assert one["measure"].fingerprint() != other["measure"].fingerprint()


@pytest.mark.parametrize("algorithm", ["grpo", "stable_reinforce"])
def test_the_registry_s_algorithms_are_settings(algorithm: str) -> None:
    assert resolved("paper", f"rl_policy.algorithm={algorithm}").settings.rl_policy.algorithm.kind == algorithm


def test_three_seeds_share_all_but_the_policy_and_what_is_measured() -> None:
    (spec,) = shipped(RECIPE)
    assert [cell.settings for cell in spec.cells] == [(f"rl_policy.seed={seed}",) for seed in (42, 43, 44)]
    made = sweep.stages(RECIPE, RECIPE.settings("demo"), spec.cells, spec.throttle)
    shared = ["ask", "preferences", "train_1", "train_2", "start_sft"]
    assert [stage.name for stage in made if not stage.batch] == shared
    policies = [stage for stage in made if stage.batch == "ablation_rl"]
    assert [stage.config.seed for stage in policies] == [42, 43, 44]
    assert len([stage for stage in made if stage.batch == "ablation_measure"]) == 3
    assert len({stage.config.seed for stage in made if stage.name == "start_sft"}) == 1, "they start from one policy"


def test_a_reward_that_asks_a_reward_model_needs_one() -> None:
    with refused("settings.contradiction", name="reward_model"):
        resolved("paper", "reward_model=", "pairs=")
