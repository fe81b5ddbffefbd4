"""Small pairs folders for the filter tests, and a look at what became of them."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

from PIL import Image

from data_tools.rows.preference import PictureStore, PreferencePair, read_pairs, write_pairs

PROSE = """red bicycle leans against the old wall beside two people near a quiet harbour in evening light while its
wheels look slightly bent and one of them holds blue umbrella not green as answer two claims about picture"""
WORDS = PROSE.split()


def prose(seed: int, words: int = 60) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def pair(
    name: str, question: str | None = None, one: str | None = None, two: str | None = None, images=(), label: int = 1
) -> PreferencePair:
    """Texts that are left out differ from those of every other name."""
    texts = [given if given is not None else prose(hash_of(name) + i) for i, given in enumerate((question, one, two))]
    return PreferencePair(f"s:{name}", "s", *texts, label, tuple(images), "mit")  # type: ignore[arg-type]


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode()[:6].ljust(6, b"."), "big") * 10


def scene(seed: int, size: tuple[int, int] = (160, 120), kind: str = "PNG", **options) -> bytes:
    """A picture of soft patches of colour, the same for a seed at every size."""
    chance = random.Random(seed)
    small = Image.frombytes("RGB", (8, 6), chance.randbytes(8 * 6 * 3))
    out = io.BytesIO()
    small.resize((320, 240), Image.Resampling.BICUBIC).resize(size).save(out, kind, **options)
    return out.getvalue()


def folder(path: Path, rows, pictures: dict[str, bytes] | None = None) -> Path:
    """A pairs folder; pictures of rows are keys of `pictures`."""
    store = PictureStore(path)
    names = {key: store.add(data) for key, data in (pictures or {}).items()}
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
