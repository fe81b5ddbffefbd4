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
from data_tools.sources.turns import Texts, Turn, answers_to_one_prompt, texts_of, turns_of
from proxygrm.core.images.fields import images_of, marked

_FILE = "_file"


def read(row: dict[str, Any]) -> RawPair | Excluded:
    id_, texts = row.get("id"), _texts(row)
    if isinstance(texts, Excluded):
        return texts._replace(id=id_)
    images = marked(texts.question, images_of(row))
    question, tags = without_image_tags(texts.question, len(images))
    return RawPair(
        id_, question, texts.chosen, texts.rejected, images,
        category=str(row.get(_FILE, "")), note=texts.note or tags,
    )  # fmt: skip


def _texts(row: dict[str, Any]) -> Texts | Excluded:
    turns = turns_of(row.get("conversations"))
    prompt, better, worse = (value_of(row.get(name)) for name in ("prompt", "chosen", "rejected"))
    prompt = value_of(row.get("question")) if prompt is None else prompt
    if turns and better is None:  # they end with it
        if isinstance(worse, str):
            return answers_to_one_prompt(turns, [*turns[:-1], Turn("assistant", worse)])
        prompt = better = row["conversations"]
    if turns and prompt is None:
        prompt = turns[0].text
    if prompt is None or better is None or worse is None:
        return unknown_layout(row, "prompt, chosen and rejected")
    return texts_of({"prompt": prompt, "chosen": better, "rejected": worse})


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
