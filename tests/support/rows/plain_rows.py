"""Training rows as plain dicts, one per pair: what the columnar writers must produce."""

from __future__ import annotations

from proxygrm.critique.prompts import grm_prompt, proxy_prompt


def verl_row(pair, index, split, paths, images="bytes", rubric=None):
    three = (pair.question, pair.response_1, pair.response_2)
    prompt = grm_prompt(*three, len(paths)) if rubric is None else proxy_prompt(*three, rubric, len(paths))
    entries = [{"bytes": p.read_bytes(), "path": None} if images == "bytes" else {"image": str(p)} for p in paths]
    extra = {
        "index": index, "split": split, "id": pair.id, "source": pair.source, "question": pair.question,
        "response_1": pair.response_1, "response_2": pair.response_2, "label": pair.label,
        "image": str(paths[0]) if paths else None, "images": [str(p) for p in paths],
    }  # fmt: skip
    return {
        "data_source": "proxygrm",
        "prompt": [{"role": "user", "content": prompt}],
        "images": entries,
        "ability": "judge",
        "reward_model": {"style": "rule", "ground_truth": str(pair.label)},
        "extra_info": extra if rubric is None else extra | {"rubric": rubric},
    }
