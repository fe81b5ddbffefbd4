"""The gallery through every entry of the suite: the image that each consumer gets for each of its images."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pyarrow.parquet as pq

from data_tools.export.convert import convert
from data_tools.ingest.run import ingest
from data_tools.rows.preference import read_pairs
from proxygrm.evaluate.rows.pairs import load_pairs
from proxygrm.serving.chat.request import ChatRequest, image_part_of_file
from proxygrm.teacher.critiques import append, critique_row
from support.images.gallery import gallery
from support.proxy.front_calls import ASKED, ask
from support.proxy.stub import Server, running
from support.rows.convert_rows import GOOD
from support.rows.release_files import jsonl

Handed = dict[str, dict[str, str]]
"""image -> "entry, loader" -> a path or a data URL"""


def released(folder: Path) -> Path:
    """The gallery as a user's JSONL beside its images."""
    folder.mkdir(parents=True)
    rows = []
    for name, odd in gallery().items():
        (folder / name).write_bytes(odd.data)
        rows.append({"id": name, "question": f"{name}?", "chosen": "a", "rejected": "b", "image": name})
    return jsonl(folder / "odd.jsonl", rows)


def through_all_doors(folder: Path) -> Handed:
    file = released(folder / "released")
    handed: Handed = {name: {} for name in gallery()}
    ingest("preference-jsonl", file, folder / "pairs")
    pairs = read_pairs(folder / "pairs")
    answers = [critique_row(pair.id, GOOD.format("it weighs", pair.label), "m") for pair in pairs]
    append(folder / "critiques.jsonl", answers)
    convert("swift-grm", folder / "pairs", folder / "grm.jsonl", critiques=[folder / "critiques.jsonl"])
    for line in (folder / "grm.jsonl").read_text().splitlines():
        row = json.loads(line)
        handed[row["id"].partition(":")[2]]["ingest, swift"] = row["images"][0]
    for door, source in (("ingest", folder / "pairs"), ("convert", file)):
        for mode in ("bytes", "path"):
            out = folder / f"{door}.{mode}.parquet"
            convert("verl", source, out, images=mode)
            for row in pq.read_table(out).to_pylist():
                image, extra = row["images"][0], row["extra_info"]
                entries = handed[extra["id"].partition(":")[2]]
                entries[f"{door} {mode}, verl"] = data_url(image["bytes"]) if mode == "bytes" else image["image"]
                entries[f"{door} {mode}, vllm"] = extra["images"][0]  # what the reward function sends to the proxy
    for door, source in (("ingest", folder / "pairs"), ("eval", file)):
        for pair in load_pairs(source):
            entries = handed[pair.id.removeprefix("odd:")]
            entries[f"{door} eval, engine"] = str(pair.images[0])
            request = ChatRequest.build("m", "Which?", max_tokens=1)
            body = json.loads(request.body([image_part_of_file(path) for path in pair.images]))
            entries[f"{door} endpoint, vllm"] = body["messages"][0]["content"][0]["image_url"]["url"]
    for word, urls in (("front", _by_the_front(file.parent)), ("client", _by_the_client(file.parent))):
        for name, url in urls.items():
            handed[name.partition(" ")[0]][f"{word} {name.partition(' ')[2]}, vllm"] = url
    return handed


def data_url(data: bytes) -> str:
    return "data:;base64," + base64.b64encode(data).decode()


def _by_the_front(folder: Path) -> dict[str, str]:
    server, names = Server(), list(gallery())

    async def requests(http):
        answers = []
        for name in names:
            for image in (name, data_url((folder / name).read_bytes())):
                answers.append(await http.post("/get_reward_mllm", json={**ASKED, "image": image}))
        return [answer.status_code for answer in answers]

    assert set(ask(requests, server, images=folder)) == {200}
    return dict(zip([f"{name} {how}" for name in names for how in ("path", "data")], _urls(server), strict=True))


def _by_the_client(folder: Path) -> dict[str, str]:
    server, names = Server(), list(gallery())

    async def scene():
        async with running(server, endpoints={"image_folder": str(folder)}) as (proxy, _):
            for name in names:
                await proxy.judge("q", "a", "b", ASKED["rubric"], images=[folder / name])

    asyncio.run(scene())
    return dict(zip([f"{name} path" for name in names], _urls(server), strict=True))


def _urls(server: Server) -> list[str]:
    parts = [part for seen in server.seen for part in seen["body"]["messages"][0]["content"][:-1]]
    return [part["image_url"]["url"] for part in parts]
