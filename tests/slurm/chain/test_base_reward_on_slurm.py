"""The recipe of scalar reward models, shortened, on the local cluster: a mixture of four small sources trains two
architectures, which are scored, put together, exported and shown."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LocalCluster

from data_tools.rows.preference import PreferencePair
from proxygrm.demo.scenes import draw, separate
from support.rows.filter_pairs import folder
from support.scalar_models import build_tiny_qwen2_vl

pytestmark = [pytest.mark.cluster, pytest.mark.heavy]
SPEC = """
[sources.drawn]
pairs = "drawn"
[sources.drawn-too]
pairs = "drawn-too"
cap = 8
[sources.texts]
pairs = "texts"
[sources.more-texts]
pairs = "more-texts"
"""
KEPT = {"drawn": 12, "drawn-too": 8, "texts": 6, "more-texts": 6}
HELD_OUT, IN_BENCHMARK = 6, 8
QWEN_2_5, QWEN_2 = "tiny-qwen2.5-vl", "tiny-qwen2-vl"
MODELS = {QWEN_2_5: "Qwen2_5_VLForConditionalGeneration", QWEN_2: "Qwen2VLForConditionalGeneration"}


def seen(source: str, count: int, first: int) -> tuple[list[PreferencePair], dict[str, bytes]]:
    """Pairs about drawn images, and the images."""
    rng = random.Random(first)
    pairs, images = [], {}
    for number, scene in enumerate(separate("colour", 0)[0][first : first + count]):
        name = f"{source}-{number}"
        images[name] = draw(scene, rng)
        responses = (scene.response(scene.right), scene.response(scene.wrong))[:: 1 if number % 2 else -1]
        label = 1 if number % 2 else 2
        pairs.append(PreferencePair(f"{source}:{number}", source, scene.question, *responses, label, (name,), ""))
    return pairs, images


def texts(source: str, count: int) -> list[PreferencePair]:
    return [
        PreferencePair(f"{source}:{n}", source, f"Is {source} number {n} red?", "It is red.", f"No, {n}.", 1, (), "")
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from data_tools.sources.demo_benchmarks import write_demo_benchmarks
    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    made = tmp_path_factory.mktemp("inputs")
    folder(made / "data" / "drawn", *seen("drawn", 12, 0))
    folder(made / "data" / "drawn-too", *seen("drawn-too", 12, 12))
    folder(made / "data" / "texts", texts("texts", 6))
    folder(made / "data" / "more-texts", texts("more-texts", 6))
    folder(made / "held_out", *seen("held-out", HELD_OUT, 24))
    (made / "four.toml").write_text(SPEC)
    write_demo_benchmarks(made / "benchmarks", IN_BENCHMARK, 0)
    build_tiny_model(made / QWEN_2_5, demo_corpus(0, n=50))
    build_tiny_qwen2_vl(made / QWEN_2_5, made / QWEN_2)
    return made


@pytest.fixture(scope="module")
def done(local_cluster: LocalCluster, inputs: Path) -> Path:
    """The folder of the finished run."""
    settings = {
        "pairs": "",
        "held_out": inputs / "held_out",
        "backbones": ",".join(str(inputs / name) for name in MODELS),
        "mix.spec": inputs / "four.toml",
        "mix.root": inputs / "data",
        "preferences.validation": 6,
        "ensemble.weights": "standardised",
        "benchmarks.vl_rewardbench": inputs / "benchmarks" / "vl_rewardbench",
        "benchmarks.multimodal_rewardbench": "",
        "benchmarks.mm_rlhf_rewardbench": "",
    }
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    run = inputs / "run"
    command = [sys.executable, "-m", "jobs", "submit", "--recipe", "base-reward:quick", "--run", str(run), "--watch"]
    environment = {**os.environ, "PROXYGRM_CLUSTER_DIR": str(local_cluster.folder)}
    ended = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, timeout=1500)
    assert ended.returncode == 0, f"{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
    return run


def test_four_sources_train_two_architectures_that_are_scored_alone_and_together(done: Path) -> None:
    mixed = json.loads((done / "mix" / "pairs" / "mix.json").read_text())["sources"]
    assert {name: source["kept"] for name, source in mixed.items()} == KEPT
    rows = json.loads((done / "preferences" / "report.json").read_text())
    assert sum(rows["train"].values()) + sum(rows["validation"].values()) == sum(KEPT.values())
    assert set(rows["train"]) == set(KEPT)

    summary = json.loads((done / "ensemble" / "summary.json").read_text())
    assert list(summary) == [*MODELS, "ensemble"]
    assert {figures["pairs"] for figures in summary.values()} == {HELD_OUT}
    scores = {
        name: [json.loads(line)["scores"] for line in (done / "ensemble" / f"{name}.jsonl").read_text().splitlines()]
        for name in summary
    }
    assert len({tuple(map(tuple, each)) for each in scores.values()}) == 3
    assert all(math.isfinite(score) for each in scores.values() for pair in each for score in pair)
    bench = json.loads((done / "ensemble" / "vl_rewardbench" / "summary.json").read_text())
    assert {name: (row["rows"], row["partial"]) for name, row in bench.items()} == dict.fromkeys(
        summary, (IN_BENCHMARK, True)
    )


def test_the_models_leave_with_cards_and_score_as_before(done: Path) -> None:
    from proxygrm.scalar.conversation import Item
    from proxygrm.scalar.scorer import Scorer

    for number, (name, architecture) in enumerate(MODELS.items(), 1):
        folder = done / "export" / name
        config = json.loads((folder / "vllm" / "config.json").read_text())
        assert config["architectures"] == [architecture]
        card = (folder / "README.md").read_text()
        assert all(f"| {source} |" in card for source in KEPT)
        trained = Scorer(done / f"train_{number}" / "model")
        item = Item("x", "Which?", ("red", "blue"))
        assert next(iter(Scorer(folder).scores([item]))).scores == next(iter(trained.scores([item]))).scores


def test_the_page_has_the_models_beside_the_published_table_and_its_doubts(done: Path) -> None:
    page = (done / "report" / "report.html").read_text()
    for words in (*MODELS, "ensemble", "BaseReward 7B", "Held-out pairs", "PARTIAL: 8 of 1,250"):
        assert words in page
