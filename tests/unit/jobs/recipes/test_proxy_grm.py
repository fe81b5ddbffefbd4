"""The recipes as chains: what they need, whether the shipped profiles can run them, and the scripts they send."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from jobs.engine.check import missing_inputs
from jobs.engine.plan import Facts, Planned, plan, within_limits
from jobs.engine.request import Request
from jobs.engine.stage import StageRun
from jobs.engine.submit import rendered
from jobs.recipes import resolve
from jobs.recipes.proxy_grm import RECIPE, chain, paper
from jobs.stages.data import served_teacher
from jobs.stages.measuring import benchmarks
from proxygrm.core.errors import UserError
from slurm import profile
from support.refusals import refused

RECIPE_FILE = Path(__file__).parents[4] / "jobs" / "recipes" / "proxy_grm.py"
GOLDEN = Path(__file__).parents[3] / "golden"


def test_the_recipe_to_read_first_stays_short() -> None:
    assert len(RECIPE_FILE.read_text().splitlines()) <= 250


@pytest.mark.parametrize("name", RECIPE.presets)
def test_every_preset_is_the_same_chain(name: str) -> None:
    x = RECIPE.presets[name]()
    edges = {stage.name: {parent.name for parent in stage.upstream()} for stage in chain(x)}
    drawn = [] if name == "paper" else [f"benchmarks_{bench}" for bench in benchmarks.WITH_IMAGES]
    assert edges == {
        "distill": set(),
        "split": {"distill"},
        "proxy_sft": {"split"},
        "grm_sft": {"split"},
        "grm_rl": {"split", "proxy_sft", "grm_sft"},
        "evaluate": {"proxy_sft", "grm_sft", "grm_rl"},
        "transfer": {"evaluate"} if x.transfer.judge else {"evaluate", "proxy_sft"},
        **{stage: {"grm_sft", "grm_rl"} for stage in drawn},
        "report": {"evaluate", "transfer", *drawn},
    }


@pytest.mark.parametrize(
    ("choice", "stages", "judge"),
    [
        ("sft", {"proxy_sft"}, "proxy_sft"),
        ("rl", {"proxy_rl"}, "proxy_rl"),
        ("sft+rl", {"proxy_sft", "proxy_rl"}, "proxy_rl"),
    ],
)
def test_the_proxy_is_trained_as_chosen_and_the_other_way_needs_no_other_split(
    choice: str, stages: set[str], judge: str
) -> None:
    found = {stage.name: stage for stage in resolve(Request(assignments=(f"proxy_training={choice}",))).stages}
    assert found.keys() & {"proxy_sft", "proxy_rl"} == stages
    assert {parent.name for parent in found["grm_rl"].upstream()} == {"split", judge, "grm_sft"}
    assert judge in {parent.name for parent in found["evaluate"].upstream()}
    default = {stage.name: stage for stage in resolve(Request()).stages}
    assert found["split"].fingerprint() == default["split"].fingerprint()
    if judge == "proxy_rl":
        settings = found["proxy_rl"].config
        assert (settings.reward.kind, settings.services) == ("proxy_verdict", {})
        start = {parent.name for parent in found["proxy_rl"].upstream()}
        assert start == {"split"} | (stages - {"proxy_rl"})


def test_lora_is_merged_before_anything_else_takes_the_model(tmp_path: Path) -> None:
    stages = resolve(Request(assignments=("grm_sft.tuner_type=lora", "proxy_sft.tuner_type=lora"))).stages
    found = {stage.name: stage for stage in stages}
    for name, user in (("grm_sft", "grm_rl"), ("proxy_sft", "evaluate")):
        assert [made.path for made in found[name].makes] == ["adapter", "best"]
        assert {parent.name for parent in found[f"{name}_merge"].upstream()} == {name}
        assert [made.path for made in found[f"{name}_merge"].makes] == ["model"]
        assert f"{name}_merge" in {parent.name for parent in found[user].upstream()}
        assert name not in {parent.name for parent in found[user].upstream()}


def test_an_evaluation_in_shards_is_an_array_and_a_small_job_that_merges() -> None:
    found = {stage.name: stage for stage in resolve(Request(assignments=("evaluate.shards=3",))).stages}
    assert list(found)[5:8] == ["evaluate_shards", "evaluate", "transfer"]
    shards, merged = found["evaluate_shards"], found["evaluate"]
    assert (shards.array, merged.array) == (3, 1)
    assert {parent.name for parent in shards.upstream()} == {"proxy_sft", "grm_sft", "grm_rl"}
    assert "evaluate_shards" in {parent.name for parent in merged.upstream()}
    assert (shards.on.gpus_per_node, merged.on.gpus_per_node) == (1, 0)
    assert merged.makes == resolve(Request()).stages[5].makes
    with refused("settings.out-of-range", name="shards", value=0):
        resolve(Request(assignments=("evaluate.shards=0",)))


def test_an_argument_that_ms_swift_does_not_have_is_refused_before_anything_is_sent() -> None:
    found = {stage.name: stage for stage in resolve(Request(assignments=("grm_sft.extra_args=lora_droput=1",))).stages}
    with refused("sft.unknown-argument", name="lora_droput"):
        found["grm_sft"].validate(found["grm_sft"], profile.load("local"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("distill.shards=0", "teacher: shards is 0; it must be at least 1"),
        ("grm_rl.proxy_nodes=-1", "proxy_nodes is -1"),
        ("distill.concurrency=0", "teacher: concurrency is 0"),
        ("distill.max_tokens=32000", "leaves no room for a prompt"),
        ("distill.fog_error_rate=1.5", "a share between 0 and 1"),
        ("split.grm_rl=-1", "split: grm_rl is -1"),
        ("grm_rl.proxy.call_timeout_s=0", "proxy: call_timeout_s is 0.0; it must be above 0"),
        ("grm_rl.proxy.max_pixels=-1", "max_pixels is -1"),
        ("evaluate.gpu_memory_utilization=0", "evaluation: gpu_memory_utilization is 0.0"),
        ("evaluate.max_pairs=-5", "max_pairs is -5"),
        ("grm_rl.on.nodes=0", "resources: nodes is 0"),
        ("split.on.gpus_per_node=-1", "gpus_per_node is -1"),
        ("grm_rl.reward.aggregation=bonsu", "did you mean 'bonus'"),
        ("grm_rl.aggregation=bonus", "did you mean grm_rl.reward.aggregation?"),
        ("grm_rl.early_rubric=true", "did you mean grm_rl.reward.early_rubric?"),
        ("grm_rl.reward=proxy_agrement", "did you mean 'proxy_agreement'?"),
        (
            "grm_rl.attn_implementation=flesh",
            "attn_implementation is 'flesh'; it must be one of auto, flash",
        ),
    ],
)
def test_a_number_out_of_its_bounds_is_refused_with_its_name(change: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(Request(profile="h100", assignments=(change,)))
    assert said in str(caught.value)


def test_a_way_of_training_the_proxy_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match=r"proxy_training.*sft"):
        resolve(Request(assignments=("proxy_training=dpo",)))


@pytest.mark.parametrize("site", ["a100", "h100"])
@pytest.mark.parametrize("nodes", [2, 4, 16])
def test_the_published_recipe_fits_the_shipped_profiles(site: str, nodes: int) -> None:
    resolved = resolve(Request(profile=site, nodes=nodes))
    assert [within_limits(stage, resolved.profile) for stage in resolved.stages] == [None] * 8


@pytest.mark.parametrize(
    ("site", "nodes", "change", "said"),
    [
        ("h100", 1, "grm_rl.n=8", "one node with 8 GPUs cannot hold the trainer and 8 GPUs of proxy"),
        ("local", 1, "grm_rl.n=8", "one node with 1 GPUs cannot hold the trainer and 1 GPUs of proxy"),
        ("h100", 4, "grm_rl.proxy_nodes=4", "4 proxy nodes of 4 nodes leave none to train"),
        ("h100", 4, "grm_rl.proxy_nodes=0", "2 replicas of 4 GPUs do not fit on the proxy's GPUs"),
        ("h100", 4, "grm_rl.proxy.replicas=3", "3 replicas of 4 GPUs do not fit"),
        ("h100", 2, "grm_rl.tensor_parallel_size=3", "not a multiple of tensor_parallel_size 3"),
        ("h100", 2, "grm_rl.ppo_mini_batch_size=1", None),
        ("h100", 16, "grm_rl.ppo_mini_batch_size=1", "cannot be shared by 120 devices"),
        ("h100", 1, "grm_rl.proxy.replicas=1", None),
        ("h100", 1, "grm_rl.reward=accuracy", None),
        ("h100", 2, "distill.tensor_parallel_size=16", "distill on 1 node x 8 GPU: it serves a model on 16 GPUs"),
        ("h100", 2, "evaluate.tensor_parallel_size=2", "evaluate on 1 node x 1 GPU: it serves a model on 2 GPUs"),
        ("h100", 2, "transfer.tensor_parallel_size=2", "transfer on 1 node x 1 GPU: it serves a model on 2 GPUs"),
        ("h100", 2, "distill.on.nodes=2", "one node; more machines share the work by `shards`"),
        ("h100", 2, "evaluate.on.nodes=2", "evaluate on 2 nodes x 1 GPU: it works on one node"),
        ("h100", 2, "transfer.on.nodes=3", "only SFT and RL spread over several"),
        ("h100", 2, "proxy_rl.on.gpus_per_node=0", "proxy_rl on 1 node x 0 GPU: no GPU to train on"),
    ],
)
def test_what_a_job_would_only_find_out_on_its_nodes_is_said_by_the_plan(
    site: str, nodes: int, change: str, said: str | None
) -> None:
    resolved = resolve(Request(profile=site, nodes=nodes, assignments=("proxy_training=sft+rl", change)))
    found = [text for stage in resolved.stages if (text := within_limits(stage, resolved.profile))]
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_the_published_hyper_parameters_are_upstream_s(tmp_path: Path) -> None:
    x = paper()
    rl, proxy = x.grm_rl, x.grm_rl.proxy
    assert (rl.train_batch_size, rl.ppo_mini_batch_size, rl.n) == (256, 128, 8)
    assert (rl.learning_rate, rl.kl_loss_coef) == (3e-7, 0.01)
    assert (x.grm_sft.learning_rate, x.grm_sft.max_length, x.grm_sft.max_pixels) == (5e-6, 8192, 1003520)
    assert (x.split.proxy_sft, x.split.grm_sft, x.split.grm_rl) == (5_000, 10_000, 35_000)
    assert proxy
    assert (proxy.max_num_seqs, proxy.tensor_parallel_size) == (64, 4)
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 128000, "num_attention_heads": 28}')
    served = proxy.fitted(tmp_path, "cuda")
    assert (served.max_model_len, served.max_tokens) == (32000, 16384)


def test_a_teacher_elsewhere_is_asked_for_the_model_it_serves(tmp_path: Path) -> None:
    asked = ("distill.teacher=https://host/v1", "distill.teacher_model=qwen3-vl", "distill.api_key_file=/home/me/key")
    resolved = resolve(Request(profile="h100", assignments=asked))
    stage = resolved.stages[0]
    run = StageRun(stage, tmp_path, resolved.profile, {}, lambda done, total, note: None)
    with served_teacher.called(run, served_teacher.RuleBased("", "")) as found:
        assert found == ("https://host/v1", "qwen3-vl", "/home/me/key")
    assert "teacher" not in stage.needs


@pytest.mark.parametrize("name", RECIPE.presets)
def test_a_proxy_that_is_evaluated_may_write_as_much_as_in_training(name: str) -> None:
    x = RECIPE.presets[name]()
    assert x.grm_rl.proxy
    learnt = min(x.distill.max_tokens, x.grm_rl.proxy.max_tokens)  # its SFT repeats the teacher's evaluations
    assert min(x.evaluate.proxy_max_tokens, x.transfer.proxy_max_tokens) >= learnt


def test_nodes_speak_of_the_rl_stage_alone() -> None:
    on = {stage.name: stage.on.nodes for stage in resolve(Request(profile="h100", nodes=4)).stages}
    assert on == dict.fromkeys(on, 1) | {"grm_rl": 4}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Request(recipe="proxy_grm:papr"), "did you mean 'paper'"),
        (Request(profile="h100", assignments=("grm_rl.learning=1",)), "there is no setting 'learning'"),
        (Request(profile="nowhere"), "there is no cluster profile 'nowhere'"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_line(request_: Request, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        resolve(request_)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["distill", "grm_rl"])
def test_the_h100_scripts_are_the_golden_ones(name: str) -> None:
    resolved = resolve(Request(profile="h100", nodes=4))
    planned = plan(resolved.stages, {stage.name: Facts("not done yet") for stage in resolved.stages})
    line: Planned = next(p for p in planned if p.stage.name == name)
    script = rendered([line], profile.load("h100"), Path("/shared/runs/first run"), {"split": "11", "grm_sft": "13"})
    golden = GOLDEN / f"h100_{name}.sbatch"
    steady = re.sub(r"/code/[0-9a-f]{12}", "/code/ID", script.replace(sys.executable, "PYTHON"))
    assert steady == golden.read_text()


@pytest.mark.parametrize(
    ("judge", "called", "seen"),
    [
        ("", "proxy", True),
        ("Qwen/Qwen2.5-VL-3B-Instruct", "Qwen2.5-VL-3B-Instruct", False),
        ("/m/my judge!/", "my-judge", False),
        ("/", "judge", False),
    ],
)
def test_the_transfer_table_calls_its_judge_by_name_and_knows_when_it_is_the_proxy(judge, called, seen) -> None:  # type: ignore[no-untyped-def]
    (stage,) = [s for s in resolve(Request(assignments=(f"transfer.judge={judge}",))).stages if s.name == "transfer"]
    assert (stage.config.judge_name, stage.config.seen) == (called, seen)
    needed = {parent.name for parent in stage.upstream()}
    assert needed == ({"evaluate", "proxy_sft"} if seen else {"evaluate"})


def test_only_a_missing_model_may_be_one_to_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    lines = [found.text for found in missing_inputs(resolve(Request(profile="h100")).stages)]
    assert any("`hf download Qwen/Qwen2.5-VL-7B-Instruct`" in line for line in lines)
    assert [line for line in lines if "hf download data/" in line] == []
