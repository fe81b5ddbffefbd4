"""The demo's start checkpoint, loaded by the real libraries (other tests load it with vLLM, ms-swift and verl)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxygrm.core.checkpoints.check import check_checkpoint
from proxygrm.demo.corpus import demo_corpus
from proxygrm.demo.model import SPECIAL, build_tiny_model
from proxygrm.demo.scenes import SIZE

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    build_tiny_model(folder, demo_corpus(0, n=400), seed=0)
    return folder


@pytest.fixture(scope="module")
def processor(checkpoint: Path) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(checkpoint)


def test_the_checkpoint_is_complete(checkpoint: Path) -> None:
    check_checkpoint(checkpoint)


def test_the_tokenizer_round_trips_every_text_and_splits_no_special_token(processor: Any) -> None:
    tokenizer = processor.tokenizer
    for text in [*demo_corpus(1, n=20), "déjà vu, 12 apples, 中文\n\n\tend"]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert all(len(tokenizer(token)["input_ids"]) == 1 for token in SPECIAL)


def test_prompts_and_critiques_are_short(processor: Any) -> None:
    lengths = [len(processor.tokenizer(text)["input_ids"]) for text in demo_corpus(2, n=200)]
    grm, critique, proxy, answer = (max(lengths[part::4]) for part in range(4))
    assert max(grm, proxy) < 330
    assert critique < 110
    assert answer < 60


def test_a_image_becomes_four_tokens_and_the_model_is_unpadded_and_sees_it(checkpoint: Path, processor: Any) -> None:
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    assert model.get_input_embeddings().num_embeddings == len(processor.tokenizer)

    def logits(colour: str) -> torch.Tensor:
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What colour is it?"}]}]
        text = processor.apply_chat_template(chat, add_generation_prompt=True)
        inputs = processor(images=[Image.new("RGB", (SIZE, SIZE), colour)], text=[text], return_tensors="pt")
        assert (inputs["input_ids"] == model.config.image_token_id).sum() == 4
        with torch.no_grad():
            return model(**inputs).logits[0, -1]

    assert not torch.allclose(logits("red"), logits("blue"))


def test_the_same_seed_gives_the_same_weights_and_leaves_the_callers_random_state_alone(
    checkpoint: Path, tmp_path: Path
) -> None:
    import torch

    before = torch.random.get_rng_state()
    build_tiny_model(tmp_path, demo_corpus(0, n=400), seed=0)
    assert torch.equal(before, torch.random.get_rng_state())
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (tmp_path / name).read_bytes() == (checkpoint / name).read_bytes()
