"""The part of one shard: raw rows -> validated pairs and scored responses, stored images, and counts of all rows.

A shard sees only its own rows: repeated ids, duplicates and the pairing of scored responses are left to the merge
(`data_tools.ingest.merge`), for which a part has hashes and the position of each row beside the columns of the pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.ingest.image_paths import ImageReader, OnMissing
from data_tools.ingest.raw_rows import RawFile, read_span
from data_tools.rows.preference import ImageStore, PreferencePair, arrange
from data_tools.sources.base import Excluded, RawPair, ScoredResponse, Source, layouts
from data_tools.steps.account import Account, RowLocation
from data_tools.steps.shards import Shard
from proxygrm.core.files.durable import sync_tree
from proxygrm.core.files.whole_file import WholeFileWriter, write_json, writing
from proxygrm.core.ids import BadId, has_id, id_text
from proxygrm.core.images.fields import NoImage, NotGiven
from proxygrm.core.unicode_text import is_unicode

_ROWS, _BYTES = 2048, 32 << 20  # limits of a batch in memory


@dataclass(frozen=True)
class Job:
    """What to ingest; picklable, because shards run in separate processes."""

    source: Source
    name: str  # source of the pairs, and the prefix of their ids
    files: tuple[RawFile, ...]
    out: Path
    root: Path
    missing: OnMissing
    license: str  # "": that of the row or the source

    @property
    def units(self) -> int:
        return sum(file.units for file in self.files)

    def row_name(self, file: int, row: int) -> str:
        """The id of a row without one."""
        return str(row) if len(self.files) == 1 else f"{self.files[file].name}:{row}"


class PartWriter(WholeFileWriter):
    """Writes rows in bounded batches; the file appears when the `with` block ends without an error."""

    def __init__(self, path: Path, columns: dict[str, str]) -> None:
        """columns: name -> name of the arrow type; "texts" is a list of strings."""
        import pyarrow as pa

        kinds = {"texts": pa.list_(pa.string())}
        self.schema = pa.schema(
            [(name, kinds[kind] if kind in kinds else getattr(pa, kind)()) for name, kind in columns.items()]
        )
        super().__init__(path)
        self._rows: list[Sequence[Any]] = []
        self._bytes = 0

    @contextmanager
    def _opened(self, scratch: Path) -> Iterator[None]:
        import pyarrow.parquet as pq

        with pq.ParquetWriter(scratch, self.schema, compression="lz4") as self._file:
            yield
            self._flush()

    def add(self, row: Sequence[Any], size: int) -> None:
        self._rows.append(row)
        self._bytes += size
        if len(self._rows) >= _ROWS or self._bytes >= _BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            columns = zip(zip(*self._rows, strict=True), self.schema.types, strict=True)
            arrays = [pa.array(column, kind) for column, kind in columns]
            with writing(self.path):
                self._file.write_table(pa.Table.from_arrays(arrays, schema=self.schema))
        self._rows, self._bytes = [], 0


_PLACE = {"key": "uint64", "id_key": "uint64", "file": "int32", "row": "int64"}
_TEXTS = dict.fromkeys(("id", "source", "question", "response_1", "response_2"), "string")
PAIR_COLUMNS = {**_TEXTS, "label": "int8", "images": "texts", "license": "string", "category": "string",
                "group": "string", **_PLACE}  # fmt: skip
SCORED_COLUMNS = {**dict.fromkeys(("id", "question", "response"), "string"), "score": "float64", "images": "texts",
                  "key": "uint64", "file": "int32", "row": "int64"}  # fmt: skip


def pair_values(pair: PreferencePair, file: int, row: int) -> list[Any]:
    """A row of PAIR_COLUMNS. The key depends on the texts and images, not on the order of the responses."""
    better, worse = (pair.response_1, pair.response_2) if pair.label == 1 else (pair.response_2, pair.response_1)
    return [
        pair.id, pair.source, pair.question, pair.response_1, pair.response_2, pair.label, pair.images, pair.license,
        pair.category, pair.group, key_of(pair.question, better, worse, *pair.images), key_of(pair.id), file, row,
    ]  # fmt: skip


def key_of(*texts: str) -> int:
    """A 64-bit hash: among ten million texts the chance of a collision is 3 in a million."""
    digest = hashlib.blake2b(digest_size=8)
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return int.from_bytes(digest.digest(), "little")


def paths(shard: Shard, parts: Path) -> dict[str, Path]:
    """The files of a shard's part; `account` is written last."""
    names = {"pairs": "pairs.parquet", "scored": "scored.parquet", "log": "dropped.jsonl", "account": "account.json"}
    return {kind: shard.path(parts / name) for kind, name in names.items()}


def done(shard: Shard, parts: Path) -> bool:
    return all(path.is_file() for path in paths(shard, parts).values())


def run(job: Job, shard: Shard, parts: Path) -> None:
    part = paths(shard, parts)
    images = ImageReader(ImageStore(parts), job.root, job.missing)  # the merge links those of the kept rows
    span = shard.span(job.units)
    source = job.source
    with (
        Account(part["log"], max_bad=1.0) as account,
        PartWriter(part["pairs"], PAIR_COLUMNS) as pairs,
        PartWriter(part["scored"], SCORED_COLUMNS) as scored,
    ):
        rows = read_span(job.files, span, layouts(source), source.optional, source.expected)
        for file, number, raw in expanded(source, rows):
            account.read += 1
            row = interpret(source, raw)
            result = row if isinstance(row, Excluded) else _validated(job, row, file, number, images, account)
            if isinstance(result, Excluded):
                row_id = "" if result.id is None else repr(result.id)
                row_id = row_id[1:-1] if isinstance(result.id, str) else row_id
                where = RowLocation(job.files[file].name, number)
                account.exclude(where, row_id[:300], result.reason, bad=result.bad, detail=result.detail[:300])
            elif isinstance(result, PreferencePair):
                pair = result
                pairs.add(pair_values(pair, file, number), _size(pair.question, pair.response_1, pair.response_2))
                account.kept += 1
            else:
                scored.add([*result, file, number], _size(result[1], result[2]))
    sync_tree([parts / "images"])  # on disk before the account says so
    write_json(part["account"], account.summary())


def expanded(
    source: Source, rows: Iterator[tuple[int, int, dict[str, Any] | Excluded]]
) -> Iterator[tuple[int, int, dict[str, Any] | Excluded]]:
    """The rows, those that are several pairs as often; each counts as a row."""
    for file, number, raw in rows:
        for row in (raw,) if source.expand is None or isinstance(raw, Excluded) else source.expand(raw):
            yield file, number, row


def interpret(source: Source, raw: dict[str, Any] | Excluded) -> RawPair | ScoredResponse | Excluded:
    """The pair or scored response that the source reads from a raw row, or why it is neither."""
    if isinstance(raw, Excluded):
        return raw
    try:
        row = source.read(raw)
    except NoImage as error:
        return Excluded("bad_image", str(error), id=raw.get("id"))
    if source.needs_image and not isinstance(row, Excluded) and not row.images:
        return row._replace(images=(NotGiven("the row has no image"),))
    return row


def _validated(
    job: Job, row: RawPair | ScoredResponse, file: int, number: int, images: ImageReader, account: Account
) -> PreferencePair | list[Any] | Excluded:
    """A pair, the first six values of SCORED_COLUMNS, or why the row is neither. Texts are not changed."""
    texts = (row.question, *((row.chosen, row.rejected) if isinstance(row, RawPair) else (row.response,)))
    row_id = _id(row.id, job.row_name(file, number), account)
    fault = text_fault(texts) if isinstance(row_id, str) else row_id
    if fault is None and isinstance(row, RawPair) and row.chosen.strip() == row.rejected.strip():
        fault = Excluded("same_responses", bad=False)
    if fault is not None:
        return fault._replace(id=row.id)
    stored = images.store_all(row.images)
    if isinstance(stored, Excluded):
        return stored._replace(id=row.id)
    names, notes = stored
    for note in notes:
        account.notes[note] += 1
    if not names:
        account.notes["no_image"] += 1
    if row.note:
        account.notes[row.note] += 1
    if isinstance(row, ScoredResponse):
        key = key_of(row.question, row.scale, *names)
        return [f"{job.name}:{row_id}", row.question, row.response, row.score, names, key]
    source = row.source or job.name
    tags = (job.license or row.license or job.source.license, row.category, row.group)
    if not all(map(is_unicode, (source, *tags))):
        return Excluded("not_unicode", "in source, license, category or group", id=row.id)
    row_id = f"{row_id}/{row.part}" if row.part else row_id
    return arrange(f"{source}:{row_id}", source, row.question, row.chosen, row.rejected, names, *tags)


def _id(value: Any, row_name: str, account: Account) -> str | Excluded:
    if not has_id(value):
        account.notes["no_id"] += 1
        return row_name
    try:
        text = id_text(value)
    except BadId as error:
        return Excluded("bad_id", str(error))
    return text if is_unicode(text) else Excluded("not_unicode", "in the id")


def text_fault(texts: Sequence[Any]) -> Excluded | None:
    """Why a row with these texts (the question, then responses) is bad; None if all are texts and not empty."""
    for position, text in enumerate(texts):
        name = "response" if position else "question"
        if text is None or text == "":
            return Excluded(f"empty_{name}")
        if not isinstance(text, str):
            return Excluded("not_text", f"{name} is {type(text).__name__}")
        if not text.strip():
            return Excluded(f"empty_{name}")
        if not is_unicode(text):
            return Excluded("not_unicode", f"a lone surrogate in the {name}")
    return None


def _size(*texts: str) -> int:
    return sum(map(len, texts))
