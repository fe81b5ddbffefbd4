"""What ms-swift logs while it trains: the last step for the progress, all steps as `metrics.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from proxygrm.core.files.whole_file import write_text


def _rows(out: Path) -> list[dict[str, Any]]:
    """Logged steps from ms-swift's logging.jsonl, in order; steps that a resumed run repeated count once."""
    steps: dict[int, dict[str, Any]] = {}
    path = out / "swift" / "logging.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            raw = json.loads(line)
        except ValueError:  # the line being written, or the last one of a run that was killed
            continue
        done, _, total = str(raw.get("global_step/max_steps", "")).partition("/")
        if not done.isdigit() or not total.isdigit() or "train_runtime" in raw:
            continue  # the summary at the end of an attempt
        row = {
            f"eval/{name[5:]}" if name.startswith("eval_") else name: value
            for name, value in raw.items()
            if isinstance(value, int | float) and name not in ("step", "total")
        }
        step = int(done)
        steps = {number: logged for number, logged in steps.items() if number <= step}
        steps[step] = steps.get(step, {}) | {"step": step, "total": int(total)} | row
    return [steps[step] for step in sorted(steps)]


def last_row(out: Path) -> dict[str, Any] | None:
    return next(reversed(_rows(out)), None)


def note(row: dict[str, Any]) -> str:
    accuracy = f", tokens right {row['token_acc']:.0%}" if "token_acc" in row else ""
    return f"loss {row['loss']:.3f}{accuracy}" if "loss" in row else ""


def collect_metrics(out: Path) -> None:
    """Write `out/metrics.jsonl`."""
    rows = ({name: value for name, value in row.items() if name != "total"} for row in _rows(out))
    write_text(out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
