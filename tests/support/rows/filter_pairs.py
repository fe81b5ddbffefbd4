"""Small pairs folders for the filter tests, and readers of their results."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

from PIL import Image

from data_tools.rows.preference import ImageStore, PreferencePair, read_pairs, write_pairs

PROSE = """red bicycle leans against the old wall beside two people near a quiet harbour in evening light while its
wheels look slightly bent and one of them holds blue umbrella not green as answer two claims about image"""
WORDS = PROSE.split()


def prose(seed: int, words: int = 60) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def pair(
    name: str, question: str | None = None, one: str | None = None, two: str | None = None, images=(), label: int = 1
) -> PreferencePair:
    """Texts that are not given differ from those of every other name."""
    texts = [text if text is not None else prose(hash_of(name) + i) for i, text in enumerate((question, one, two))]
    return PreferencePair(f"s:{name}", "s", *texts, label, tuple(images), "mit")  # type: ignore[arg-type]


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode()[:6].ljust(6, b"."), "big") * 10


def scene(seed: int, size: tuple[int, int] = (160, 120), kind: str = "PNG", **options) -> bytes:
    """An image of soft patches of colour, the same for a seed at every size."""
    chance = random.Random(seed)
    small = Image.frombytes("RGB", (8, 6), chance.randbytes(8 * 6 * 3))
    out = io.BytesIO()
    small.resize((320, 240), Image.Resampling.BICUBIC).resize(size).save(out, kind, **options)
    return out.getvalue()


def folder(path: Path, rows, images: dict[str, bytes] | None = None) -> Path:
    """A pairs folder; images of rows are keys of `images`."""
    store = ImageStore(path)
    names = {key: store.add(data) for key, data in (images or {}).items()}
    rows = [PreferencePair(**{**vars(row), "images": tuple(names.get(i, i) for i in row.images)}) for row in rows]
    write_pairs(path, rows)
    return path


def kept(path: Path) -> list[str]:
    return [row.id.removeprefix("s:") for row in read_pairs(path)]


def left(path: Path) -> dict[str, str]:
    """Short id -> reason."""
    return {row["id"].removeprefix("s:"): row["reason"] for row in log(path)}


def log(path: Path) -> list[dict]:
    return [json.loads(line) for line in (path / "filter_dropped.jsonl").read_text(encoding="utf-8").splitlines()]
