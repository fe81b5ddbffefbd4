"""Links to a release's files: those of Hugging Face's cache are followed, others out of the root are refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from data_tools.export.convert import convert
from data_tools.ingest.run import ingest
from data_tools.inspect.check import check
from data_tools.inspect.show import show
from data_tools.inspect.stats import stats
from data_tools.rows.preference import read_pairs
from proxygrm.core.errors import UserError
from proxygrm.core.images.paths import MissingImage, OutsideRoot, inside, resolve
from support.proxy.front_calls import ASKED, ask
from support.proxy.stub import Server
from support.refusals import refused
from support.rows.release_files import image_bytes, jsonl, write_images

ROW = {"id": "1", "image": "long/a.png", "prompt": "What is here?", "chosen": "red one", "rejected": "blue one"}


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """As `huggingface_hub.snapshot_download` lays out a repository."""
    repository = tmp_path / "hub" / "datasets--them--bench"
    folder = repository / "snapshots" / "abc"
    (folder / "long").mkdir(parents=True)
    write_images(repository / "blobs", ["1111"])
    jsonl(repository / "blobs" / "2222", [ROW])
    (folder / "long" / "a.png").symlink_to("../../../blobs/1111")
    (folder / "mm_reward_bench.jsonl").symlink_to("../../blobs/2222")
    return folder


def test_a_snapshot_is_read_like_a_folder_of_files(snapshot, tmp_path):
    assert ingest("mm-rlhf-rewardbench", snapshot, tmp_path / "pairs")["kept"] == 1
    (pair,) = read_pairs(tmp_path / "pairs")
    assert pair.image_paths(tmp_path / "pairs")[0].read_bytes() == image_bytes(0)
    file = snapshot / "mm_reward_bench.jsonl"
    assert ingest("mm-rlhf-rewardbench", file, tmp_path / "of file")["kept"] == 1
    below = tmp_path / "elsewhere.jsonl"
    below.write_text(json.dumps(ROW | {"image": "a.png"}) + "\n")
    report = ingest("preference-jsonl", below, tmp_path / "below", images_root=snapshot / "long")
    assert (report["kept"], report["images"]) == (1, 1)
    for path in (snapshot, file):
        assert check(path).ok
        assert stats(path)["images"]["a_row"] == {"1": 1}
        show(path, tmp_path / "page.html")
        assert 'class="gone"' not in (tmp_path / "page.html").read_text()
    assert convert("verl", file, tmp_path / "x.parquet")["kept"] == 1


def test_the_front_end_takes_paths_in_a_snapshot(snapshot):
    server = Server()

    def post(image):
        return lambda http: http.post("/get_reward_mllm", json={**ASKED, "image": image})

    answer = ask(post("long/a.png"), server, images=snapshot)
    assert answer.status_code == 200
    (image, _) = server.seen[0]["body"]["messages"][0]["content"]
    assert base64.b64decode(image["image_url"]["url"].partition(",")[2]) == image_bytes(0)
    answer = ask(post("../../blobs/1111"), images=snapshot)
    assert answer.status_code == 422


@pytest.mark.parametrize("target", ["secret.png", "hub/datasets--others/blobs/3333", "hub/datasets--them--bench/refs"])
def test_links_out_of_the_repository_are_refused_with_a_remedy(snapshot, tmp_path, target):
    write_images(tmp_path, [target if "." in target else f"{target}/x"])
    link = snapshot / "long" / "out.png"
    link.symlink_to(tmp_path / target)
    with pytest.raises(OutsideRoot, match=r"out.png is a link out of .*cp -rL.*--local-dir"):
        inside("long/out.png", snapshot)
    rows = jsonl(tmp_path / "rows.jsonl", [ROW | {"image": "long/out.png"}])
    with pytest.raises(UserError, match=r"image_outside_root, long/out.png is a link out of .*cp -rL"):
        ingest("preference-jsonl", rows, tmp_path / "pairs", images_root=snapshot)


@pytest.mark.parametrize("name", ["../../blobs/1111", "../abc2/a.png", "/etc/passwd", "long/../../x"])
def test_a_path_may_not_leave_the_snapshot_by_its_own_words(snapshot, name):
    with pytest.raises(OutsideRoot):
        inside(name, snapshot)


@pytest.mark.parametrize("name", ["gone.png", "a\0b", "\ud800.png", "x" * 5000, "long", "round"])
def test_what_leads_to_no_file_is_missing(snapshot, name):
    (snapshot / "round").symlink_to("round")
    with pytest.raises(MissingImage):
        resolve(name, snapshot)


def test_a_folder_called_snapshots_without_blobs_allows_nothing_more(tmp_path):
    write_images(tmp_path / "mine", ["a.png"])
    (tmp_path / "snapshots" / "1").mkdir(parents=True)
    (tmp_path / "snapshots" / "1" / "a.png").symlink_to(tmp_path / "mine" / "a.png")
    with pytest.raises(OutsideRoot):
        inside("a.png", tmp_path / "snapshots" / "1")


def test_a_released_file_whose_blob_is_gone_is_not_passed_over(snapshot, tmp_path):
    (snapshot / "more.jsonl").symlink_to("../../blobs/gone")
    with refused("file.broken-link", path=snapshot / "more.jsonl"):
        ingest("mm-rlhf-rewardbench", snapshot, tmp_path / "pairs")
