"""/steps, and scores by a process model's aggregate, over HTTP and stub replicas that judge by the demo's rules."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from proxygrm.core.checkpoints.kinds import mark_process
from proxygrm.process.aggregate import aggregate
from proxygrm.reward_service.models import read_models
from support.proxy.reward_calls import Scoring, Stepping, served
from support.proxy.stub import completion
from support.small_checkpoints import write_checkpoint

pytestmark = pytest.mark.slow

SEEN, MISREAD = "there are three circles", "the circles are blue"
STEPS = [
    {"steptext": "Three circles are there.", "visualdependency": SEEN},
    {"steptext": "Four blue ones.", "visualdependency": MISREAD},
    {"steptext": "So 3 + 1 = 4."},
    {"steptext": "And 1 + 1 = 3.", "visualdependency": None},
]
ASKED = {"model": "prm", "question": "How many circles?", "steps": STEPS}


def solution(*steps: dict) -> str:
    return json.dumps({"reasoningprocess": steps, "finalanswer": "3"})


def test_steps_are_gated_scored_and_compared_and_nothing_else_is_judged():
    server = Stepping()

    async def scene():
        async with served(prm=[server], rm=[Scoring()]) as http:

            async def post(path, **change):
                reply = await http.post(path, json={"model": "prm", "question": ASKED["question"], **change})
                return reply.status_code, reply.json()

            found = {"steps": await post("/steps", steps=STEPS)}
            found["calls"] = len(server.seen)
            found["words alone"] = await post("/steps", steps=STEPS[2:])
            good, bad = solution(STEPS[0], STEPS[2]), solution(*STEPS)
            found["score"] = await post("/score", responses=[good, bad])
            found["compare"] = await post("/compare", response_1=bad, response_2=good)
            found["tie"] = await post("/compare", response_1=good, response_2=good)
            found["blank"] = await post("/steps", steps=[STEPS[2], {"steptext": " "}])
            sent = len(server.seen)
            found["no steps"] = await post("/score", responses=[good, "It is three."])
            found["too many"] = await post("/score", responses=[solution(*STEPS[2:3] * 257)])
            found["none"] = await post("/steps", steps=[])
            found["extra"] = await post("/steps", steps=[{**STEPS[0], "score": 1}])
            deep = await http.post("/steps", content="[" * 100_000, headers={"Content-Type": "application/json"})
            found["deep"] = deep.status_code, deep.json()
            found["scalar"] = await post("/steps", steps=STEPS, model="rm")
            assert len(server.seen) == sent
            found["models"] = (await http.get("/models")).json()["models"][0]
            return found

    found = asyncio.run(scene())
    judged = {"raw": [1.0, -1.0, 1.0, -1.0], "final": [0.5, -1.0, 1.0, -1.0], "reliability": 0.5}
    assert found["steps"] == (200, judged)
    assert found["calls"] == 1 + 1 + 4  # the description, the audit, each step
    assert found["words alone"] == (200, {"raw": [1.0, -1.0], "final": [1.0, -1.0], "reliability": None})
    scores = [1.0, aggregate("mean", judged["final"])]
    assert found["score"] == (200, {"scores": scores, "how": "process-mean"})
    assert found["compare"] == (200, {"verdict": 2, "critiques": [], "scores": scores[::-1]})
    assert found["blank"][1]["raw"] == [1.0, 1.0]  # a step without a text is the model's to judge
    assert (found["tie"][1]["verdict"], found["tie"][1]["reason"]) == (None, "tie")
    for name, cause, said in (
        ("no steps", "no_steps", "response 2 has no steps (failed_response)"),
        ("too many", "no_steps", "response 1 has 257 steps"),
        ("none", "bad_request", "steps"),
        ("extra", "bad_request", "steps.0.score"),
        ("deep", "bad_request", "JSON"),
        ("scalar", "bad_request", "a scalar model does not judge steps"),
    ):
        status, body = found[name]
        assert (status, body["error"]["cause"], said in body["error"]["detail"]) == (422, cause, True), (name, body)
    assert (found["models"]["kind"], found["models"]["responses"]) == ("process", {"min": 1, "max": 16})


@pytest.mark.parametrize(
    ("stage", "text", "finish", "cause"),
    [
        ("Describe", "<think>I see", "length", "cut_off"),
        ("Two texts are about", '{"p_score": 70}', "stop", "unparsed"),
        ("Is step 4 right?", "incorrect", "stop", "unparsed"),
    ],
)
def test_a_stage_that_cannot_be_read_is_503_and_never_a_score(stage, text, finish, cause):
    async def scene():
        async def behave(request, number):
            asked = server.seen[-1]["body"]["messages"][0]["content"][-1]["text"]
            return completion(text, finish) if stage in asked else None

        server = Stepping(behave=behave)
        async with served(prm=[server]) as http:
            return await http.post("/steps", json=ASKED)

    reply = asyncio.run(scene())
    assert (reply.status_code, reply.json()["error"]["cause"]) == (503, cause)


def test_a_step_judge_is_known_by_its_marker(tmp_path: Path):
    folder = tmp_path / "prm"
    folder.mkdir()
    write_checkpoint(folder)
    mark_process(folder, {})
    assert [model.kind for model in read_models([str(folder)])] == ["process"]
