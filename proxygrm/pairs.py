"""Preference pairs on disk: `DIR/pairs.parquet` beside `DIR/images/<sha256>.<ext>`.

One row a pair. The two responses are already in the order in which they are shown, and the label says which one is
better. Pictures are stored once, by the hash of their bytes, so "the same picture" is "the same file name".
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxygrm.critique import Label
from proxygrm.errors import UserError

SCHEMA_VERSION = "1"
_VERSION_KEY = "proxygrm.pairs"
_COLUMNS = ("id", "source", "question", "response_1", "response_2", "label", "images", "license")
_BATCH = 2048


@dataclass(frozen=True)
class PreferencePair:
    id: str  # unique in the folder, "source:..."
    source: str
    question: str
    response_1: str
    response_2: str
    label: Label  # the better response
    images: tuple[str, ...]  # file names inside DIR/images
    license: str

    def image_paths(self, pairs_dir: Path) -> list[Path]:
        """Absolute paths of the pictures."""
        return [(pairs_dir / "images" / name).resolve() for name in self.images]


def label_for(pair_id: str) -> Label:
    """Which place the better response takes: decided by a hash of the id, so order carries no information and
    ingesting again gives the same rows."""
    return 1 if hashlib.sha256(pair_id.encode()).digest()[0] % 2 == 0 else 2


def arrange(
    pair_id: str, source: str, question: str, chosen: str, rejected: str, images: Sequence[str], license: str
) -> PreferencePair:
    """A pair from chosen/rejected, the words of other people's files."""
    label = label_for(pair_id)
    first, second = (chosen, rejected) if label == 1 else (rejected, chosen)
    return PreferencePair(pair_id, source, question, first, second, label, tuple(images), license)


class UnreadablePicture(ValueError):
    """The bytes are no picture that can be decoded."""


class PictureStore:
    """`DIR/images`, addressed by content."""

    def __init__(self, pairs_dir: Path) -> None:
        self.folder = pairs_dir / "images"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, str] = {}

    def add(self, data: bytes) -> str:
        """Store the bytes as they are; return the file name. Decodes them once: UnreadablePicture if that fails."""
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._known:
            name = f"{digest}.{_picture_format(data)}"
            target = self.folder / name
            if not target.exists():
                scratch = self.folder / f".{name}.{os.getpid()}"
                scratch.write_bytes(data)
                scratch.replace(target)
            self._known[digest] = name
        return self._known[digest]

    def __len__(self) -> int:
        return len(self._known)


def _picture_format(data: bytes) -> str:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            return (picture.format or "img").lower()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadablePicture(str(error)) from error


def write_pairs(pairs_dir: Path, rows: Iterable[PreferencePair], metadata: dict[str, str] | None = None) -> int:
    """Write `pairs.parquet` (whole or not at all) and return the number of rows.

    Raises UserError for a repeated id or for a picture that is not in the store: a folder is complete or not there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    pairs_dir.mkdir(parents=True, exist_ok=True)
    schema = _schema().with_metadata({_VERSION_KEY: SCHEMA_VERSION, **(metadata or {})})
    target, scratch = pairs_dir / "pairs.parquet", pairs_dir / f".pairs.parquet.{os.getpid()}"
    ids: set[str] = set()
    pictures = {p.name for p in (pairs_dir / "images").glob("*")}
    count, batch = 0, []
    try:
        with pq.ParquetWriter(scratch, schema, compression="zstd") as writer:
            for row in rows:
                _check(row, ids, pictures, pairs_dir)
                batch.append({name: getattr(row, name) for name in _COLUMNS})
                count += 1
                if len(batch) == _BATCH:
                    writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                    batch = []
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)
    return count


def read_pairs(pairs_dir: Path) -> list[PreferencePair]:
    """All pairs of a folder, in file order. Raises UserError when the folder is none, or of another version."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(pairs_dir) / "pairs.parquet"
    if not path.is_file():
        raise UserError(f"{path} does not exist; make a pairs folder with data_tools (ingest, demo pairs) first")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read as parquet ({error}); write the pairs folder again") from error
    version = (table.schema.metadata or {}).get(_VERSION_KEY.encode(), b"none").decode()
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if version != SCHEMA_VERSION or missing:
        lacks = f", lacks {', '.join(missing)}" if missing else ""
        raise UserError(
            f"{path} is no pairs file of version {SCHEMA_VERSION} (version {version}{lacks}); ingest the data again"
        )
    return [PreferencePair(**{**row, "images": tuple(row["images"])}) for row in table.select(_COLUMNS).to_pylist()]


def label_counts(pairs: Iterable[PreferencePair]) -> dict[int, int]:
    counts = Counter(pair.label for pair in pairs)
    return {1: counts[1], 2: counts[2]}


def _schema():
    import pyarrow as pa

    text = pa.string()
    kinds = {"label": pa.int8(), "images": pa.list_(text)}
    return pa.schema([pa.field(name, kinds.get(name, text), nullable=False) for name in _COLUMNS])


def _check(row: PreferencePair, ids: set[str], pictures: set[str], pairs_dir: Path) -> None:
    if row.label not in (1, 2):
        raise UserError(f"pair {row.id!r} has the label {row.label!r}; it must be 1 or 2")
    if row.id in ids:
        raise UserError(f"pair id {row.id!r} comes twice in {pairs_dir}; ids must be unique")
    missing = [name for name in row.images if name not in pictures]
    if missing:
        raise UserError(f"pair {row.id!r} names the picture {missing[0]!r}, which is not in {pairs_dir / 'images'}")
    ids.add(row.id)
