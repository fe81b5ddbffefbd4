"""Benchmarks as stages: those that are given, each a stage of its own, scored as `eval score` does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_tools.ingest.benchmark import pairs_of_benchmark
from data_tools.sources.demo_benchmarks import write_demo_benchmarks
from jobs.engine.check import missing_inputs
from jobs.engine.request import Request
from jobs.engine.stage import Stage, StageRun
from jobs.recipes import resolve
from jobs.recipes.proxy_grm import RECIPE, demo
from jobs.stages.measuring import benchmarks
from proxygrm.evaluate.judges.base import made_by
from proxygrm.evaluate.rows.ordered_pair import ordered_pairs
from proxygrm.evaluate.rows.pairs import load_pairs
from proxygrm.evaluate.rows.row_file import RowFile
from slurm import profile
from support.evaluate.runs import call
from support.refusals import refused

MODELS = ("start", "rl")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_demo_benchmarks(folder, 10, seed=0)
    return folder


def given(folder: Path, **options: object) -> list[Stage]:
    """The stages of the three benchmarks in a folder, judged by the checkpoint beside them."""
    settings = replace(benchmarks.Settings.demo(folder), **options)  # type: ignore[arg-type]
    return benchmarks.stages("bench", models=dict.fromkeys(MODELS, str(folder / "model")), settings=settings)


def names_in(*assignments: str) -> list[str]:
    return [stage.name for stage in resolve(Request(recipe="proxy_grm:paper", assignments=assignments)).stages]


def test_only_benchmarks_whose_data_is_given_are_stages() -> None:
    assert not [name for name in names_in() if name.startswith("benchmarks")]
    one = names_in("benchmarks.vl_rewardbench=data/vl")
    assert one[-2:] == ["benchmarks_vl_rewardbench", "report"]
    several = names_in("benchmarks.mm_rlhf_rewardbench=a", "benchmarks.rm_bench=b", "benchmarks.shards=4")
    assert [name for name in several if name.startswith("benchmarks")] == [
        "benchmarks_mm_rlhf_rewardbench_shards",
        "benchmarks_mm_rlhf_rewardbench",
        "benchmarks_rm_bench_shards",
        "benchmarks_rm_bench",
    ]


def test_another_benchmark_changes_no_fingerprint_and_the_page_waits_for_all() -> None:
    def found(*assignments: str) -> dict[str, Stage]:
        stages = resolve(Request(recipe="proxy_grm:paper", assignments=assignments)).stages
        return {stage.name: stage for stage in stages}

    vl = "benchmarks.vl_rewardbench=data/vl"
    one, two = found(vl), found(vl, "benchmarks.mm_rlhf_rewardbench=data/mm", "benchmarks.video_max_pixels=9")
    name = "benchmarks_vl_rewardbench"
    assert one[name].fingerprint() == two[name].fingerprint()
    assert found(vl, "benchmarks.votes=3", "benchmarks.temperature=1")[name].fingerprint() != one[name].fingerprint()
    assert {parent.name for parent in one[name].upstream()} == {"grm_sft", "grm_rl"}
    assert {parent.name for parent in two["report"].upstream()} >= {name, "benchmarks_mm_rlhf_rewardbench"}
    video = two["benchmarks_mm_rlhf_rewardbench"].config
    assert (video.max_model_len, video.max_pixels) == (65536, 9)
    assert (one[name].config.max_model_len, one[name].config.max_pixels) == (0, 0)


def test_an_ablations_cells_judge_no_benchmark() -> None:
    from jobs.engine import sweep

    config = replace(demo(), benchmarks=replace(demo().benchmarks, shards=2))
    cells = (sweep.Cell("c", ("grm_rl.seed=7",)),)
    assert not [stage.name for stage in sweep.stages(RECIPE, config, cells) if "rewardbench" in stage.name]


def test_what_is_not_that_benchmark_is_refused_before_anything_is_sent(drawn: Path, tmp_path: Path) -> None:
    settings = replace(benchmarks.Settings(), vl_rewardbench=str(drawn / "mm_rlhf_rewardbench"))
    (stage,) = benchmarks.stages("bench", models={}, settings=settings)
    (problem,) = missing_inputs([stage])
    assert problem.code == "bench.other-benchmark"
    assert problem.text.startswith("bench_vl_rewardbench needs data at ")
    assert missing_inputs([replace(one, needs={"data": one.needs["data"]}) for one in given(drawn)]) == []


@pytest.mark.parametrize(
    ("options", "code"), [({"tensor_parallel_size": 2}, "stage.too-few-gpus"), ({"shards": 0}, "settings.out-of-range")]
)
def test_settings_that_do_not_fit_are_refused(drawn: Path, options: dict[str, int], code: str) -> None:
    site = profile.load("h100")
    with refused(code):
        for stage in given(drawn, **options):
            assert stage.validate
            stage.validate(stage, site)


def run(stages: list[Stage], run_dir: Path, folder: Path) -> None:
    """The stages as in their jobs. Every answer is there already, the model is right but in every third judgement."""
    for stage in stages:
        inputs = stage.input_paths(run_dir)
        if "answers" not in stage.needs:
            bench = stage.name.removeprefix("bench_").removesuffix("_shards").replace("_", "-")
            pairs = pairs_of_benchmark(bench, inputs["data"], run_dir / stage.name / "pairs", "refuse")
            for model in MODELS:
                file = run_dir / stage.name / "answers" / "models" / model / "raw" / "answers-00001-of-00009.jsonl"
                with RowFile(file, made_by(folder / "model", "grm", stage.config, stage.config.max_tokens)) as answers:
                    for number, shown in enumerate(ordered_pairs(load_pairs(pairs))):
                        verdict = shown.label if number % 3 else 3 - shown.label
                        answers.append({
                            "key": shown.key, "text": f"<answer>{verdict}</answer>", "tokens": 1, "truncated": False,
                            "problem": None,
                        })  # fmt: skip
        for cell in range(stage.array):
            stage.run(StageRun(stage, run_dir, None, inputs, lambda done, total, note: None, cell))


@pytest.mark.needs("swanlab")
@pytest.mark.parametrize("shards", [1, 3])
def test_the_scores_are_those_of_eval_score_and_a_part_of_a_benchmark_is_marked(
    drawn: Path, tmp_path: Path, shards: int
) -> None:
    model = drawn / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text('{"vision_config": {}}')
    run(given(drawn, shards=shards), tmp_path, drawn)
    for name in benchmarks.WITH_IMAGES:
        out = tmp_path / f"bench_{name}"
        summary = json.loads((out / "summary.json").read_text())
        assert list(summary) == list(MODELS)
        words = ("--bench", name, "--answers", out / "rl.jsonl", "--partial", "--json")
        expected = json.loads(call("score", *words))
        assert {key: summary["rl"][key] for key in expected} == expected
        assert (expected["partial"], expected["rows"]) == (True, 10)
        assert expected["notes"][0].startswith("PARTIAL: 10 of ")
        assert 0.5 < expected["overall"] < 0.8


@pytest.mark.needs("swanlab")
def test_a_judge_that_sees_no_images_is_refused_before_it_is_loaded(drawn: Path, tmp_path: Path) -> None:
    blind = tmp_path / "blind"
    blind.mkdir()
    (blind / "config.json").write_text('{"model_type": "qwen2", "hidden_size": 8}')
    settings = replace(benchmarks.Settings(), vl_rewardbench=str(drawn / "vl_rewardbench"))
    (stage,) = benchmarks.stages("bench", models={"start": str(blind)}, settings=settings)
    inputs = stage.input_paths(tmp_path)
    with refused("checkpoint.sees-no-images", path=blind):
        stage.run(StageRun(stage, tmp_path, None, inputs, lambda done, total, note: None))
