"""Preference pairs on disk: `DIR/pairs.parquet` beside `DIR/images/<sha256>.<ext>`.

One row per pair. The two responses are already in the order in which they are shown, and the label says which one is
better. Images are as every consumer gets them (`proxygrm.core.images.settle`), each stored once, by the hash of its
released bytes (`proxygrm.core.images.store`), so "the same image" means "the same file name".
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError, unreadable_reason
from proxygrm.core.files.saved_dataset import refuse_saved_dataset
from proxygrm.core.files.whole_file import WholeFileWriter, writing
from proxygrm.core.labels import Label

SCHEMA_VERSION = "3"  # 3: images are settled
_VERSION_KEY = "proxygrm.pairs"
_COLUMNS = (
    "id", "source", "question", "response_1", "response_2", "label", "images", "license", "category", "group",
)  # fmt: skip
_BATCH = 2048
_BATCH_BYTES = 64 << 20


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
    category: str = ""  # of a benchmark row, or the subset of a release
    group: str = ""  # rows that a benchmark counts together (MM-RLHF's acc+); "" elsewhere

    def image_paths(self, pairs_dir: Path) -> list[Path]:
        """Absolute paths of the images."""
        return [(pairs_dir / "images" / name).resolve() for name in self.images]


def label_for(pair_id: str) -> Label:
    """The position of the better response: decided by a hash of the id, so the order carries no information and
    ingesting again gives the same rows."""
    return 1 if hashlib.sha256(pair_id.encode()).digest()[0] % 2 == 0 else 2


def arrange(
    pair_id: str,
    source: str,
    question: str,
    chosen: str,
    rejected: str,
    images: Sequence[str],
    license: str,
    category: str = "",
    group: str = "",
) -> PreferencePair:
    """A pair from chosen/rejected, the names in published files."""
    label = label_for(pair_id)
    first, second = (chosen, rejected) if label == 1 else (rejected, chosen)
    return PreferencePair(pair_id, source, question, first, second, label, tuple(images), license, category, group)


class PairsWriter(WholeFileWriter):
    """Writes a pairs file row by row, atomically.

    Use it in a `with` block; the file appears under its name when the block ends without an error. Raises UserError
    for a repeated id (data.repeated-ids), an invalid label (data.bad-label), and an image that is not in the store
    (image.missing). Memory: one batch of rows, 16 bytes per id, and the names of the images.
    """

    def __init__(self, pairs_dir: Path, file: Path | None = None, metadata: dict[str, str] | None = None) -> None:
        """file: written instead of `pairs_dir/pairs.parquet`, for the part of one shard."""
        super().__init__(file or pairs_dir / "pairs.parquet")
        self.pairs_dir = pairs_dir
        self.count = 0
        self._schema = _schema().with_metadata({_VERSION_KEY: SCHEMA_VERSION, **(metadata or {})})
        self._ids: set[bytes] = set()
        self._images: set[str] = set()
        self._batch: list[dict[str, object]] = []
        self._tables: list[Any] = []  # arrow tables that do not fill a batch yet

    @contextmanager
    def _opened(self, scratch: Path) -> Iterator[None]:
        import pyarrow.parquet as pq

        with pq.ParquetWriter(scratch, self._schema, compression="zstd") as self._parquet:
            yield
            self._flush(last=True)

    def add(self, pair: PreferencePair) -> None:
        if pair.label not in (1, 2):
            raise UserError(
                f"pair {pair.id!r} has the label {pair.label!r}; it must be 1 or 2",
                code="data.bad-label",
                id=pair.id,
                label=pair.label,
            )
        key = hashlib.blake2b(pair.id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if key in self._ids:
            raise UserError(
                f"pair id {pair.id!r} occurs twice in {self.pairs_dir}; ids must be unique",
                code="data.repeated-ids",
                id=pair.id,
                path=self.pairs_dir,
            )
        self._ids.add(key)
        self._check_images(pair.images, f"pair {pair.id!r}")
        self._batch.append({name: getattr(pair, name) for name in _COLUMNS})
        self.count += 1
        if len(self._batch) == _BATCH:
            self._flush()

    def add_table(self, table: Any) -> None:
        """Rows as an arrow table (other columns are ignored), for callers that ensure unique ids.

        Row groups do not depend on how the rows are split into tables, unless a batch is above 64 MB of text.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        wrong = set(pc.unique(table["label"]).to_pylist()) - {1, 2}
        if wrong:
            raise UserError(
                f"pairs for {self.pairs_dir} have the labels {sorted(wrong)}; they must be 1 or 2",
                code="data.bad-label",
                path=self.pairs_dir,
                label=sorted(wrong)[0],
            )
        names = pc.unique(pc.list_flatten(table["images"])).to_pylist()
        self._check_images(names, "a pair")
        self._flush()
        self._tables.append(table.select(list(_COLUMNS)).cast(self._schema))
        self.count += table.num_rows
        rows = sum(pending.num_rows for pending in self._tables)
        while rows >= _BATCH or (rows and sum(pending.nbytes for pending in self._tables) > _BATCH_BYTES):
            joined = pa.concat_tables(self._tables)
            self._write(joined.slice(0, _BATCH).combine_chunks())
            self._tables = [joined.slice(_BATCH)]
            rows = self._tables[0].num_rows

    @property
    def image_count(self) -> int:
        """Distinct images of the rows so far."""
        return len(self._images)

    def _write(self, table: Any) -> None:
        with writing(self.path):  # other files may be open at the same time: an error must name this one
            self._parquet.write_table(table)

    def _check_images(self, names: Iterable[str], owner: str) -> None:
        for name in names:
            if name not in self._images:
                if not (self.pairs_dir / "images" / name).is_file():
                    raise UserError(
                        f"{owner} names the image {name!r}, which is not in {self.pairs_dir / 'images'}",
                        code="image.missing",
                        name=name,
                        path=self.pairs_dir / "images",
                    )
                self._images.add(name)

    def _flush(self, last: bool = False) -> None:
        """Write the pending rows; those of `add_table` only before others, and at the end."""
        import pyarrow as pa

        if self._tables and (last or self._batch):
            self._write(pa.concat_tables(self._tables).combine_chunks())
            self._tables = []
        if self._batch or (last and not self.count):
            self._write(pa.Table.from_pylist(self._batch, schema=self._schema))
            self._batch = []


def write_pairs(pairs_dir: Path, rows: Iterable[PreferencePair], metadata: dict[str, str] | None = None) -> int:
    """Write `pairs.parquet` atomically and return the number of rows. Raises UserError (PairsWriter)."""
    with PairsWriter(pairs_dir, metadata=metadata) as writer:
        for row in rows:
            writer.add(row)
    return writer.count


def pairs_file(path: Path):
    """The open parquet file of a pairs folder (or of one shard's file), its layout checked.

    Raises UserError: data.not-a-pairs-folder, file.missing, file.damaged, file.unreadable, data.other-version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if path.suffix != ".parquet" and not (path / "pairs.parquet").is_file():
        refuse_saved_dataset(path, "the pairs folder that `proxygrm data ingest` makes of it")
        if path.is_file():
            raise UserError(
                f"{path} is a file; give a pairs folder, which `proxygrm data ingest` makes",
                code="data.not-a-pairs-folder",
                path=path,
            )
    if path.suffix != ".parquet":
        path = path / "pairs.parquet"
    if not path.is_file():
        raise UserError(
            f"{path} does not exist; make a pairs folder with `proxygrm data ingest` first",
            code="file.missing",
            path=path,
        )
    try:
        source = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error, "is not a complete parquet file") from error
    version = (source.schema_arrow.metadata or {}).get(_VERSION_KEY.encode(), b"none").decode()
    missing = [name for name in _COLUMNS if name not in source.schema_arrow.names]
    if version != SCHEMA_VERSION or missing:
        columns = f", without {', '.join(missing)}" if missing else ""
        raise UserError(
            f"{path} is not a pairs file of version {SCHEMA_VERSION} (version {version}{columns}); "
            "ingest the data again",
            code="data.other-version",
            path=path,
            version=version,
            missing=missing,
        )
    return source


def _unreadable(path: Path, error: Exception, problem: str) -> UserError:
    if reason := unreadable_reason(error):
        return UserError(f"{path} cannot be read: {reason}", code="file.unreadable", path=path)
    return UserError(
        f"{path} cannot be read: it {problem} ({error}); write the pairs folder again", code="file.damaged", path=path
    )


def count_pairs(path: Path) -> int:
    """Rows of a pairs folder, from the file's footer."""
    return pairs_file(path).metadata.num_rows


def pair_groups(path: Path, span: range | None = None, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """The row groups of a pairs folder as arrow tables, in file order; `span`: only these positions (contiguous).

    Raises UserError as `pairs_file`, also when the file turns out to be damaged.
    """
    import pyarrow as pa

    source = pairs_file(path)
    start = 0  # of the row group
    try:
        for group in range(source.num_row_groups):
            rows = source.metadata.row_group(group).num_rows
            first, last = (span.start, span.stop) if span is not None else (0, start + rows)
            if start + rows > first and start < last:
                table = source.read_row_group(group, columns=list(columns) if columns else None, use_threads=False)
                offset = max(first - start, 0)
                yield table.slice(offset, min(last - start, rows) - offset)
            start += rows
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error, "is damaged") from error


def iter_pairs(path: Path, span: range | None = None) -> Iterator[PreferencePair]:
    """The pairs of a folder in file order, `_BATCH` in memory at a time; `span` and UserError as in `pair_groups`."""
    for table in pair_groups(path, span, _COLUMNS):
        columns = [table[name].to_pylist() for name in _COLUMNS]
        columns[_COLUMNS.index("images")] = list(map(tuple, columns[_COLUMNS.index("images")]))
        yield from map(PreferencePair, *columns)


def read_pairs(pairs_dir: Path) -> list[PreferencePair]:
    """All pairs of a folder at once, in file order (about 1 kB per row, plus its texts). Raises UserError."""
    return list(iter_pairs(pairs_dir))


def label_counts(pairs: Iterable[PreferencePair]) -> dict[int, int]:
    counts = Counter(pair.label for pair in pairs)
    return {1: counts[1], 2: counts[2]}


def _schema():
    import pyarrow as pa

    text = pa.string()
    kinds = {"label": pa.int8(), "images": pa.list_(text)}
    return pa.schema([pa.field(name, kinds.get(name, text), nullable=False) for name in _COLUMNS])
