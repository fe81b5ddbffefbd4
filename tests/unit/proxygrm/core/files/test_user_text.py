"""Files from users: a byte order mark is accepted; another encoding or layout is an error of one line."""

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
from jobs.engine.run_folder.records import read_json
from jobs.recipes import read_spec
from jobs.recipes.proxy_grm import RECIPE
from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import read_user_text
from proxygrm.core.pairs import count_pairs
from proxygrm.evaluate.rows.answers import read_answers
from proxygrm.evaluate.rows.pairs import load_pairs
from proxygrm.evaluate.scores.expected import ids_of
from proxygrm.serving.access.key_file import read_key
from proxygrm.serving.endpoints import Endpoints
from slurm.profile import CLUSTERS, load
from support.refusals import refused

SPEC = next(Path(RECIPE.ablations).glob("*.toml"))
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
    "ablation": (
        "a.toml",
        SPEC.read_text(encoding="utf-8"),
        lambda p: read_spec(RECIPE, str(p)),
    ),
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
def test_another_encoding_is_refused_in_one_line(tmp_path, reader, encoding):
    name, text, read = READERS[reader]
    file = tmp_path / name
    file.write_bytes(text.encode(encoding))
    with refused("file.not-text", path=file) as error:
        read(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zip", "zstd", "parquet"])
@pytest.mark.parametrize("reader", READERS)
def test_archives_and_parquet_under_another_name_are_refused(tmp_path, reader, kind):
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
    with refused("file.not-text", path=file) as error:
        read(file)
    assert kind in str(error.value)


@pytest.mark.parametrize("name", ["rows.json", "rows.txt"])
def test_a_file_in_place_of_a_pairs_folder_is_refused(tmp_path, name):
    (tmp_path / name).write_text(json.dumps([PAIR]))
    for read in (converted, count_pairs):
        with refused("data.not-a-pairs-folder", path=tmp_path / name):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[7]", "not a JSON object"),
        ("{}", "not a JSON object with"),
        ('{"id": null}', "id is NoneType"),
        ("7", "not a JSON object"),
    ],
)
def test_a_row_without_an_id_is_named_by_its_line(tmp_path, line, said):
    (tmp_path / "rows.jsonl").write_text(f'{{"ID": 7}}\n{line}\n')
    with pytest.raises(UserError, match=f"line 2 is not a pair with an id: {said}"):
        ids_of(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("reader", ["profile", "ablation", "filter", "ledger", "endpoints"])
def test_bytes_that_are_not_utf_8_are_named_by_their_line(tmp_path, reader):
    name, text, read = READERS[reader]
    file = tmp_path / name
    file.write_bytes(text.encode() + b"\n# caf\xe9\n")
    with refused("file.not-utf8", path=file, line=text.count("\n") + 2):
        read(file)


def test_rows_that_are_not_utf_8_are_bad_rows_and_do_not_stop_the_others(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(ROWS.encode() + json.dumps(PAIR).encode().replace(b"Q?", b"caf\xe9") + b"\n")
    report = ingest("preference-jsonl", file, tmp_path / "pairs", max_bad=1.0)
    assert (report["kept"], report["bad"]) == (3, {"not_json": 1})
    assert len(list(read_pairs(tmp_path / "pairs"))) == 3


def test_a_record_that_is_not_json_or_too_deep_is_refused_in_one_line(tmp_path):
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
    with refused("file.not-text", path=key) as error:
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
            with refused("file.saved-dataset") as error:
                read(path)
            assert "to_parquet" in str(error.value)
            assert "\n" not in str(error.value)
    (tmp_path / "three").mkdir()
    rows.to_parquet(str(tmp_path / "three" / "data.parquet"))
    assert [name for _, name in list_files(tmp_path / "three", "data")] == ["data.parquet"]
