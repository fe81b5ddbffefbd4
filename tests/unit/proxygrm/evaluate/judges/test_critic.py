"""`eval run --judge SCALAR --critic ENDPOINT`: a critique of each response first, then its score."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fastapi import FastAPI, Request

from jobs.cli.main import main
from support.evaluate.http_judges import serving
from support.refusals import code_of
from support.scalar_models import make_scalar

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.slow
RESPONSES = {"p0": ("red", "blue"), "p1": ("a red square", "silence"), "p2": ("red, I think", "green")}


class Critic:
    """An endpoint that repeats the response that it is asked about, after a thought; about "silence" it has nothing to
    say."""

    def __init__(self) -> None:
        self.app, self.asked = FastAPI(), Counter[str]()

        @self.app.get("/v1/models")
        def models() -> dict[str, Any]:
            return {"data": [{"id": "critic"}]}

        @self.app.post("/v1/chat/completions")
        async def complete(request: Request) -> dict[str, Any]:
            content = (await request.json())["messages"][0]["content"]
            response = content[-1]["text"].rpartition("Response: ")[2]
            self.asked[response] += 1
            text = "<think>Hm.</think>" + ("" if response == "silence" else f"It says {response}.")
            message = {"role": "assistant", "content": text}
            return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"completion_tokens": 3}}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` (generates), `scalar`, and `pairs.jsonl` with an image."""
    from PIL import Image

    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    folder = tmp_path_factory.mktemp("critic")
    build_tiny_model(folder / "tiny", demo_corpus(0, n=50))
    make_scalar(folder / "tiny", folder / "scalar")
    Image.new("RGB", (56, 56), "red").save(folder / "red.png")
    rows = [
        {"id": id_, "question": "Which colour?", "chosen": chosen, "rejected": rejected, "image": "red.png"}
        for id_, (chosen, rejected) in RESPONSES.items()
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def critic() -> Iterator[tuple[str, Critic]]:
    made = Critic()
    with serving(made.app) as url:
        yield url, made


def run(scene: Path, out: Path, *more: str, judge: str = "scalar") -> Result:
    words = ["eval", "run", "--pairs", str(scene / "pairs.jsonl"), "--judge", str(scene / judge), "--out", str(out)]
    return CliRunner().invoke(main, [*words, "--device", "cpu", *more])


def answers(out: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in map(json.loads, (out / "answers.jsonl").read_text().splitlines())}


def test_a_response_is_scored_with_what_the_critic_wrote_about_it(
    scene: Path, critic: tuple[str, Critic], tmp_path: Path
) -> None:
    from PIL import Image

    from proxygrm.scalar.conversation import Item
    from proxygrm.scalar.scorer import Scorer

    url, server = critic
    done = run(scene, tmp_path, "--critic", url, "--model", "critic")
    assert done.exit_code == 0, done.output
    rows = answers(tmp_path)
    image = Image.open(scene / "red.png").convert("RGB")
    items = []
    for id_ in ("p0", "p2"):
        row = rows[id_]
        texts = [row["response_1"], row["response_2"]]
        assert row["critique"] == f"Response 1: It says {texts[0]}.\n\nResponse 2: It says {texts[1]}."
        read = tuple(f"{text}\n\nCritique: It says {text}." for text in texts)
        items.append(Item(id_, "Which colour?", read, (image,)))
    for score in Scorer(scene / "scalar").scores(items):
        assert rows[score.key]["scores"] == pytest.approx(score.scores, abs=1e-5)
    assert rows["p1"]["scores"] is None
    assert "no critique of response" in rows["p1"]["refused"]

    # After an interruption of the scoring the critic is not asked again; another critic is refused.
    asked = dict(server.asked)
    assert set(asked.values()) == {1}
    for file in (*(tmp_path / "raw").iterdir(), tmp_path / "run.json"):
        file.unlink()
    assert run(scene, tmp_path, "--critic", url, "--model", "critic").exit_code == 0
    assert (dict(server.asked), answers(tmp_path)) == (asked, rows)
    (tmp_path / "run.json").unlink()
    other = run(scene, tmp_path, "--critic", url, "--model", "critic", "--temperature", "0.5")
    assert (other.exit_code, code_of(other.output)) == (2, "file.made-by-other")


@pytest.mark.parametrize(
    ("judge", "options", "code"),
    [
        ("tiny", ("--critic", "CRITIC"), "option.no-effect"),
        ("scalar", ("--critic", "SCALAR"), "checkpoint.scalar"),
        ("scalar", ("--critic", "http://127.0.0.1:9"), "judge.no-model"),
        ("scalar", ("--critic", "nowhere"), "judge.unknown-kind"),
        ("scalar", ("--critic", "CRITIC", "--contract", "r1"), "option.no-effect"),
        ("scalar", ("--critic", "CRITIC", "--concurrency", "2"), "option.no-effect"),
    ],
)
def test_a_critic_that_cannot_be_one_is_refused_and_nothing_is_written(
    scene: Path, tmp_path: Path, judge: str, options: tuple[str, ...], code: str
) -> None:
    places = {"CRITIC": str(scene / "tiny"), "SCALAR": str(scene / "scalar")}
    done = run(scene, tmp_path / "out", *(places.get(word, word) for word in options), judge=judge)
    assert (done.exit_code, code_of(done.output)) == (2, code)
    assert not (tmp_path / "out").exists()
