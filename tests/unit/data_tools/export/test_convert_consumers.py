"""ms-swift's template and verl's dataset class read every row and every image of the converted files."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from data_tools.export.convert import convert
from data_tools.rows.preference import ImageStore, write_pairs
from data_tools.split.run import split
from proxygrm.teacher.critiques import append, critique_row
from support.rows.convert_rows import GOOD, nasty_pair
from support.training_sets import sized

ROOT = Path(__file__).parents[4]
ROWS = 60

READ = """
import asyncio, json, sys
from pathlib import Path

folder = Path(sys.argv[1])
from proxygrm.demo.corpus import demo_corpus
from proxygrm.demo.model import build_tiny_model

build_tiny_model(folder / "model", demo_corpus(0, n=50))

import proxygrm.sft.plugin
from swift import get_processor, get_template, load_dataset

processor = get_processor(str(folder / "model"), model_type="qwen2_5_vl")
template = get_template(processor, template_type="qwen2_5_vl")
template.set_mode("train")
counts = {}
for name in ("grm.jsonl", "proxy.jsonl", "text.jsonl"):
    rows = load_dataset([str(folder / name)], load_from_cache_file=False)[0]
    counts[name] = []
    for row in rows:
        encoded = template.encode(row)
        grid = encoded.get("image_grid_thw")
        pads = encoded["input_ids"].count(template.image_token_id)
        expected = 0 if grid is None else int(grid.prod(-1).sum()) // 4
        assert pads == expected, (name, pads, expected)
        assert any(label != -100 for label in encoded["labels"])
        counts[name].append(0 if grid is None else len(grid))

from omegaconf import OmegaConf
from verl.utils.dataset.rl_dataset import RLHFDataset

config = OmegaConf.create({
    "cache_dir": str(folder / "cache"), "max_prompt_length": 100_000, "filter_overlong_prompts": True,
    "filter_overlong_prompts_workers": 1, "truncation": "error", "return_raw_chat": True,
})
for name in ("bytes.parquet", "path.parquet", "proxy_rl.parquet", "text.parquet"):
    rows = RLHFDataset([str(folder / name)], processor.tokenizer, config, processor)
    counts[name] = []
    for i in range(len(rows)):
        row = rows[i]
        images, _, _ = RLHFDataset._process_multi_modal_info(row["raw_prompt"], 14, config)
        assert row["reward_model"]["ground_truth"] == str(row["extra_info"]["label"])
        counts[name].append(len(images or []))

from verl.utils.dataset.rl_dataset import get_dataset_class

config.account = str(folder)
config.custom_cls = {"path": "pkg://proxygrm.rl.plugins.dataset", "name": "AccountingDataset"}
Path(sys.argv[2]).unlink()
rows = get_dataset_class(config)([str(folder / "path.parquet")], processor.tokenizer, config, processor)
counts["kept"] = [rows[i]["extra_info"]["id"] for i in range(len(rows))]
(folder / "counts.json").write_text(json.dumps(counts))
"""


def png(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (56, 84), (shade * 40, 90, 30)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.heavy
def test_ms_swift_encodes_and_verl_loads_every_row_with_as_many_images_as_tags(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "pairs")
    names = [store.add(png(i)) for i in range(5)]
    pairs = [nasty_pair(i * 7, (names * 2)[i % 5 : i % 5 + i % 3]) for i in range(ROWS)]
    write_pairs(tmp_path / "pairs", pairs)
    rows = [critique_row(p.id, GOOD.format("a <image> of <|image_pad|> weighs", p.label), "m") for p in pairs]
    append(tmp_path / "critiques.jsonl", rows)
    critiques = [tmp_path / "critiques.jsonl"]
    for to in ("grm", "proxy"):
        convert(f"swift-{to}", tmp_path / "pairs", tmp_path / f"{to}.jsonl", critiques=critiques)
    for images in ("bytes", "path"):
        convert("verl", tmp_path / "pairs", tmp_path / f"{images}.parquet", images=images)
    text_only = [pair for pair in pairs if not pair.images]
    write_pairs(tmp_path / "text", text_only)
    convert("swift-grm", tmp_path / "text", tmp_path / "text.jsonl", critiques=critiques)
    convert("verl", tmp_path / "text", tmp_path / "text.parquet")
    split(tmp_path / "pairs", critiques, tmp_path / "sets", sized({"proxy_rl": ROWS - 20}))
    (tmp_path / "sets" / "proxy_rl.parquet").rename(tmp_path / "proxy_rl.parquet")

    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path), str(tmp_path / "pairs" / "images" / names[0])],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "USE_HF": "1",
                          "CUDA_VISIBLE_DEVICES": "", "HF_HOME": str(tmp_path / "hf")},
        capture_output=True,
        text=True,
        timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads((tmp_path / "counts.json").read_text())
    wanted = [len(pair.images) for pair in pairs]
    assert set(wanted) == {0, 1, 2}
    for name in ("grm.jsonl", "proxy.jsonl", "bytes.parquet", "path.parquet"):
        assert counts[name] == wanted, name
    assert counts["text.jsonl"] == counts["text.parquet"] == [0] * len(text_only)
    assert len(counts["proxy_rl.parquet"]) == ROWS - 20

    lost = {pair.id for pair in pairs if names[0] in pair.images}
    assert lost
    assert counts["kept"] == [pair.id for pair in pairs if pair.id not in lost]
    report = json.loads((tmp_path / "left_out_path.json").read_text())
    assert (report["rows"], report["kept"], report["left_out"]) == (ROWS, ROWS - len(lost), len(lost))
    assert set(report["ids"]) == lost
    assert f"{len(lost)} of {ROWS} rows are left out" in done.stderr
