"""Files that people hand in: a byte order mark is taken, another encoding is one line, and so is a foreign layout."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_tools.filters.settings import read_settings
from data_tools.ingest.raw_rows import list_files
from data_tools.ingest.run import ingest
from data_tools.inspect.kinds import kind_of
from data_tools.rows.critique_index import index_critiques
from data_tools.rows.preference import read_pairs
from jobs.engine.run_folder.ledger import read_json
from jobs.recipes import SHIPPED, read_spec
from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import read_user_text
from proxygrm.core.pairs import count_pairs
from proxygrm.evaluate.rows.answers import read_answers
from proxygrm.evaluate.rows.pairs import load_pairs
from proxygrm.evaluate.scores.expected import ids_of
from proxygrm.serving.chat_client import read_key
from proxygrm.serving.endpoints import Endpoints
from slurm.profile import CLUSTERS, load

PAIR = {"id": "ü", "question": "Q?", "chosen": "a", "rejected": "b", "rewards": [1, 0]}
ROWS = "".join(json.dumps(PAIR | {"id": f"ü{n}", "question": f"Q{n}?"}, ensure_ascii=False) + "\n" for n in range(3))
CRITIQUE = json.dumps({"id": "a", "critique": "none"}) + "\n"
ENDPOINTS = '{"replicas": ["http://h:1"], "api_key": "k", "model": "proxy", "max_tokens": 64, "max_num_seqs": 4}'


def converted(file: Path):
    from data_tools.export.convert import convert

    return convert("verl", file, file.parent / "out.parquet")


# name of the file, its text, who reads it
READERS = {
    "profile": ("site.toml", (CLUSTERS / "a100.toml").read_text(encoding="utf-8"), lambda p: load(str(p))),
    "ablation": ("a.toml", next(SHIPPED.glob("*.toml")).read_text(encoding="utf-8"), lambda p: read_spec(str(p))),
    "filter": ("f.toml", "quality = false\n# ü\n", read_settings),
    "ledger": ("run.json", '{"name": "ü"}', read_json),
    "endpoints": ("proxy.json", ENDPOINTS, Endpoints.read),
    "ingest": ("rows.jsonl", ROWS, lambda p: ingest("preference-jsonl", p, p.parent / "pairs")),
    "ingest array": ("rows.json", json.dumps([PAIR]), lambda p: ingest("preference-jsonl", p, p.parent / "pairs")),
    "convert": ("rows.jsonl", ROWS, converted),
    "look": ("rows.jsonl", ROWS, kind_of),
    "pairs": ("rows.jsonl", ROWS, load_pairs),
    "expected": ("rows.jsonl", ROWS, ids_of),
    "answers": ("rows.jsonl", ROWS, lambda p: read_answers([p], False)),
    "critiques": ("c.jsonl", CRITIQUE, lambda p: index_critiques([p])),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_byte_order_mark_changes_nothing(tmp_path, reader):
    name, text, read = READERS[reader]
    file = tmp_path / name
    file.write_bytes(codecs.BOM_UTF8 + text.encode())
    read(file)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("reader", READERS)
def test_another_encoding_is_one_line_that_names_the_file(tmp_path, reader, encoding):
    name, text, read = READERS[reader]
    file = tmp_path / name
    file.write_bytes(text.encode(encoding))
    with pytest.raises(UserError, match="save it as UTF-8") as error:
        read(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zip", "zstd", "parquet"])
@pytest.mark.parametrize("reader", READERS)
def test_what_is_packed_or_parquet_under_another_name_is_told_as_such(tmp_path, reader, kind):
    name, text, read = READERS[reader]
    file = tmp_path / name
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(name, text)
    elif kind == "parquet":
        pq.write_table(pa.table({"a": [1]}), file)
    elif kind == "zstd":
        file.write_bytes(pa.compress(text.encode(), codec="zstd", asbytes=True))
    else:
        pack = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}[kind]
        file.write_bytes(pack(text.encode()))
    with pytest.raises(UserError, match="parquet file" if kind == "parquet" else rf"{kind}.*; unpack") as error:
        read(file)
    assert str(file) in str(error.value)


@pytest.mark.parametrize("name", ["rows.json", "rows.txt"])
def test_a_file_where_a_pairs_folder_should_be_is_told_as_such(tmp_path, name):
    (tmp_path / name).write_text(json.dumps([PAIR]))
    for read in (converted, count_pairs):
        with pytest.raises(UserError, match=f"{name} is a file; give a pairs folder"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "said"),
    [("[7]", "no JSON object"), ("{}", "no JSON object with"), ('{"id": null}', "id is NoneType"), ("7", "no JSON")],
)
def test_a_row_without_an_id_is_told_by_its_line(tmp_path, line, said):
    (tmp_path / "rows.jsonl").write_text(f'{{"ID": 7}}\n{line}\n')
    with pytest.raises(UserError, match=f"line 2 is not a pair with an id: {said}"):
        ids_of(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("reader", ["profile", "ablation", "filter", "ledger", "endpoints"])
def test_bytes_that_are_no_utf_8_are_named_by_their_line(tmp_path, reader):
    name, text, read = READERS[reader]
    file = tmp_path / name
    file.write_bytes(text.encode() + b"\n# caf\xe9\n")
    with pytest.raises(UserError, match=r"is not UTF-8 \(line \d+, byte \d+: 0xe9\)"):
        read(file)


def test_rows_that_are_no_utf_8_are_bad_rows_and_hold_nobody_back(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(ROWS.encode() + json.dumps(PAIR).encode().replace(b"Q?", b"caf\xe9") + b"\n")
    report = ingest("preference-jsonl", file, tmp_path / "pairs", max_bad=1.0)
    assert (report["kept"], report["bad"]) == (3, {"not_json": 1})
    assert len(list(read_pairs(tmp_path / "pairs"))) == 3


def test_a_record_that_is_no_json_or_too_deep_says_what_to_do(tmp_path):
    for content in (b"", b"{", b"\xff", b"[" * 100_000):
        (tmp_path / "run.json").write_bytes(content)
        with pytest.raises(UserError) as error:
            read_json(tmp_path / "run.json")
        assert "run.json" in str(error.value)
        assert "\n" not in str(error.value)
    assert read_json(tmp_path / "none.json") is None


def test_a_key_that_an_editor_saved_with_a_mark_is_the_key(tmp_path):
    key = tmp_path / "key"
    key.write_bytes(codecs.BOM_UTF8 + b"secret\r\n")
    key.chmod(0o600)
    assert read_key(key) == "secret"
    key.write_bytes("secret".encode("utf-16"))
    with pytest.raises(UserError, match="save it as UTF-8") as error:
        read_key(key)
    assert "secret" not in str(error.value)
    assert read_user_text_of(tmp_path, b"\xef\xbb\xbf") == ""


def read_user_text_of(folder, data):
    (folder / "t").write_bytes(data)
    return read_user_text(folder / "t")


def test_a_folder_of_save_to_disk_says_how_to_export_it(tmp_path):
    from datasets import Dataset, DatasetDict

    rows = Dataset.from_list([{"id": "1", "question": "Q?", "chosen": "a", "rejected": "b"}])
    rows.save_to_disk(str(tmp_path / "one"))
    DatasetDict({"train": rows}).save_to_disk(str(tmp_path / "two"))
    arrow = next((tmp_path / "one").glob("*.arrow"))
    for path in (tmp_path / "one", tmp_path / "two", tmp_path / "two" / "train", arrow):
        for read in (
            lambda p: ingest("preference-jsonl", p, tmp_path / "out"),
            kind_of,
            load_pairs,
            converted,
            count_pairs,
        ):
            with pytest.raises(UserError, match="to_parquet") as error:
                read(path)
            assert "\n" not in str(error.value)
    (tmp_path / "three").mkdir()
    rows.to_parquet(str(tmp_path / "three" / "data.parquet"))
    assert [name for _, name in list_files(tmp_path / "three", "data")] == ["data.parquet"]
