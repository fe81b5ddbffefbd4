"""What a judgement costs: `proxygrm eval run`'s path against what people do today, one `generate` call after another.

    python benchmarks/evaluation_speed.py [--model CHECKPOINT] [--examples 64]

Both judge the same drawn pairs in both orders with the same checkpoint, greedily, in float32 on the CPU, each in a
process of its own. Printed: CPU seconds (user and system, children included) for starting and for judging, their
ratio, how many texts are the same, and whether verdicts agree where they are. A model that has learnt something
(`--model runs/demo/grm_sft/model`) shows whether the texts agree; without one, a tiny untrained one is built.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LONGEST = 160


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a checkpoint  [a tiny untrained one]")
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--part", choices=("ours", "peer"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        told = {"ours": ours, "peer": peer}[asked.part](asked.model, asked.folder)
        (asked.folder / f"{asked.part}.json").write_text(json.dumps(told))
        return
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), asked.model, asked.examples)


def compare(folder: Path, model: Path | None, examples: int) -> None:
    from data_tools.ingest.run import ingest
    from data_tools.sources.demo_pairs import write_demo_pairs
    from proxygrm.critique.contract import parse
    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    write_demo_pairs(folder, train=examples, held_out=2, seed=7, kinds=("colour",))
    ingest("rlaif-v", folder / "train.parquet", folder / "pairs")
    if model is None:
        model = folder / "model"
        build_tiny_model(model, demo_corpus(0), seed=0)
    told: dict[str, Any] = {}
    for part in ("ours", "peer"):
        command = [sys.executable, __file__, "--part", part, "--model", str(model), "--folder", str(folder)]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
        told[part] = json.loads((folder / f"{part}.json").read_text())
    mine, theirs = told["ours"]["texts"], told["peer"]["texts"]
    assert mine.keys() == theirs.keys()
    same = [key for key in mine if mine[key] == theirs[key]]
    agree = sum(told["ours"]["verdicts"][key] == parse(theirs[key]).verdict for key in same)
    verdicts = sum(told["ours"]["verdicts"][key] == parse(theirs[key]).verdict for key in mine)
    print(f"{len(mine)} judgements of {examples} pairs in both orders, {model}")
    for part, words in (("ours", "eval run"), ("peer", "generate, batch 1")):
        load, judge = told[part]["load_s"], told[part]["judge_s"]
        print(
            f"  {words:18} starting and stopping {load:6.1f} CPU s, judging {judge:6.1f}, together {load + judge:6.1f}"
        )
    judging = told["peer"]["judge_s"] / told["ours"]["judge_s"]
    whole = sum(told["peer"][k] for k in ("load_s", "judge_s")) / sum(told["ours"][k] for k in ("load_s", "judge_s"))
    print(f"  ratio: judging {judging:.1f} x, with start and stop {whole:.1f} x")
    print(f"  the same text {len(same) / len(mine):.1%}; the same verdict {agree} of these {len(same)}, "
          f"{verdicts / len(mine):.1%} of all")  # fmt: skip


def ours(model: Path, folder: Path) -> dict[str, Any]:
    """The path of `eval run` from the pairs to the judged rows."""
    from proxygrm.evaluate.judges import base as judges
    from proxygrm.evaluate.run import Run, merge_shards, prepare_run, run_shard
    from proxygrm.evaluate.settings import EvaluateSettings

    load, marks = judges.open_engine, {}

    @contextmanager
    def marked(*arguments: Any) -> Iterator[Any]:
        with load(*arguments) as engine:
            marks["loaded"] = cpu_s()
            yield engine
            marks["judged"] = cpu_s()

    judges.open_engine = marked  # type: ignore[assignment]
    settings = EvaluateSettings(max_tokens=LONGEST, max_model_len=1024, device="cpu")
    work = prepare_run(Run(model, folder / "pairs", "pairs", folder / "out", settings))
    run_shard(work, 0, 1)
    closed = cpu_s()
    merge_shards(work)
    ended = cpu_s()
    rows = [json.loads(line) for line in (folder / "out" / "answers.jsonl").read_text().splitlines()]
    named = {f"{row['id']} {row['order']}": row for row in rows}
    return {
        "load_s": marks["loaded"] + closed - marks["judged"],
        "judge_s": marks["judged"] - marks["loaded"] + ended - closed,  # parsing and writing included
        "texts": {name: row["critique"] for name, row in named.items()},
        "verdicts": {name: row["verdict"] for name, row in named.items()},
    }


def peer(model: Path, folder: Path) -> dict[str, Any]:
    """One image, one prompt, one `generate` call, then the next."""
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from proxygrm.evaluate.judges.base import judge_prompt
    from proxygrm.evaluate.rows.ordered_pair import ordered_pairs
    from proxygrm.evaluate.rows.pairs import load_pairs

    shown = ordered_pairs(load_pairs(folder / "pairs"))
    processor = AutoProcessor.from_pretrained(model)
    network = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32).eval()
    loaded, texts = cpu_s(), {}
    for s in shown:
        images = [Image.open(path).convert("RGB") for path in s.pair.images]
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": judge_prompt(s)}]
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        inputs = processor(text=[prompt], images=images, return_tensors="pt")
        with torch.inference_mode():
            out = network.generate(**inputs, max_new_tokens=LONGEST, do_sample=False)
        new = out[0, inputs["input_ids"].shape[1] :]
        texts[f"{s.pair.id} {s.order}"] = processor.decode(new, skip_special_tokens=True)
    return {"load_s": loaded, "judge_s": cpu_s() - loaded, "texts": texts}


def cpu_s() -> float:
    """Of this process and the children it has waited for."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main()
