"""Counts what is in a file: rows, lengths, labels, sources, images, and an estimate of tokens."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from data_tools.inspect.by_source import SourceCounts, summaries
from data_tools.inspect.images import MAX_PIXELS, ImageInspector, tokens
from data_tools.inspect.inspected_rows import require_rows, rows_of
from data_tools.inspect.kinds import kind_of
from data_tools.inspect.quantiles import quantiles

CHARACTERS_PER_TOKEN = 4
HOW = (
    f"text: characters / {CHARACTERS_PER_TOKEN} (English; scripts like Chinese need more), images: one token per "
    f"28 x 28 pixels after Qwen2.5-VL's resizing to at most {MAX_PIXELS} pixels"
)
_PROMPTS = ("user", "system", "assistant")


def stats(path: Path, images_root: Path | None = None) -> dict[str, Any]:
    """Counts and quantiles of a file or folder, as JSON. Memory: about 100 bytes per row.

    Raises UserError if the file is unknown, damaged or empty. Rows with problems are counted as far as possible.
    """
    kind, files = kind_of(Path(path), images_root)
    inspector = ImageInspector()
    lengths: dict[str, array] = defaultdict(lambda: array("q"))
    labels, formats, per_row = Counter[str](), Counter[str](), Counter[int]()
    sources: dict[str, SourceCounts] = defaultdict(SourceCounts)
    rows = bad = unreadable = 0
    for row in rows_of(Path(path), kind, files, images_root):
        rows += 1
        bad += bool(row.problems)
        labels[str(row.label) if row.label else "-"] += 1
        per_row[len(row.images)] += 1
        for name, text in row.texts.items():
            lengths[f"{name}, characters"].append(len(text))
        image_tokens, sizes = 0, list[tuple[int, int]]()
        for image in row.images:
            info = inspector.inspect(image)
            if isinstance(info, str):
                unreadable += 1
                continue
            formats[info.format] += 1
            sizes.append((info.width, info.height))
            image_tokens += tokens(info.width, info.height)
            for name, value in (("width", info.width), ("height", info.height), ("bytes", info.bytes)):
                lengths[f"image {name}"].append(value)
        sources[row.source or "-"].add(row, sizes)
        # The prompts of training files contain the texts, which the rows have once more in other fields.
        texts = [text for name, text in row.texts.items() if name.split()[0] in _PROMPTS] or list(row.texts.values())
        lengths["tokens per row (estimate)"].append(sum(map(len, texts)) // CHARACTERS_PER_TOKEN + image_tokens)
    require_rows(Path(path), kind, rows)
    by_source = summaries(sources)
    return {
        "path": str(path),
        "kind": kind.title,
        "rows": rows,
        "rows_with_problems": bad,
        "labels": dict(sorted(labels.items())),
        "sources": {name: counts["rows"] for name, counts in by_source.items()},
        "by_source": by_source,
        "images": {
            "a_row": {str(count): number for count, number in sorted(per_row.items())},
            "formats": dict(formats.most_common()),
            "unreadable": unreadable,
        },
        "quantiles": {name: quantiles(values) for name, values in lengths.items()},
        "tokens_in_all": sum(lengths["tokens per row (estimate)"]),
        "token_estimate": HOW,
    }
