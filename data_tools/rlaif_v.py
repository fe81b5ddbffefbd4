"""RLAIF-V's parquet layout -> a pairs folder.

Columns: ds_name, image {bytes, path}, question, chosen, rejected, origin_dataset, origin_split, idx, image_path.
Rows stream in batches: memory holds the texts, never all the pictures.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_tools.preference import PictureStore, PreferencePair, UnreadablePicture, arrange, label_counts, write_pairs
from proxygrm.errors import UserError

COLUMNS = ("ds_name", "image", "question", "chosen", "rejected", "idx")
LICENSES = {"rlaif_v": "cc-by-nc-4.0", "proxygrm_demo": "apache-2.0"}


@dataclass(frozen=True)
class IngestReport:
    read: int
    kept: int
    dropped: dict[str, int]  # reason -> rows
    pictures: int  # distinct
    labels: dict[int, int]
    files: list[str]


def ingest(path: Path, out: Path) -> IngestReport:
    """Read one parquet file or all of a folder (in order of name) into the pairs folder `out`.

    Every dropped row is counted by reason, in the returned report and in `out/ingest.json`. The same texts and
    picture under another id are duplicates, and dropped. Raises UserError when there is no file, a column is
    missing, or no row is left.
    """
    files = _files(Path(path))
    store, dropped = PictureStore(out), Counter[str]()
    seen: set[bytes] = set()
    ids: Counter[str] = Counter()
    pairs: list[PreferencePair] = []
    read = 0
    for file in files:
        for row in _rows(file):
            read += 1
            made = _pair(row, store, seen, ids)
            if isinstance(made, str):
                dropped[made] += 1
            else:
                pairs.append(made)
    if not pairs:
        raise UserError(f"{path}: none of {read} rows could be used ({dict(dropped)}); nothing was written")
    write_pairs(out, pairs)
    report = IngestReport(
        read, len(pairs), dict(sorted(dropped.items())), len({n for p in pairs for n in p.images}),
        label_counts(pairs), [file.name for file in files],
    )  # fmt: skip
    (out / "ingest.json").write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    return report


def row_id(ds_name: str | None, idx: Any) -> str:
    """Id of a row: the data set's name as a slug, and its index there ("rlaif_v:17")."""
    slug = re.sub(r"[^a-z0-9]+", "_", (ds_name or "rlaif_v").lower()).strip("_") or "rlaif_v"
    return f"{slug}:{idx}"


def _files(path: Path) -> list[Path]:
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path] if path.is_file() else []
    if not files:
        raise UserError(f"{path}: no parquet file there; give RLAIF-V's parquet file or the folder that holds them")
    return files


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        source = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} cannot be read as parquet ({error}); fetch it again") from error
    missing = [name for name in COLUMNS if name not in source.schema_arrow.names]
    if missing:
        raise UserError(f"{file} is not in RLAIF-V's layout: it lacks {', '.join(missing)}")
    for batch in source.iter_batches(batch_size=256, columns=list(COLUMNS)):
        yield from batch.to_pylist()


def _pair(row: dict[str, Any], store: PictureStore, seen: set[bytes], ids: Counter[str]) -> PreferencePair | str:
    """The pair, or the reason why there is none."""
    question, chosen, rejected = ((row[name] or "").strip() for name in ("question", "chosen", "rejected"))
    if not question:
        return "empty_question"
    if not chosen or not rejected:
        return "empty_response"
    if chosen == rejected:
        return "same_responses"
    data = (row["image"] or {}).get("bytes")
    if not data:
        return "no_picture"
    digest = hashlib.sha256("\0".join((question, chosen, rejected, "")).encode() + data).digest()
    if digest in seen:
        return "duplicate"
    try:
        picture = store.add(data)
    except UnreadablePicture:
        return "unreadable_picture"
    seen.add(digest)
    pair_id = row_id(row["ds_name"], row["idx"])
    ids[pair_id] += 1
    if ids[pair_id] > 1:  # one index, several pairs: keep them apart, in the order of the files
        pair_id += f"#{ids[pair_id]}"
    source = pair_id.split(":", 1)[0]
    return arrange(pair_id, source, question, chosen, rejected, [picture], LICENSES.get(source, "unknown"))
