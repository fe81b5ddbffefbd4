"""A release goes through the commands of the user: ingest -> check -> stats -> filter -> convert -> check."""

from __future__ import annotations

import errno

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from jobs.cli.main import main
from support.rows.release_files import LLAVA_CRITIC, RLAIF_V, cell, image_bytes, jsonl, parquet, rlaif_v


def llava_critic(i):
    request = f"Question: [q{i}]\nThe first response: [it is a cat number {i}]\nThe second response: [it is a dog {i}]"
    turns = [
        {"from": "human", "value": f"<image>\n{request}\n"},
        {"from": "gpt", "value": "The better response: [first]"},
    ]
    return {"id": str(i), "source": "s", "conversations": turns, "image": cell(i)}


def bench(i):
    texts = {
        "prompt": f"What is shown in image {i}?",
        "chosen": f"A bus number {i}.",
        "rejected": f"A train number {i}.",
    }
    return {"id": f"mathverse_{i}", "image": "a.png", **texts}


def release(source, folder):
    if source == "rlaif-v":
        texts = {"chosen": "The bus is red.", "rejected": "The bus is a deep blue."}
        rows = [rlaif_v(i, question=f"What colour has bus {i} got?", **texts) for i in range(5)]
        return parquet(folder / "a.parquet", rows, RLAIF_V)
    if source == "llava-critic":
        return parquet(folder / "a.parquet", [llava_critic(i) for i in range(5)], LLAVA_CRITIC)
    folder.mkdir()
    (folder / "a.png").write_bytes(image_bytes(3))
    return jsonl(folder / "a.jsonl", [bench(i) for i in range(5)])


@pytest.mark.parametrize("source", ["rlaif-v", "llava-critic", "vl-rewardbench", "preference-jsonl"])
def test_a_release_becomes_a_training_file_by_commands_only(source, tmp_path):
    def run(*words: object) -> str:
        done = CliRunner().invoke(main, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done.output

    pairs, clean, out = tmp_path / "pairs", tmp_path / "clean", tmp_path / "train.parquet"
    run("data", "ingest", source, release(source, tmp_path / "in"), "--out", pairs, "--workers", 1)
    assert "no problems" in run("data", "check", pairs)
    assert "label" in run("data", "stats", pairs)
    # The drawn images are 8 x 8, smaller than any real one.
    run("data", "filter", pairs, "--out", clean, "--no-quality", "--near-duplicates", 1, "--workers", 1)
    run("data", "convert", "verl", clean, "--out", out, "--workers", 1)
    assert pq.ParquetFile(out).metadata.num_rows == 5
    assert "no problems" in run("data", "check", out)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileExistsError(errno.EEXIST, "File exists", "out/pairs"), "proxygrm: out/pairs: File exists"),
        (OSError(errno.ENOSPC, "No space left on device"), "proxygrm: No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "proxygrm: Disk quota exceeded"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), None),
    ],
)
def test_a_file_that_cannot_be_written_is_one_line_and_a_bug_is_a_traceback(monkeypatch, error, line):
    def fail(*paths: object) -> None:
        raise error

    monkeypatch.setattr("data_tools.ingest.join.join", fail)
    done = CliRunner().invoke(main, ["data", "join", "a", "b", "--out", "c"])
    if line is None:
        assert done.exception is error
    else:
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith(line)
        assert "Traceback" in CliRunner().invoke(main, ["--debug", "data", "join", "a", "b", "--out", "c"]).stderr
