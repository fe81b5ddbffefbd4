"""The API of served reward models as a real HTTP server, over stub replicas."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import math
import os
import re
import struct
import zlib
from pathlib import Path

import pytest
from aiohttp import web
from PIL import Image

from proxygrm.critique.prompts import r1_prompt
from proxygrm.process import policy_json
from proxygrm.reward_service import api as api_module
from proxygrm.reward_service import generative, process, scalar
from proxygrm.reward_service.generative import GenerativeModel
from proxygrm.reward_service.images import UploadedImages
from proxygrm.reward_service.models import read_models
from proxygrm.reward_service.process import ProcessModel
from proxygrm.reward_service.scalar import ScalarModel
from proxygrm.serving.front import health
from proxygrm.serving.pool import routing
from support.proxy.reward_calls import Scoring, Writing, ask, served
from support.proxy.stub import completion, until
from support.refusals import refused
from support.small_checkpoints import write_checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]
PAIR = {"question": "Which?", "response_1": "long answer", "response_2": "short"}
MANY = {"question": "Which?", "responses": ["four", "longest", "a", "five5"]}


def png(size=(8, 8)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, "PNG")
    return out.getvalue()


def url_of(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def bomb(side: int) -> bytes:
    """A PNG that says it is so large, in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def test_a_scalar_model_gives_its_scores_and_compares_by_them():
    async def requests(http):
        return [
            (await http.post(path, json=body)).json()
            for path, body in (
                ("/score", MANY),
                ("/score", {**MANY, "responses": ["one"]}),
                ("/compare", PAIR),
                ("/compare", {**PAIR, "response_2": "eleven char"}),
            )
        ]

    many, one, compared, tie = ask(requests, rm=[Scoring()])
    assert many == {"scores": [4.0, 7.0, 1.0, 5.0], "how": "scalar"}
    assert one["scores"] == [3.0]
    assert compared["verdict"] == 1
    assert compared["scores"] == [11.0, 5.0]
    assert compared["probability"] == pytest.approx(1 / (1 + math.exp(-6)))
    assert compared["critiques"] == []
    assert (tie["verdict"], tie["reason"], tie["probability"]) == (None, "tie", 0.5)


def test_a_generative_model_scores_by_its_share_of_wins_over_all_ordered_pairs():
    server = Writing()
    found = ask(lambda http: http.post("/score", json=MANY), grm=[server]).json()
    assert found == {"scores": [1 / 3, 1.0, 0.0, 2 / 3], "how": "share-of-wins"}
    assert len(server.seen) == 4 * 3
    biased = ask(lambda http: http.post("/score", json=MANY), grm=[Writing(favours=2)]).json()
    assert biased["scores"] == [0.5] * 4  # a preference for a place counts for no response


@pytest.mark.parametrize(
    ("favours", "orders", "verdict", "verdicts"),
    [(None, "both", 1, [1, 1]), (1, "both", None, [1, 2]), (2, "both", None, [2, 1]), (2, "as-given", 2, [2])],
)
def test_a_comparison_has_the_critiques_and_a_verdict_only_where_both_orders_agree(favours, orders, verdict, verdicts):
    body = {**PAIR, "orders": orders}
    found = ask(lambda http: http.post("/compare", json=body), grm=[Writing(favours)]).json()
    assert found["verdict"] == verdict
    assert found.get("reason") == (None if verdict else "orders_disagree")
    assert [critique["verdict"] for critique in found["critiques"]] == verdicts
    assert found["critiques"][0]["rubric"] == "Length (100%)"
    assert "scores" not in found
    assert "probability" not in found


def test_a_model_of_the_other_contract_is_asked_for_its_own_judgement():
    async def behave(request, number):
        return completion("<think>The second is shorter.</think><answer>1</answer>")

    server = Writing(behave=behave)
    body = {**PAIR, "orders": "as-given"}
    found = ask(lambda http: http.post("/compare", json=body), r1=[server], options={"contract": "r1"}).json()
    assert (found["verdict"], found["critiques"][0]["rubric"]) == (1, None)
    assert found["critiques"][0]["evaluation"] == "The second is shorter."
    assert server.seen[0]["body"]["messages"][0]["content"][-1]["text"] == r1_prompt(*PAIR.values(), images=0)


@pytest.mark.parametrize(
    ("how", "cause"), [("babbles", "unparsed"), ("cut off", "cut_off"), ("500", "http_error"), ("NaN", "garbage")]
)
def test_what_could_not_be_judged_is_503_with_its_cause_and_has_no_score(how, cause, monkeypatch):
    monkeypatch.setattr(routing, "FIRST_BACK_OFF_S", 0.01)

    async def behave(request, number):
        if number < 3:  # of the judgements of one request, most are there
            return None
        if how == "NaN":
            return web.Response(text='{"scores": [NaN, 1]}')
        return web.Response(status=500) if how == "500" else completion("?", "length" if how == "cut off" else "stop")

    async def scalar(request, number):
        return await behave(request, 3)

    async def requests(http):
        return await asyncio.gather(
            http.post("/score", json={**MANY, "model": "grm"}), http.post("/compare", json={**PAIR, "model": "rm"})
        )

    # A call's end is not near that of a breaker's pause (1 s, 2 s): an attempt would be on its way then.
    scored, compared = ask(requests, grm=[Writing(behave=behave)], rm=[Scoring(behave=scalar)], timeout_s=2.0)
    expected = {"NaN": "garbage", "500": "http_error"}.get(how, "garbage")  # a scalar model writes nothing
    for response, wanted in ((scored, cause), (compared, expected)):
        assert response.status_code == 503
        assert response.json()["error"]["cause"] == wanted
        assert not {"scores", "verdict"} & response.json().keys()
        assert "\n" not in response.json()["error"]["detail"]


def test_a_failed_judgement_ends_its_request_and_frees_the_places_of_the_others():
    async def behave(request, number):
        if number > 1:
            await asyncio.sleep(60)
        return completion("?")

    async def scene():
        server = Writing(behave=behave)
        async with served(grm=[server]) as http:
            response = await http.post("/score", json=MANY)
            await until(lambda: server.now == 0)
            return response.status_code, server.now

    assert asyncio.run(scene()) == (503, 0)


BAD = [
    ("/score", {"responses": []}, 422, "0 responses"),
    ("/score", {"responses": ["a"] * 100}, 422, "100 responses"),
    ("/score", {"responses": ["a", ""]}, 422, "responses.1"),
    ("/score", {"responses": [" \n\u3000", "a"]}, 422, "responses.0: Value error, it is blank"),
    ("/score", {"responses": "a"}, 422, "responses"),
    ("/score", {"question": ""}, 422, "question"),
    ("/score", {"question": "\ud800"}, 422, "question"),
    ("/score", {"answers": ["a"]}, 422, "answers"),
    ("/score", {"model": "other"}, 404, "there is no model 'other' here; there is"),
    ("/compare", {"orders": "drawn"}, 422, "orders"),
    ("/compare", {"response_2": None}, 422, "response_2"),
    ("/compare", {"images": "http://169.254.169.254/latest"}, 422, "not fetched"),
    ("/compare", {"images": "/etc/passwd"}, 422, "outside the folder"),
    ("/compare", {"images": "../outside.png"}, 422, "outside the folder"),
    ("/compare", {"images": "link.png"}, 422, "outside the folder"),
    ("/compare", {"images": "file:///etc/passwd"}, 422, "outside the folder"),
    ("/compare", {"images": "gone.png"}, 422, "there is no file gone.png"),
    ("/compare", {"images": "pipe"}, 422, "there is no file pipe"),
    ("/compare", {"images": "a\0b"}, 422, "not a path"),
    ("/compare", {"images": ["in.png"] * 9}, 422, "9 images"),
    ("/compare", {"images": ["in.png", ""]}, 422, "empty"),
    ("/compare", {"images": url_of(b"no image")}, 422, "not an image"),
    ("/compare", {"images": url_of(png()[:45])}, 422, "image:"),
    ("/compare", {"images": url_of(bomb(8_000))}, 422, "more than 50,000,000"),
    ("/compare", {"images": url_of(bomb(60_000))}, 422, "pixels"),
    ("/compare", {"images": "bomb.png"}, 422, "more than 50,000,000"),
    ("/compare", {"images": "sha256:" + "0" * 64}, 404, "send it once"),
    ("/compare", {"images": "sha256:zz"}, 422, "64 hexadecimal"),
]


def test_bad_input_is_one_line_and_is_not_sent(tmp_path):
    (tmp_path / "outside.png").write_bytes(png())
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "in.png").write_bytes(png())
    (folder / "bomb.png").write_bytes(bomb(8_000))
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    os.mkfifo(folder / "pipe")
    rm, grm = Scoring(), Writing()

    async def requests(http):
        found = []
        for path, change, _, _ in BAD:
            body = {**(MANY if path == "/score" else PAIR), **change}
            for name in ["rm", "grm"] if "model" not in change else [change["model"]]:
                content = json.dumps({"model": name, **body})
                response = await http.post(path, content=content, headers={"Content-Type": "application/json"})
                found.append(
                    (path, change, response.status_code, response.json().get("error", {}).get("detail", response.text))
                )
        return found

    expected = [case for case in BAD for _ in range(1 if "model" in case[1] else 2)]
    found = ask(requests, images=folder, rm=[rm], grm=[grm])
    for (_, change, status, detail), (_, _, found_status, said) in zip(expected, found, strict=True):
        assert (found_status, detail in said, "\n" in said) == (status, True, False), (change, found_status, said)
    assert rm.seen == grm.seen == []


def test_one_response_is_scored_by_a_scalar_model_and_refused_by_one_that_compares():
    async def requests(http):
        body = {"question": "q", "responses": ["only one"]}
        return [(await http.post("/score", json={**body, "model": name})) for name in ("rm", "grm")]

    scored, refusal = ask(requests, rm=[Scoring()], grm=[Writing()])
    assert scored.json()["scores"] == [8.0]
    assert (refusal.status_code, refusal.json()["error"]["detail"]) == (
        422,
        "1 responses; a generative model scores 2 to 16 in one request",
    )


def test_another_path_or_method_is_an_error_of_the_same_form():
    async def requests(http):
        return await http.post("/rank", json=MANY), await http.get("/score"), await http.post("/models", json={})

    gone, read, written = ask(requests, rm=[Scoring()])
    assert (gone.status_code, gone.json()["error"]["cause"]) == (404, "unknown_path")
    assert "/score, /compare" in gone.json()["error"]["detail"]
    for answer, allowed in ((read, "POST"), (written, "GET")):
        assert (answer.status_code, answer.json()["error"]["cause"]) == (405, "bad_method")
        assert answer.headers["allow"] == allowed


def test_the_model_is_named_where_several_are_served():
    async def requests(http):
        return await http.post("/score", json=MANY), await http.get("/models")

    unnamed, listed = ask(requests, rm=[Scoring()], grm=[Writing(), Writing()])
    assert (unnamed.status_code, "name one of rm, grm" in unnamed.text) == (422, True)
    assert [(m["name"], m["kind"], m["replicas"], m["responses"]) for m in listed.json()["models"]] == [
        ("rm", "scalar", 1, {"min": 1, "max": 64}),
        ("grm", "generative", 2, {"min": 2, "max": 16}),
    ]


def test_an_image_is_given_by_path_as_data_or_by_its_hash_after_that(tmp_path):
    data = png()
    (tmp_path / "in.png").write_bytes(data)
    named = "sha256:" + hashlib.sha256(data).hexdigest()
    server = Scoring()

    async def requests(http):
        return [
            (await http.post("/compare", json={**PAIR, "images": image})).status_code
            for image in (named, "in.png", str(tmp_path / "in.png"), [url_of(data)], named, [named, "in.png"])
        ]

    assert ask(requests, images=tmp_path, rm=[server]) == [404, 200, 200, 200, 200, 200]
    sent = [[part.get("image_url") for part in seen["body"]["messages"][0]["content"][:-1]] for seen in server.seen]
    assert [len(images) for images in sent] == [1, 1, 1, 1, 2]
    assert sent[3] == [None]  # the replica has it, too


def test_uploaded_images_are_dropped_when_there_is_no_room():
    async def scene():
        images = [png((8, 8 + number)) for number in range(3)]
        store = UploadedImages(None, max_bytes=len(images[0]) + len(images[2]))
        await store.read([url_of(images[0]), url_of(images[1])])
        names = ["sha256:" + hashlib.sha256(image).hexdigest() for image in images]
        await store.read(names[0])
        await store.read(url_of(images[2]))
        kept = []
        for name in names:
            try:
                kept.append(await store.read(name) != [])
            except ValueError:
                kept.append(False)
        return kept

    assert asyncio.run(scene()) == [True, False, True]


def test_bodies_that_are_too_large_have_no_length_or_are_not_json_are_refused(monkeypatch):
    from proxygrm.serving.front import requests as limits

    monkeypatch.setattr(limits, "MAX_BODY_BYTES", 1000)

    async def odd():
        yield b"{}"

    async def requests(http):
        return (
            await http.post("/score", json={**MANY, "question": "q" * 2000}),
            await http.post("/score", content=odd()),
            await http.post("/score", content=b"\xff{"),
            await http.post("/score", content=b"[" * 900),
            await http.post("/score", json=[]),
            await http.post("/score", data=MANY),  # as a form of another site could send it
        )

    responses = ask(requests, rm=[Scoring()])
    assert [response.status_code for response in responses[:3]] == [413, 411, 422]
    assert [400 <= response.status_code < 500 for response in responses] == [True] * 6


def test_everything_but_health_and_the_page_requires_the_key():
    async def requests(http):
        del http.headers["Authorization"]
        closed = [await http.post(path, json={}) for path in ("/score", "/compare", "/steps")]
        closed += [await http.get(path) for path in ("/models", "/metrics", "/docs")]
        return [r.status_code for r in closed], [(await http.get(path)).status_code for path in ("/", "/health")]

    assert ask(requests, rm=[Scoring()]) == ([401] * 6, [200, 200])


def test_health_says_which_model_has_how_many_healthy_replicas(monkeypatch):
    monkeypatch.setattr(health, "HEALTH_CACHE_S", 0.0)

    async def scene():
        servers = [Scoring(), Scoring()]
        async with served(rm=servers, grm=[Writing()]) as http:
            states = [await http.get("/health")]
            for server in servers:
                await server.stop()
                states.append(await http.get("/health"))
            return [(state.status_code, state.json()) for state in states]

    whole, degraded, down = asyncio.run(scene())
    assert whole[0] == 200
    assert whole[1]["status"] == "ok"
    assert (degraded[0], degraded[1]["status"]) == (200, "degraded")
    assert degraded[1]["models"]["rm"] == {"replicas": 2, "healthy": 1}
    assert (down[0], down[1]["status"]) == (503, "down")


def test_metrics_count_calls_and_causes_by_model_and_refusals_by_status():
    async def behave(request, number):
        return completion("?") if number > 2 else None

    async def requests(http):
        await http.post("/compare", json={**PAIR, "model": "grm"})
        await http.post("/compare", json={**PAIR, "model": "grm", "orders": "as-given"})
        await http.post("/score", json={**MANY, "model": "rm"})
        await http.post("/score", json={"question": "q", "responses": []})
        return (await http.get("/metrics")).text

    text = ask(requests, rm=[Scoring()], grm=[Writing(behave=behave)])
    for line in (
        'proxygrm_reward_scored_total{model="grm"} 2.0',
        'proxygrm_reward_scored_total{model="rm"} 1.0',
        'proxygrm_reward_unscored_total{cause="unparsed",model="grm"} 1.0',
        'proxygrm_reward_responses_total{path="/score",status="422"} 1.0',
        'proxygrm_reward_responses_total{path="/compare",status="503"} 1.0',
    ):
        assert line in text


def test_two_models_under_one_name_are_refused(tmp_path):
    folders = {}
    for kind in ("scalar", "generative"):
        folder = tmp_path / kind / "model"
        folder.mkdir(parents=True)
        write_checkpoint(folder)
        folders[kind] = folder
    config = {"model_type": "qwen2_5_vl", "reward_head": {"layers": 2, "activation": "silu"}}
    (folders["scalar"] / "config.json").write_text(json.dumps(config))
    both = [str(folder) for folder in folders.values()]
    with refused("serve-reward.duplicate-name", name="model", kinds=["scalar", "generative"]):
        read_models(both)
    with refused("serve-reward.duplicate-name", name="x"):
        read_models([f"x={path}" for path in both])
    named = read_models([f"rm={both[0]}", both[1]])
    assert [(model.name, model.kind) for model in named] == [("rm", "scalar"), ("model", "generative")]
    with refused("checkpoint.missing"):
        read_models([str(tmp_path / "nothing")])


def test_the_table_of_the_documentation_has_every_path_field_and_limit_of_the_api():
    text = (ROOT / "docs" / "serving.md").read_text()
    rows = set(re.findall(r"^\| `(?:GET|POST) (/\w*)`", text, re.MULTILINE))
    assert rows == set(api_module.PATHS)
    for model, how in ((ScalarModel, scalar.HOW), (GenerativeModel, generative.HOW), (ProcessModel, process.HOW)):
        row = next(line for line in text.splitlines() if line.startswith(f"| {model.kind} |"))
        assert f"`{how}`" in row
        assert f"{model.fewest} to {model.most}" in row
    assert f"`steps`: 1 to {policy_json.MAX_STEPS} of" in text
    bodies = {
        "/score": api_module.ScoreRequest,
        "/compare": api_module.CompareRequest,
        "/steps": api_module.StepsRequest,
    }
    for path, body in bodies.items():
        asked = next(line for line in text.splitlines() if line.startswith(f"| `POST {path}` |")).split(" | ")[1]
        fields = set(re.findall(r"`(\w+)`(?=[,:]|$)", asked)) - {"both"}
        assert fields | {"model"} == set(body.model_fields), path  # the name of the model is below the table
    assert all(f'"{field}"' in asked for field in api_module.StepOfSolution.model_fields)
