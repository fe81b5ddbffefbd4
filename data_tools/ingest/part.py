"""The part of one shard: raw rows -> checked pairs and scored responses, pictures into the store, every row counted.

Nothing here looks beyond its own rows: repeated ids, duplicates and the pairing of scored responses are the merge's
(`data_tools.ingest.merge`), which is why a part carries hashes, and the place of each row, beside the pairs' columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.ingest.picture_paths import Missing, Pictures
from data_tools.ingest.raw_rows import RawFile, read_span
from data_tools.rows.preference import PictureStore, PreferencePair, arrange
from data_tools.sources.base import Found, Left, Scored, Source, layouts
from data_tools.steps.account import Account, Where
from data_tools.steps.shards import Shard
from proxygrm.core.files.durable import sync_tree
from proxygrm.core.files.whole_file import WholeFileWriter, write_json, writing
from proxygrm.core.ids import BadId, given, id_text
from proxygrm.core.images.fields import NoPicture, NotGiven

_ROWS, _BYTES = 2048, 32 << 20  # a batch in memory is no longer than either


@dataclass(frozen=True)
class Job:
    """What to ingest; pickles, so that a shard can run in a process of its own."""

    source: Source
    name: str  # source of the pairs, and what stands before the colon of their ids
    files: tuple[RawFile, ...]
    out: Path
    root: Path
    missing: Missing
    license: str  # "": what the rows or the source say

    @property
    def units(self) -> int:
        return sum(file.units for file in self.files)

    def row_name(self, file: int, row: int) -> str:
        """The id of a row that has none."""
        return str(row) if len(self.files) == 1 else f"{self.files[file].name}:{row}"


class PartWriter(WholeFileWriter):
    """Rows of a part, column by column, in bounded batches; under its name when the `with` block ends well."""

    def __init__(self, path: Path, columns: dict[str, str]) -> None:
        """columns: name -> arrow type by name; "texts" is a list of strings."""
        import pyarrow as pa

        kinds = {"texts": pa.list_(pa.string())}
        self.schema = pa.schema(
            [(name, kinds[kind] if kind in kinds else getattr(pa, kind)()) for name, kind in columns.items()]
        )
        super().__init__(path)
        self._columns: list[list[Any]] = [[] for _ in columns]
        self._bytes = 0

    @contextmanager
    def _opened(self, scratch: Path) -> Iterator[None]:
        import pyarrow.parquet as pq

        with pq.ParquetWriter(scratch, self.schema, compression="lz4") as self._file:
            yield
            self._flush()

    def add(self, row: Sequence[Any], size: int) -> None:
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)
        self._bytes += size
        if len(self._columns[0]) >= _ROWS or self._bytes >= _BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._columns[0]:
            arrays = [pa.array(column, kind) for column, kind in zip(self._columns, self.schema.types, strict=True)]
            with writing(self.path):
                self._file.write_table(pa.Table.from_arrays(arrays, schema=self.schema))
        self._columns, self._bytes = [[] for _ in self._columns], 0


_PLACE = {"key": "uint64", "id_key": "uint64", "file": "int32", "row": "int64"}
_TEXTS = dict.fromkeys(("id", "source", "question", "response_1", "response_2"), "string")
PAIR_COLUMNS = {**_TEXTS, "label": "int8", "images": "texts", "license": "string", "category": "string",
                "group": "string", **_PLACE}  # fmt: skip
SCORED_COLUMNS = {**dict.fromkeys(("id", "question", "response"), "string"), "score": "float64", "images": "texts",
                  "key": "uint64", "file": "int32", "row": "int64"}  # fmt: skip


def pair_values(pair: PreferencePair, file: int, row: int) -> list[Any]:
    """A row of PAIR_COLUMNS. The key is that of the texts and pictures, whichever response stands first."""
    better, worse = (pair.response_1, pair.response_2) if pair.label == 1 else (pair.response_2, pair.response_1)
    return [
        pair.id, pair.source, pair.question, pair.response_1, pair.response_2, pair.label, pair.images, pair.license,
        pair.category, pair.group, key_of(pair.question, better, worse, *pair.images), key_of(pair.id), file, row,
    ]  # fmt: skip


def key_of(*texts: str) -> int:
    """64 bits of a hash: two different of ten million texts agree with a chance of 3 in a million."""
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
    pictures = Pictures(PictureStore(parts), job.root, job.missing)  # the merge takes those of rows that stay
    span = shard.span(job.units)
    source = job.source
    with (
        Account(part["log"], max_bad=1.0) as account,
        PartWriter(part["pairs"], PAIR_COLUMNS) as pairs,
        PartWriter(part["scored"], SCORED_COLUMNS) as scored,
    ):
        for file, number, raw in read_span(job.files, span, layouts(source), source.optional, source.give):
            account.read += 1
            found = understand(source, raw)
            made = found if isinstance(found, Left) else _checked(job, found, file, number, pictures, account)
            if isinstance(made, Left):
                row_id = repr(made.id)[1:-1] if isinstance(made.id, str) else "" if made.id is None else repr(made.id)
                where = Where(job.files[file].name, number)
                account.leave(where, row_id[:300], made.reason, bad=made.bad, detail=made.detail[:300])
            elif isinstance(made, PreferencePair):
                pairs.add(pair_values(made, file, number), _size(made.question, made.response_1, made.response_2))
                account.kept += 1
            else:
                scored.add([*made, file, number], _size(made[1], made[2]))
    sync_tree([parts / "images"])  # what the account says is there stays there
    write_json(part["account"], account.summary())


def understand(source: Source, raw: dict[str, Any] | Left) -> Found | Scored | Left:
    """What the source finds in a raw row."""
    if isinstance(raw, Left):
        return raw
    try:
        found = source.read(raw)
    except NoPicture as error:
        return Left("bad_picture", str(error), id=raw.get("id"))
    if source.needs_picture and not isinstance(found, Left) and not found.pictures:
        return found._replace(pictures=(NotGiven("the row has no image"),))
    return found


def _checked(
    job: Job, found: Found | Scored, file: int, number: int, pictures: Pictures, account: Account
) -> PreferencePair | list[Any] | Left:
    """A pair, the first six of SCORED_COLUMNS, or why the row is neither. Texts stay as they are, to the last space."""
    texts = (found.question, *((found.chosen, found.rejected) if isinstance(found, Found) else (found.response,)))
    row_id = _id(found.id, job.row_name(file, number), account)
    left = _text_fault(texts) if isinstance(row_id, str) else row_id
    if left is None and isinstance(found, Found) and found.chosen.strip() == found.rejected.strip():
        left = Left("same_responses", bad=False)
    if left is not None:
        return left._replace(id=found.id)
    stored = pictures.store_all(found.pictures)
    if isinstance(stored, Left):
        return stored._replace(id=found.id)
    names, notes = stored
    account.notes.update(notes)
    account.notes["no_image"] += not names
    if found.note:
        account.notes[found.note] += 1
    if isinstance(found, Scored):
        key = key_of(found.question, found.scale, *names)
        return [f"{job.name}:{row_id}", found.question, found.response, found.score, names, key]
    source = found.source or job.name
    tags = (job.license or found.license or job.source.license, found.category, found.group)
    if not all(map(is_unicode, (source, *tags))):
        return Left("not_unicode", "in source, license, category or group", id=found.id)
    return arrange(f"{source}:{row_id}", source, found.question, found.chosen, found.rejected, names, *tags)


def _id(value: Any, row_name: str, account: Account) -> str | Left:
    if not given(value):
        account.notes["no_id"] += 1
        return row_name
    try:
        text = id_text(value)
    except BadId as error:
        return Left("bad_id", str(error))
    return text if is_unicode(text) else Left("not_unicode", "in the id")


def _text_fault(texts: Sequence[Any]) -> Left | None:
    for place, text in enumerate(texts):
        name = "response" if place else "question"
        if text is None or text == "":
            return Left(f"empty_{name}")
        if not isinstance(text, str):
            return Left("not_text", f"{name} is {type(text).__name__}")
        if not text.strip():
            return Left(f"empty_{name}")
        if not is_unicode(text):
            return Left("not_unicode", f"a lone surrogate in the {name}")
    return None


def is_unicode(text: str) -> bool:
    """Parquet and JSON carry no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _size(*texts: str) -> int:
    return sum(map(len, texts))
