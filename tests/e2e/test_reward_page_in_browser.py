"""The page of `proxygrm serve-reward` in a real Chromium, over stub replicas; the server is the real one."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from support.chromium import Chromium
from support.proxy.reward_calls import Scoring, Stepping, Writing, served

pytestmark = pytest.mark.heavy


class Scene:
    """The API in a thread of its own, so that the browser's calls, which wait, do not stop it."""

    def __init__(self) -> None:
        self.rm, self.grm, self.prm, self.url = Scoring(), Writing(), Stepping(), ""
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    async def _serve(self) -> None:
        async with served(rm=[self.rm], grm=[self.grm], prm=[self.prm]) as http:
            self.url = str(http.base_url).rstrip("/")
            self._ready.set()
            await self._end.wait()

    def __enter__(self) -> Scene:
        self._thread.start()
        assert self._ready.wait(120)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(120)
        self._loop.close()


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Scene() as made:
        yield made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    made = Chromium(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


def open_page(browser: Chromium, url: str) -> None:
    browser.call("Page.navigate", url="about:blank")
    browser.said.clear()
    browser.call("Page.navigate", url=f"{url}/")
    browser.wait("document.readyState === 'complete' && $('#form') !== null")


def fill(browser: Chromium, **values: str) -> None:
    for name, value in values.items():
        browser.ask(f"$('#{name}').value = {json.dumps(value)}; $('#{name}').dispatchEvent(new Event('change')); true")


def compare(browser: Chromium) -> str:
    browser.ask("$('#result').hidden = true; $('#compare').click(); true")
    browser.wait("!$('#result').hidden && !$('#compare').disabled")
    return browser.ask("$('#verdict').textContent")


def test_a_person_compares_two_answers_with_a_dropped_image(scene: Scene, browser: Chromium) -> None:
    open_page(browser, scene.url)
    fill(browser, key="reward-key")
    browser.wait("$$('#model option').length === 3")
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "PNG")
    data = base64.b64encode(out.getvalue()).decode()
    browser.ask(
        "const transfer = new DataTransfer();"
        f"transfer.items.add(new File([Uint8Array.from(atob('{data}'), c => c.charCodeAt(0))], 'a.png',"
        "{ type: 'image/png' }));"
        "$('#drop').dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));"
        "true"
    )
    browser.wait("$$('#images img').length === 1 && $('#images img').naturalWidth === 8")
    texts = {"question": "Which?", "response_1": "<img src=x onerror=alert(1)> is longer", "response_2": "short"}
    fill(browser, model="grm", **texts)
    assert compare(browser) == "Answer 1 is better."
    shown = browser.ask("$$('#critiques article').map((article) => article.innerText)")
    assert len(shown) == 2
    assert all("Length (100%)" in text and "is longer" in text and "answer 1 is better" in text for text in shown)
    sent = scene.grm.seen[-1]["body"]["messages"][0]["content"]
    assert sent[0]["type"] == "image_url"
    fill(browser, model="rm")
    assert compare(browser) == "Answer 1 is better."
    assert browser.ask("$('#scores').textContent").startswith("Scores: answer 1: 38.0000, answer 2: 5.0000; answer 1")
    fill(browser, response_1="equal", response_2="lengt")
    assert compare(browser) == "Neither: both have the same score."
    others = [line for line in browser.said if not line.startswith(f"asks for {scene.url}/")]
    assert ["401" in line for line in others] == [True], others  # of its first look, without the key


def test_solutions_in_steps_are_compared_by_their_scores_and_other_texts_are_not(
    scene: Scene, browser: Chromium
) -> None:
    def solution(step: str) -> str:
        return json.dumps({"reasoningprocess": [{"steptext": step}], "finalanswer": "2"})

    open_page(browser, scene.url)
    fill(browser, key="reward-key")
    browser.wait("$$('#model option').length === 3")
    right, wrong = solution("1 + 1 = 2"), solution("1 + 1 = 3")
    fill(browser, model="prm", question="What is 1 + 1?", response_1=wrong, response_2=right)
    assert compare(browser) == "Answer 2 is better."
    assert browser.ask("$('#scores').textContent") == "Scores: answer 1: 0.0000, answer 2: 1.0000"
    fill(browser, response_1="It is 2.")
    assert compare(browser).startswith("No verdict: no_steps: response 1 has no steps")


def test_failures_are_said_and_texts_of_a_model_are_no_markup(scene: Scene, browser: Chromium) -> None:
    open_page(browser, scene.url)
    fill(browser, question="Which?", response_1="a", response_2="b")
    assert "requires its key" in compare(browser)
    fill(browser, key="reward-key")
    browser.wait("$$('#model option').length === 3")

    async def marked_up(request: object, number: int) -> object:
        from support.proxy.stub import completion

        text = "<rubric><b id=evil>bold</b> (100%)<justify>x</justify></rubric><eval>e</eval><answer>1</answer>"
        return completion(text)

    scene.grm.behave = marked_up
    fill(browser, model="grm")
    assert compare(browser).startswith("None: with the answers swapped")
    assert browser.ask("$('#evil') === null && $('#critiques').innerText.includes('<b id=evil>bold</b>')")
    scene.grm.behave = None


def test_the_page_names_no_other_place(scene: Scene) -> None:
    response = httpx.get(scene.url, trust_env=False)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in response.text
    assert (Path(__file__).parents[2] / "proxygrm/reward_service/page.html").read_text() == response.text
