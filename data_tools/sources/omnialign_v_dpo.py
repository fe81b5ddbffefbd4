"""OmniAlign-V-DPO as released (PhoenixZ/OmniAlign-V-DPO, 133,000 rows): chart.jsonl, creation.jsonl, and so on.

Its trainer reads prompt, chosen, rejected and image (a path); the columns of the files themselves were not seen. Read
too: `question`, and conversations [{from, value}] that end with the better answer, with the worse in `rejected`. The
category is the name of the file. Better answers come from one source and worse ones from another (a weaker model), so
a judge can learn to tell the styles apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_tools.sources.base import Excluded, RawPair, Source, unknown_layout, without_image_tags
from data_tools.sources.rlhf_v import value_of
from data_tools.sources.turns import texts_of, turns_of
from proxygrm.core.images.fields import images_of, marked

_FILE = "_file"


def read(row: dict[str, Any]) -> RawPair | Excluded:
    id_, turns = row.get("id"), turns_of(row.get("conversations"))
    prompt = row["prompt"] if row.get("prompt") is not None else row.get("question")
    if prompt is None and turns:
        prompt = turns[0].text
    answer = turns[1].text if turns and len(turns) > 1 else None
    sides = {"prompt": value_of(prompt), "chosen": value_of(row.get("chosen", answer)),
             "rejected": value_of(row.get("rejected"))}  # fmt: skip
    if any(value is None for value in sides.values()):
        return unknown_layout(row, "prompt, chosen and rejected")
    texts = texts_of(sides)
    if isinstance(texts, Excluded):
        return texts._replace(id=id_)
    images = marked(texts.question, images_of(row))
    question, tags = without_image_tags(texts.question, len(images))
    return RawPair(
        id_, question, texts.chosen, texts.rejected, images,
        category=str(row.get(_FILE, "")), note=texts.note or tags,
    )  # fmt: skip


def of_file(path: Path, root: Path, files: Sequence[str]) -> list[dict[str, str]]:
    """For each file its name, which is the subset."""
    return [{_FILE: Path(file).stem} for file in files]


SOURCE = Source(
    "omnialign-v-dpo",
    columns=(("prompt", "chosen", "rejected"), ("question", "chosen", "rejected"), ("conversations", "rejected")),
    read=read,
    expected="the folder of OmniAlign-V-DPO's JSONL files beside its unpacked images, or one of the files",
    needs_image=True,
    optional=("id", "image", "images", "prompt", "question", "chosen", "conversations"),
    of_file=of_file,
)
