"""A disk without room: every command ends with one line that names the file, and leaves no half of one.

The room is that of a limit on file sizes, which needs no rights; the system's answer to a write differs in its number
alone (EFBIG instead of ENOSPC), and comes at the same places.
"""

from __future__ import annotations

import errno
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_tools.ingest.run import ingest
from data_tools.rows.pair_tables import Spill
from data_tools.rows.preference import read_pairs
from jobs import recipes
from jobs.engine import request as requests
from jobs.engine.request import Request
from jobs.engine.run_folder.ledger import Ledger
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import whole_file, whole_files, write_bytes, write_json, writing
from proxygrm.evaluate.rows.row_file import RowFile, write_rows
from proxygrm.teacher.critiques import append, critique_row

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]
ROOM = 12_000  # bytes of a file; images are smaller, all files of rows larger
GOOD = "<rubric>{} (100%)<justify>j</justify></rubric><eval>Response 1 fits.</eval><answer>{}</answer>"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    Image.new("RGB", (40, 40)).save(folder / "a.png")
    rng = random.Random(0)
    with (folder / "rows.jsonl").open("w") as file:
        for n in range(120):
            words = [" ".join(f"{rng.getrandbits(40):x}" for _ in range(60)) for _ in range(3)]
            row = dict(zip(("question", "chosen", "rejected"), words, strict=True))
            file.write(json.dumps({"id": str(n), "images": ["a.png"]} | row) + "\n")
    ingest("preference-jsonl", folder / "rows.jsonl", folder / "pairs")
    rows = [critique_row(pair.id, GOOD.format(pair.question, pair.label), "m") for pair in read_pairs(folder / "pairs")]
    append(folder / "critiques.jsonl", rows)
    requests.save(recipes.resolve(Request(profile="local")), Ledger(folder / "run"))
    return folder


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))


@pytest.mark.parametrize(
    ("words", "file"),
    [
        ("data ingest preference-jsonl DATA/rows.jsonl --out OUT/a --shards 1",
         r"OUT/a/\.parts-\w+/pairs-00001-of-00001.parquet"),
        ("data filter DATA/pairs --out OUT/a --shards 1", r"OUT/a/\.parts-\w+/signatures-00001-of-00001.u32"),
        ("data filter DATA/pairs --out OUT/a --shards 1 --near-duplicates off", r"OUT/a/pairs.parquet"),
        ("data join DATA/pairs DATA/other --out OUT/a", r"OUT/a/pairs.parquet"),
        ("data split DATA/pairs DATA/critiques.jsonl --out OUT/a --sizes SIZES", r"OUT/a/\.rows\.\w+"),
        ("data convert verl DATA/pairs --out OUT/a.parquet --shards 1", r"OUT/\.parts-\w+/a-00001-of-00001.parquet"),
        ("data convert bench DATA/pairs --out OUT/a.jsonl --shards 1", r"OUT/\.parts-\w+/a-00001-of-00001.jsonl"),
        ("data show DATA/pairs --out OUT/a.html --rows 40", r"OUT/a.html"),
        ("report --run DATA/run --out OUT/a.html", r"OUT/a.html"),
    ],
)  # fmt: skip
def test_a_command_that_finds_no_room_names_the_file(data, tmp_path, words, file):
    if "other" in words and not (data / "other").exists():
        shutil.copy(data / "rows.jsonl", data / "other.jsonl")
        ingest("preference-jsonl", data / "other.jsonl", data / "other")
    out = tmp_path / "out"
    sizes = "proxy_sft=0,proxy_sft_val=0,proxy_rl=0,proxy_rl_val=0,grm_sft=20,grm_sft_val=0,grm_rl=0,grm_rl_val=0"
    filled = words.replace("SIZES", sizes).replace("DATA", str(data)).replace("OUT", str(out)).split()
    done = subprocess.run(
        [sys.executable, "-m", "jobs", *filled], cwd=ROOT, preexec_fn=small_files, capture_output=True, text=True,
        check=False, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("proxygrm: ")]
    wanted = file.replace("OUT", re.escape(str(out)))
    assert re.match(rf"proxygrm: (cannot write )?{wanted}: File too large", told[0]), done.stderr
    whole = [path for path in out.rglob("*") if path.is_file() and not re.search(r"/\.|/images/", str(path))]
    assert whole == []


FULL = Path("/dev/full")


def on_a_full_disk(path: Path) -> None:
    with whole_file(path) as scratch:
        scratch.symlink_to(FULL)
        with scratch.open("wb") as file:
            file.write(b"x" * 10)  # told at the close


def parquet_on_a_full_disk(path: Path) -> None:
    with whole_file(path) as scratch:
        scratch.symlink_to(FULL)
        pq.write_table(pa.table({"a": np.arange(1000)}), scratch)


def several(path: Path) -> None:
    with whole_files(path.parent) as scratch:
        on_a_full_disk(scratch / path.name)


def copied(path: Path) -> None:
    source = path.with_name("source")
    source.write_bytes(b"x" * 99)
    with writing(path), FULL.open("wb") as file, source.open("rb") as read:
        shutil.copyfileobj(read, file)


def renamed(path: Path) -> None:
    with whole_file(path):
        raise OSError(errno.ENOSPC, "from a copy", "source", None, "target")


@pytest.mark.parametrize("write", [on_a_full_disk, parquet_on_a_full_disk, several, copied, renamed])
def test_an_error_of_a_write_names_the_file_under_its_final_name(tmp_path, write: Callable[[Path], Any]):
    path = tmp_path / "folder" / "result"
    path.parent.mkdir()
    with pytest.raises(OSError, match="No space left on device") as told:
        write(path)
    assert told.value.filename == str(path)
    assert told.value.errno == errno.ENOSPC
    assert str(told.value) == f"[Errno 28] No space left on device: {str(path)!r}"


def test_other_errors_in_the_block_are_not_given_the_files_name(tmp_path):
    with pytest.raises(OSError, match="refused") as told, whole_file(tmp_path / "result"):
        raise OSError(errno.ECONNREFUSED, "refused")
    assert told.value.filename is None


def limited(action: Callable[[Path], Any], path: Path) -> str:
    """What a process whose files have no room says."""
    read, write = os.pipe()
    if os.fork() == 0:
        small_files()
        try:
            action(path)
            said = "nothing"
        except (OSError, UserError) as error:
            said = f"{type(error).__name__} {error}"
        except BaseException as error:
            said = f"unexpected {error!r}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        return answer.read()


def rows_as_they_come(path: Path) -> None:
    with RowFile(path, {"model": "m"}) as file:
        file.append({"text": "x" * 2 * ROOM})


def spilled(path: Path) -> None:
    with Spill(path) as spill:
        spill.add(pa.table({"a": np.arange(ROOM)}))


ACTIONS: list[Callable[[Path], Any]] = [
    lambda path: write_bytes(path, b"x" * 2 * ROOM),
    lambda path: write_json(path, ["x"] * ROOM),
    lambda path: write_rows(path, [{"text": "x" * 2 * ROOM}]),
    lambda path: append(path, [critique_row("a", "x" * 2 * ROOM, "m")]),
    rows_as_they_come,
    spilled,
]


@pytest.mark.parametrize("action", ACTIONS)
def test_every_writer_names_its_file(tmp_path, action):
    said = limited(action, tmp_path / "result")
    assert "File too large" in said
    assert str(tmp_path / "result") in said
