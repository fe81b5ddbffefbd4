"""Scores of a scalar reward model's checkpoint, against one plain forward of transformers per response."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.refusals import refused
from support.scalar_models import build_tiny_qwen2_vl, change_config, make_scalar, tiny_start

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from proxygrm.scalar.conversation import Item, shown  # noqa: E402
from proxygrm.scalar.export import SCRIPTS  # noqa: E402
from proxygrm.scalar.scorer import Scorer  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_start(tmp_path_factory.mktemp("start") / "tiny")


@pytest.fixture(scope="module")
def model(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scalar(start, tmp_path_factory.mktemp("scalar") / "model")


@pytest.fixture(scope="module")
def scorer(model: Path) -> Scorer:
    return Scorer(model)


def items() -> list[Item]:
    """No image, one, several, of other sizes; texts with control tokens, and of very different lengths."""
    from PIL import Image

    red = Image.new("RGB", (56, 56), "red")
    shades = Image.linear_gradient("L").resize((112, 84)).convert("RGB")
    return [
        Item("one", "Which colour?", ("It is red.", "It is <|endoftext|> blue, or so I believe."), (red,)),
        Item("text", "Two and two?", (" four \n", "five " * 30)),
        Item("two", "<image> Compare {them}.", ("<|im_end|> The first is red.", "."), (red, shades)),
        Item("three", "Rank the answers.", ("a", "b c d", "مرحبا 🎈"), (shades,)),
    ]


def plain_scores(scorer: Scorer, item: Item) -> list[float]:
    """One conversation at a time, as a script without this suite would score it."""
    scores = []
    for response in item.responses:
        content = [*({"type": "image"} for _ in item.images), {"type": "text", "text": shown(item.question)}]
        answer = {"role": "assistant", "content": [{"type": "text", "text": shown(response)}]}
        processor = scorer.parts.processor
        text = processor.apply_chat_template([{"role": "user", "content": content}, answer], tokenize=False)
        inputs = processor(text=[text], images=list(item.images) or None, return_tensors="pt")
        with torch.inference_mode():
            state = scorer.parts.backbone(**inputs).last_hidden_state[:, -1]
            scores.append(scorer.parts.head(state).item())
    return scores


def by_key(scorer: Scorer, wanted: list[Item]) -> dict[str, tuple[float, ...]]:
    return {score.key: score.scores for score in scorer.scores(wanted)}


def test_shared_beginnings_give_the_scores_of_one_forward_per_response(scorer: Scorer) -> None:
    scores = by_key(scorer, items())
    assert set(scores) == {"one", "text", "two", "three"}
    for item in items():
        assert scores[item.key] == pytest.approx(plain_scores(scorer, item), abs=1e-5)
        assert len(set(scores[item.key])) == len(item.responses)


def test_a_reload_gives_the_same_bits_and_other_batches_nearly_the_same(scorer: Scorer, model: Path) -> None:
    scores = by_key(scorer, items())
    assert by_key(Scorer(model), items()) == scores
    for item in items():
        assert by_key(scorer, [item])[item.key] == pytest.approx(scores[item.key], abs=1e-5)
    small = Scorer(model, max_items=3)
    assert by_key(small, items())["three"] == pytest.approx(scores["three"], abs=1e-5)


def test_the_example_scores_without_this_suite(model: Path, scorer: Scorer, tmp_path: Path) -> None:
    item = items()[2]
    item.images[1].save(tmp_path / "image.png")
    responses = ("One.", "Two, or three.")
    script = SCRIPTS / "score_with_transformers.py"
    words = [sys.executable, "-I", str(script), str(model), str(tmp_path / "image.png"), "Which?", *responses]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = by_key(scorer, [Item("x", "Which?", responses, item.images[1:])])["x"]
    assert [float(line) for line in done.stdout.split()] == pytest.approx(expected, abs=1e-5)


def test_swapped_responses_get_swapped_scores(scorer: Scorer) -> None:
    item = items()[0]
    swapped = Item("x", item.question, item.responses[::-1], item.images)
    assert by_key(scorer, [swapped])["x"] == pytest.approx(by_key(scorer, [item])["one"][::-1], abs=1e-6)


def test_length_normalised_scores_are_divided_by_the_logarithm_of_the_response(
    start: Path, scorer: Scorer, tmp_path: Path
) -> None:
    normalised = Scorer(make_scalar(start, tmp_path / "model", normalised=True))
    for item in items():
        counts = [len(scorer.parts.tokenizer(shown(text))["input_ids"]) for text in item.responses]
        plain = by_key(scorer, [item])[item.key]
        expected = [score / math.log(count + 1) for score, count in zip(plain, counts, strict=True)]
        assert by_key(normalised, [item])[item.key] == pytest.approx(expected, abs=1e-5)


def test_a_second_architecture_scores(start: Path, tmp_path: Path) -> None:
    second = build_tiny_qwen2_vl(start, tmp_path / "qwen2")
    scorer = Scorer(make_scalar(second, tmp_path / "scalar", layers=1, activation="none"))
    assert scorer.parts.backbone.config.model_type == "qwen2_vl"
    scores = by_key(scorer, items())
    for item in items():
        assert scores[item.key] == pytest.approx(plain_scores(scorer, item), abs=1e-5)


def test_a_conversation_that_is_too_long_is_a_problem_of_its_own(model: Path) -> None:
    scores = {score.key: score for score in Scorer(model, max_length=70).scores(items())}
    assert {key for key, score in scores.items() if score.problem} == {"text"}
    assert "70" in (scores["text"].problem or "")


def test_scores_that_are_not_numbers_are_refused(model: Path) -> None:
    broken = Scorer(model)
    broken.parts.head.out_proj.bias.data.fill_(float("nan"))
    with refused("judge.nan-scores", keys=["one"]):
        list(broken.scores(items()[:1]))


def test_checkpoints_that_are_not_what_they_say_are_refused(start: Path, model: Path, tmp_path: Path) -> None:
    with refused("checkpoint.not-scalar", path=start):
        Scorer(start)

    def changed(name: str, source: Path = model, **values: Any) -> Path:
        shutil.copytree(source, tmp_path / name)
        change_config(tmp_path / name, **values)
        return tmp_path / name

    claims = changed("claims", start, architectures=["Qwen2_5_VLForSequenceClassification"])
    with refused("checkpoint.no-head", path=claims):
        Scorer(claims)
    head = {"layers": 3, "activation": "silu"}
    with refused("checkpoint.other-head", names=["dense.1.bias", "dense.1.weight"]):
        Scorer(changed("layers", reward_head=head))
    with refused("checkpoint.unknown-backbone", family="internvl"):
        Scorer(changed("family", model_type="internvl"))
    from safetensors.torch import load_file, save_file

    narrow = changed("narrow")
    weights = load_file(narrow / "model.safetensors")
    weights["score.out_proj.weight"] = weights["score.out_proj.weight"][:, :64].contiguous()
    save_file(weights, narrow / "model.safetensors", {"format": "pt"})
    with refused("checkpoint.other-head", names=["out_proj.weight"]):
        Scorer(narrow)


def test_the_head_of_ms_swift_itself_is_read_as_one_layer(start: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_scalar(start, tmp_path / "one", layers=1, activation="none")
    expected = by_key(Scorer(folder), items())
    weights = load_file(folder / "model.safetensors")
    bias = weights.pop("score.out_proj.bias").item()
    weights["score.weight"] = weights.pop("score.out_proj.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    change_config(folder, reward_head=None)
    scores = by_key(Scorer(folder), items())
    for key, values in expected.items():
        assert scores[key] == pytest.approx([value - bias for value in values], abs=1e-5)
