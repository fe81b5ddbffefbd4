"""RLAIF-V as released (openbmb/RLAIF-V-Dataset, parquet, 83,132 rows).

Columns: ds_name, image {bytes, path}, question, chosen, rejected, origin_dataset, origin_split, idx, image_path.
The pairs of the demo use this layout too, with another `ds_name`.
"""

from __future__ import annotations

from typing import Any

from data_tools.sources.base import RawPair, Source, slug
from proxygrm.core.images.fields import images_in

LICENSES = {"rlaif_v": "cc-by-nc-4.0", "proxygrm_demo": "apache-2.0"}


def row_id(ds_name: str | None, idx: Any) -> str:
    """Id of a row: the slug of its data set, and its index in it ("rlaif_v:17")."""
    return f"{_source(ds_name)}:{idx}"


def read(row: dict[str, Any]) -> RawPair:
    source = _source(row.get("ds_name"))
    return RawPair(
        row.get("idx"), row.get("question"), row.get("chosen"), row.get("rejected"), images_in(row.get("image")),
        source=source, license=LICENSES.get(source, "unknown"),
    )  # fmt: skip


def _source(ds_name: Any) -> str:
    return slug(str(ds_name or "rlaif_v")) or "rlaif_v"


SOURCE = Source(
    "rlaif-v",
    columns=("ds_name", "image", "question", "chosen", "rejected", "idx"),
    read=read,
    expected="an RLAIF-V parquet file, or a folder of them",
    license=LICENSES["rlaif_v"],
    needs_image=True,
)
