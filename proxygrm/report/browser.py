"""The judged pairs that the page carries: a spread of pairs, the same for every model, with their pictures."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from proxygrm.critique import parse
from proxygrm.report.gather import number

MAX_PAIRS = 120
MAX_PICTURES = 150
MAX_PICTURE_BYTES = 8 << 20
PICTURE_SIDE_PX = 640
_TEXT_FIELDS = ("id", "source", "category", "order", "critique", "question", "response_1", "response_2")


def browser_data(judged: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """{models: {tag: rows}, pictures: {path: data URL}, pairs_shown, pairs_total, pictures_left_out}.

    Pairs are spread evenly over the file, and a pair is shown for every model or for none, so that models can
    be compared on it.
    """
    keys = list(dict.fromkeys(_key(row) for rows in judged.values() for row in rows))
    stride = max(1.0, len(keys) / MAX_PAIRS)
    kept = {key: i for i, key in enumerate([keys[int(i * stride)] for i in range(min(len(keys), MAX_PAIRS))])}
    models = {
        tag: sorted(
            (_row(row, kept[_key(row)]) for row in rows if _key(row) in kept), key=lambda r: (r["n"], r["order"])
        )
        for tag, rows in judged.items()
    }
    wanted = dict.fromkeys(path for rows in models.values() for row in rows for path in row["images"])
    pictures, left_out = _pictures(list(wanted))
    return {
        "models": models,
        "pictures": pictures,
        "pairs_shown": len(kept),
        "pairs_total": len(keys),
        "pictures_left_out": left_out,
    }


def embed(value: Any) -> str:
    """JSON that may stand inside a script element: no `<`, `>` or `&` in it, pure ASCII, no NaN."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _key(row: Mapping[str, Any]) -> str:
    return f"{row.get('id')}#{row.get('copy', 0)}"


def _row(row: Mapping[str, Any], n: int) -> dict[str, Any]:
    """Only what the page shows. Rubric and evaluation are read from the critique, as everywhere else."""
    shown: dict[str, Any] = {name: "" if row.get(name) is None else str(row[name]) for name in _TEXT_FIELDS}
    critique = parse(shown["critique"])
    images = row.get("images") or ([row["image"]] if row.get("image") else [])
    for name in ("label", "verdict", "proxy_verdict"):
        shown[name] = row.get(name) if row.get(name) in (1, 2) else None
    return shown | {
        "n": n,
        "items": [[item.description, number(item.weight)] for item in critique.items],
        "rubric": critique.rubric,
        "justification": critique.justification,
        "evaluation": critique.evaluation,
        "problems": [problem.value for problem in critique.problems],
        "refused": str(row["refused"]) if row.get("refused") else None,
        "truncated": bool(row.get("truncated")),
        "images": [str(path) for path in images],
    }


def _pictures(paths: Sequence[str]) -> tuple[dict[str, str], int]:
    """Data URLs by path until a cap is reached, and the number left out for the caps (missing files are not in it)."""
    pictures: dict[str, str] = {}
    used = left_out = 0
    for path in paths:
        if not Path(path).is_file():
            continue
        if len(pictures) >= MAX_PICTURES or used >= MAX_PICTURE_BYTES:
            left_out += 1
        elif url := _data_url(Path(path)):
            pictures[path] = url
            used += len(url)
    return pictures, left_out


def _data_url(path: Path) -> str | None:
    """The picture, scaled down when large; None when it cannot be decoded (the page says so)."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            small = max(image.size) <= PICTURE_SIDE_PX
            if small and image.format == "PNG":
                kind, data = "png", path.read_bytes()
            else:
                picture = image.convert("RGB")
                picture.thumbnail((PICTURE_SIDE_PX, PICTURE_SIDE_PX))
                buffer = io.BytesIO()
                picture.save(buffer, "JPEG", quality=82)
                kind, data = "jpeg", buffer.getvalue()
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
