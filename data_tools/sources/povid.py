"""POVID as released (YiyangAiLab/POVID_preference_data_for_VLLMs): one JSON array of 17,184 rows.

A row: id, image, conversations [{from, value}] with the preferred answer, rejected_conversations with the other, both
starting with the same human turn, which begins with `<image>`. The images are COCO's train2014 and not in the release:
only the file name of their path is used, so give COCO's folder as --images-root. The worse answers are corrupted copies
of the better ones: nearly equal in length and wording. VL-RewardBench has 448 rows of POVID: filter against it.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from data_tools.sources.base import Excluded, RawPair, Source, without_image_tags
from data_tools.sources.turns import texts_of
from proxygrm.core.images.fields import images_of, marked


def read(row: dict[str, Any]) -> RawPair | Excluded:
    id_ = row.get("id")
    texts = texts_of(row, sides=("conversations", "rejected_conversations"))
    if isinstance(texts, Excluded):
        return texts._replace(id=id_)
    named = [PurePosixPath(image).name if isinstance(image, str) else image for image in images_of(row)]
    images = marked(texts.question, tuple(named))
    question, tags = without_image_tags(texts.question, len(images))
    return RawPair(id_, question, texts.chosen, texts.rejected, images, note=texts.note or tags)


SOURCE = Source(
    "povid",
    columns=("image", "conversations", "rejected_conversations"),
    read=read,
    expected="POVID's JSON file, with COCO's train2014 as --images-root",
    license="cc-by-4.0",
    needs_image=True,
    optional=("id",),
    files="POVID*",
    several=True,
)
