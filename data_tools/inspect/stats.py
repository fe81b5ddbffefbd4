"""What is in a file: rows, lengths, labels, sources, pictures, and an estimate of tokens."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from data_tools.inspect.kinds import kind_of
from data_tools.inspect.pictures import MAX_PIXELS, Opener, tokens
from data_tools.inspect.seen import require_rows, rows_of

CHARACTERS_PER_TOKEN = 4
HOW = (
    f"text: characters / {CHARACTERS_PER_TOKEN} (English; Chinese and the like need more), pictures: one token for "
    f"28 x 28 pixels after Qwen2.5-VL's resizing to at most {MAX_PIXELS} pixels"
)
_QUANTILES = (0.0, 0.05, 0.5, 0.95, 0.99, 1.0)
_PROMPTS = ("user", "system", "assistant")


def stats(path: Path, images_root: Path | None = None) -> dict[str, Any]:
    """Counts and quantiles of a file or folder, as JSON. Memory: about 40 bytes a row.

    Raises UserError when the file is unknown, damaged or empty. Rows with problems count as far as they can be read.
    """
    kind, files = kind_of(Path(path))
    opener = Opener()
    lengths: dict[str, array] = defaultdict(lambda: array("q"))
    labels, sources, formats, per_row = Counter[str](), Counter[str](), Counter[str](), Counter[int]()
    rows = bad = unreadable = 0
    for row in rows_of(Path(path), kind, files, images_root):
        rows += 1
        bad += bool(row.problems)
        sources[row.source or "-"] += 1
        labels[str(row.label) if row.label else "-"] += 1
        per_row[len(row.pictures)] += 1
        for name, text in row.texts.items():
            lengths[f"{name}, characters"].append(len(text))
        picture_tokens = 0
        for picture in row.pictures:
            looked = opener.look(picture)
            if isinstance(looked, str):
                unreadable += 1
                continue
            formats[looked.format] += 1
            picture_tokens += tokens(looked.width, looked.height)
            for name, value in (("width", looked.width), ("height", looked.height), ("bytes", looked.bytes)):
                lengths[f"picture {name}"].append(value)
        # In training files the prompt holds the texts, which stand beside it once more.
        texts = [text for name, text in row.texts.items() if name.split()[0] in _PROMPTS] or list(row.texts.values())
        lengths["tokens a row (estimate)"].append(sum(map(len, texts)) // CHARACTERS_PER_TOKEN + picture_tokens)
    require_rows(Path(path), kind, rows)
    return {
        "path": str(path),
        "kind": kind.title,
        "rows": rows,
        "rows_with_problems": bad,
        "labels": dict(sorted(labels.items())),
        "sources": dict(sources.most_common()),
        "pictures": {
            "a_row": {str(count): number for count, number in sorted(per_row.items())},
            "formats": dict(formats.most_common()),
            "unreadable": unreadable,
        },
        "quantiles": {name: quantiles(values) for name, values in lengths.items()},
        "tokens_in_all": sum(lengths["tokens a row (estimate)"]),
        "token_estimate": HOW,
    }


def quantiles(values: array) -> dict[str, int]:
    """Smallest, some between (nearest rank), largest."""
    ordered = sorted(values)
    return {f"{q:g}": ordered[min(int(q * len(ordered)), len(ordered) - 1)] for q in _QUANTILES}
