"""verl's forward pass of Qwen2.5-VL on rows without images, as transformers computes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.heavy]

FORWARD = """
import sys, torch
from pathlib import Path
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from proxygrm.demo.corpus import demo_corpus
from proxygrm.demo.model import build_tiny_model

folder = Path(sys.argv[1])
build_tiny_model(folder, demo_corpus(0, n=20))
model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder).eval()
words = AutoTokenizer.from_pretrained(folder)("The answer is 1.", return_tensors="pt")
with torch.no_grad():
    expected = model(**words).logits
import proxygrm.rl.guards.text_only
from verl.models.transformers import qwen2_vl
with torch.no_grad():
    embeds, _ = qwen2_vl._get_input_embeds(model.model, words["input_ids"], words["attention_mask"])
    hidden = model.model.language_model(inputs_embeds=embeds, attention_mask=words["attention_mask"])[0]
    found = model.lm_head(hidden)
assert torch.allclose(expected, found, atol=1e-5), (expected - found).abs().max()
"""


def test_a_batch_without_an_image_has_the_logits_of_its_text(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORWARD, str(tmp_path / "model")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
