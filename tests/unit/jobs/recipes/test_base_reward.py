"""The recipe of scalar reward models as a chain: its stages and edges, its settings, its ablations."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.engine import sweep
from jobs.engine.request import Request, Resolved
from jobs.recipes import read_spec, resolve, shipped
from jobs.recipes.base_reward import RECIPE, chain, paper
from jobs.stages.measuring import benchmarks
from proxygrm.core.settings import with_assignments
from support.refusals import refused

DRAWN = [f"benchmarks_{bench}" for bench in benchmarks.WITH_IMAGES]


def resolved(preset: str, *assignments: str) -> Resolved:
    return resolve(Request(recipe=f"base-reward:{preset}", assignments=assignments))


def edges(found: Resolved) -> dict[str, set[str]]:
    return {stage.name: {parent.name for parent in stage.upstream()} for stage in found.stages}


@pytest.mark.parametrize("preset", ["demo", "quick"])
def test_one_backbone_is_trained_and_scored(preset: str) -> None:
    assert edges(resolved(preset)) == {
        "preferences": set(),
        "train_1": {"preferences"},
        "evaluate": {"train_1"},
        **{stage: {"train_1"} for stage in DRAWN},
        "ensemble": {"evaluate", *DRAWN},
        "export": {"train_1", "preferences", "ensemble"},
        "report": {"ensemble", "export"},
    }


def test_the_paper_trains_two_backbones_on_a_mixture() -> None:
    assert edges(resolved("paper")) == {
        "mix": set(),
        "preferences": {"mix"},
        "train_1": {"preferences"},
        "train_2": {"preferences"},
        "evaluate": {"train_1", "train_2"},
        "ensemble": {"evaluate"},
        "export": {"train_1", "train_2", "preferences", "ensemble"},
        "report": {"ensemble", "export"},
    }
    train = paper().train
    gpus = train.on.nodes * train.on.gpus_per_node
    assert train.per_device_train_batch_size * train.gradient_accumulation_steps * gpus == 128
    assert (train.learning_rate, train.reward_model.layers, train.reward_model.activation) == (3e-6, 2, "silu")


def test_weights_by_accuracy_are_taken_from_pairs_held_off_from_training() -> None:
    found = edges(resolved("paper", "ensemble.weights=accuracy"))
    assert found["weigh"] == {"preferences", "train_1", "train_2"}
    assert found["ensemble"] == {"evaluate", "weigh"}
    with refused("settings.contradiction", name="ensemble.weights", value="margin"):
        resolved("paper", "ensemble.weights=margin", "preferences.validation=0")
    with refused("settings.unknown-value", name="weights"):
        resolved("paper", "ensemble.weights=loudest")


def test_other_weights_change_nothing_but_the_ensemble_and_what_shows_it() -> None:
    one = {s.name: s.fingerprint() for s in resolved("paper").stages}
    other = {s.name: s.fingerprint() for s in resolved("paper", "ensemble.weights=standardised").stages}
    assert {name for name in one if one[name] != other[name]} == {"ensemble", "export", "report"}


def test_adapters_are_merged_before_they_score() -> None:
    found = edges(resolved("paper", "train.tuner_type=lora"))
    assert found["evaluate"] == {"train_1_merge", "train_2_merge"}


def test_shards_judge_the_held_out_pairs_and_the_benchmarks() -> None:
    found = edges(resolved("demo", "evaluate.shards=2", "benchmarks.shards=2"))
    assert "evaluate_shards" in found["evaluate"]
    assert found["ensemble"] == {"evaluate", *DRAWN}


@pytest.mark.parametrize("backbones", ["", "a/x,b/x"])
def test_backbones_without_a_name_of_their_own_are_refused(backbones: str) -> None:
    with refused("settings.contradiction", name="backbones"):
        resolved("demo", f"backbones={backbones}")


@pytest.mark.parametrize(
    "setting", ["evaluate.orders=both", "benchmarks.orders=both", "evaluate.judge=some/proxy", "evaluate.contract=r1"]
)
def test_settings_of_models_that_write_are_refused(setting: str) -> None:
    name, _, value = setting.partition("=")
    with refused("settings.contradiction", name=name, value=value):
        resolved("demo", setting)


def test_a_name_that_the_stages_use_themselves_is_refused() -> None:
    with refused("eval.bad-name"):
        resolved("demo", "backbones=models/held_out,models/other")


def test_the_ablations_train_and_evaluate_each_cell_on_the_same_rows() -> None:
    specs = {spec.name: spec for spec in shipped(RECIPE)}
    assert set(specs) == {"head", "regularisation", "backbone"}
    for spec in specs.values():
        stages = {stage.name: stage for stage in sweep.stages(RECIPE, paper(), spec.cells, spec.throttle)}
        kinds = [Path(name).name for name in stages if name.startswith("cells/")]
        assert kinds.count("train_1") == kinds.count("evaluate") == len(spec.cells)
        assert set(stages) - {name for name in stages if name.startswith("cells/")} == {"mix", "preferences"}
        trained = [stage.fingerprint() for name, stage in stages.items() if name.endswith("train_1")]
        assert len(set(trained)) == len(trained)
    heads = {
        (model.layers, model.activation)
        for cell in specs["head"].cells
        for model in [with_assignments(paper(), cell.settings).train.reward_model]
    }
    assert {(1, "none"), (2, "none"), (2, "tanh"), (2, "silu"), (5, "silu")} <= heads


def test_an_ablation_of_the_sources_trains_each_cell_on_a_mixture_of_its_own() -> None:
    file = Path(__file__).parents[4] / "docs" / "examples" / "mixture_sources.toml"
    config = with_assignments(paper(), ["backbones=Qwen/Qwen2.5-VL-7B-Instruct"])
    spec = read_spec(RECIPE, str(file))
    stages = {stage.name: stage for stage in sweep.stages(RECIPE, config, spec.cells)}
    rows = {cell.name: stages[f"cells/{cell.name}/train_1"].upstream()[0] for cell in spec.cells}
    mixtures = {name: each.upstream()[0].fingerprint() for name, each in rows.items()}
    assert len(set(mixtures.values())) == len(spec.cells)


def test_the_report_names_every_stage() -> None:
    for preset, more in (("paper", ("train.tuner_type=lora", "ensemble.weights=margin")), ("demo", ())):
        names = {stage.name for stage in chain(with_assignments(RECIPE.presets[preset](), more))}
        assert names <= set(RECIPE.report.stages)
