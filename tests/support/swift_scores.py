"""Run as a script: ms-swift's own scores of a scalar reward model, as it computes them in training.

python swift_scores.py MODEL ROWS.jsonl   prints [[chosen, rejected], ...] of the rows, all in one batch
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(model: str, rows: str) -> None:
    import torch
    from swift.model import get_model_processor
    from swift.template import get_template
    from swift.utils import import_external_file

    from proxygrm.sft.arguments import OWN_PLUGINS

    for plugin in OWN_PLUGINS:
        import_external_file(str(plugin))
    kind = "qwen2_5_vl"
    loaded, processor = get_model_processor(
        model, model_type=kind, task_type="seq_cls", num_labels=1, torch_dtype=torch.float32, use_hf=True
    )
    template = get_template(processor, template_type=kind, max_length=512)
    template.set_mode("rlhf")
    template.model = loaded.eval()
    pairs = [json.loads(line) for line in Path(rows).read_text().splitlines()]
    batch = template.data_collator([template.encode(pair) for pair in pairs])
    with torch.no_grad():
        scores = loaded(**batch).logits.flatten().tolist()
    print(json.dumps([[scores[i], scores[i + len(pairs)]] for i in range(len(pairs))]))


if __name__ == "__main__":
    main(*sys.argv[1:])
