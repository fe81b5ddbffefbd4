"""A scalar reward model behind HTTP: the replica's own application, with a real tiny model."""

from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from support.refusals import refused
from support.scalar_models import make_scalar, tiny_start

pytest.importorskip("torch")

from proxygrm.scalar import scorer as scorer_module
from proxygrm.scalar.conversation import Item
from proxygrm.scalar.replica import SCORER, Batches, Images, application
from proxygrm.scalar.scorer import Scorer
from proxygrm.serving.settings import ProxySettings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_start(tmp_path_factory.mktemp("start") / "tiny")


@pytest.fixture(scope="module")
def scorer(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    return Scorer(make_scalar(start, tmp_path_factory.mktemp("scalar") / "model"), max_length=256)


def png(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (56, 56), colour).save(out, "PNG")
    return out.getvalue()


def part(data: bytes | None, uuid: str = "") -> dict[str, Any]:
    url = None if data is None else {"url": "data:image/png;base64," + base64.b64encode(data).decode()}
    return {"type": "image_url", "image_url": url, **({"uuid": uuid} if uuid else {})}


def asked(responses: list[str], *parts: dict[str, Any], question: str = "Which colour?") -> dict[str, Any]:
    content = [*parts, {"type": "text", "text": question}]
    return {"messages": [{"role": "user", "content": content}], "responses": responses}


def answers(scorer: Any, *bodies: Any, images: Path | None = None, key: str = "k") -> list[httpx.Response]:
    """All of them sent at once if they are a list, else one after the other."""

    async def scene() -> list[httpx.Response]:
        transport = httpx.ASGITransport(application(scorer, images, "k"))
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://replica", headers=headers) as http:
            replies = []
            for body in bodies:
                many = body if isinstance(body, list) else [body]
                replies += await asyncio.gather(*(http.post("/v1/score", json=each) for each in many))
            return replies

    return asyncio.run(scene())


def test_scores_are_the_scorers_own_for_any_number_of_responses(scorer: Scorer) -> None:
    red = Image.new("RGB", (56, 56), "red")
    responses = ["It is red.", "Blue", "I cannot say which"]
    (expected,) = scorer.scores([Item("x", "Which colour?", tuple(responses), (red,))])
    whole, alone = answers(scorer, asked(responses, part(png("red"))), asked(responses[1:2], part(png("red"))))
    assert whole.json()["scores"] == list(expected.scores)
    assert alone.json()["scores"] == pytest.approx([expected.scores[1]], abs=1e-5)


def test_requests_that_wait_together_are_scored_together_and_get_their_own_scores(scorer: Scorer) -> None:
    batches: list[int] = []

    class Watched:
        max_items = 64

        def scores(self, items: list[Item]) -> Any:
            batches.append(len(items))
            return scorer.scores(items)

    bodies = [asked([f"answer {number}", "other"]) for number in range(12)]
    together = [reply.json()["scores"] for reply in answers(Watched(), bodies)]
    assert sum(batches) == 12
    assert len(batches) < 12
    one_by_one = [reply.json()["scores"] for reply in answers(scorer, *bodies)]
    assert len({scores[0] for scores in together}) == 12
    for a, b in zip(together, one_by_one, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_an_image_is_remembered_by_its_uuid_and_an_unknown_one_is_a_miss(scorer: Scorer) -> None:
    sent, named, unknown = answers(
        scorer,
        asked(["a", "b"], part(png("red"), "u1")),
        asked(["a", "b"], part(None, "u1")),
        asked(["a", "b"], part(None, "u2")),
    )
    assert sent.json() == named.json()
    assert (unknown.status_code, "Cache miss" in unknown.text) == (400, True)


def test_the_least_recently_used_images_are_dropped_when_there_is_no_room() -> None:
    async def scene() -> list[str]:
        images = Images(None, max_bytes=2 * 56 * 56 * 3)
        for uuid in ("a", "b", "a", "c"):
            await images.read(part(png("red"), uuid))
        return list(images._kept)

    assert asyncio.run(scene()) == ["a", "c"]


def test_what_cannot_be_scored_has_a_status_and_no_score(scorer: Scorer, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(png("red"))
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "link.png").symlink_to(outside)
    (folder / "in.png").write_bytes(png("red"))

    def file(path: Path) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": path.as_uri()}}

    replies = answers(
        scorer,
        asked(["word " * 300, "b"]),
        asked(["a"], part(b"no image")),
        asked(["a"], file(outside)),
        asked(["a"], file(folder / "link.png")),
        asked(["a"], file(folder / ".." / "outside.png")),
        {"messages": []},
        asked(["a"], file(folder / "in.png")),
        images=folder.resolve(),
    )
    assert [reply.status_code for reply in replies] == [413, 422, 422, 422, 422, 422, 200]
    assert all("scores" not in reply.json() for reply in replies[:-1])
    assert answers(scorer, asked(["a"]), key="wrong")[0].status_code == 401


def test_an_item_that_fails_does_not_take_its_batch_with_it(scorer: Scorer) -> None:
    class Failing:
        max_items = 64

        def scores(self, items: list[Item]) -> Any:
            if any(item.question == "poison" for item in items):
                raise RuntimeError("out of memory")
            return scorer.scores(items)

    bodies = [asked(["a", "b"], question=question) for question in ("one", "poison", "two")]
    assert [reply.status_code for reply in answers(Failing(), bodies)] == [200, 503, 200]


def test_callers_that_have_left_are_not_scored() -> None:
    asked_for: list[str] = []

    class Slow:
        max_items = 1

        def scores(self, items: list[Item]) -> Any:
            asked_for.extend(item.question for item in items)
            return [scorer_module.Score(item.key, (0.0,)) for item in items]

    async def scene() -> None:
        batches = Batches(Slow())
        first, second, third = (asyncio.create_task(batches.scores(q, ["a"], ())) for q in ("1", "2", "3"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(first, second, third, return_exceptions=True)

    asyncio.run(scene())
    assert asked_for == ["1", "3"]


def test_many_responses_are_scored_in_parts_with_the_same_scores(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = Item("many", "Which colour?", tuple(f"answer {n} " * (n + 1) for n in range(12)))
    (whole,) = scorer.scores([item])
    monkeypatch.setattr(scorer_module, "MAX_BATCH_TOKENS", 60)
    small = Item("small", "Q", ("a", "b"))
    parts = {score.key: score for score in scorer.scores([item, small])}
    assert parts["many"].tokens > whole.tokens
    assert parts["many"].scores == pytest.approx(whole.scores, abs=1e-5)
    assert len(parts["small"].scores) == 2


def test_a_checkpoint_that_writes_is_refused_before_anything_is_started(start: Path) -> None:
    with refused("checkpoint.not-scalar", path=start):
        SCORER.fitted(ProxySettings(), start, "cpu")
