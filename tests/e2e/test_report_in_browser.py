"""The report in a real Chromium, from a file: 1,250 pairs in both orders, judged by two runs, with images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from proxygrm.report.eval_page import write_eval_report
from proxygrm.report.page import write_report
from support.chromium import Chromium
from support.rows.report_rows import NASTY, rows, write, write_images

pytestmark = pytest.mark.heavy

LINES = "$$('#rows tbody tr').map((row) => [...row.cells].map((cell) => cell.textContent))"
FOUND = "$('#found').textContent"
# Every visible text against what is painted behind it (WCAG 2, relative luminance); the worst ones below 4.5.
CONTRAST = """
const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
const behind = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
  if (c.length === 3 || c[3] === 1) return c; } throw new Error("nothing opaque behind"); };
const bad = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); let seen = 0;
while (walker.nextNode()) { const e = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !e.checkVisibility() || e.closest("script, style, option, .unseen")) continue;
  seen += 1; const style = getComputedStyle(e);
  const [a, b] = [light(rgb(e instanceof SVGElement ? style.fill : style.color)), light(behind(e))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const words = walker.currentNode.data.slice(0, 30);
  if (ratio < 4.5 && !e.disabled) bad.push(`${ratio.toFixed(2)} ${e.tagName}.${e.className} ${words}`); }
({ seen, bad: [...new Set(bad)].slice(0, 9) })
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report with blanks")
    shots = write_images(folder / "images", 80, kinds=5)
    files = {
        "sft": write(folder / "sft.jsonl", rows(0.6, 1, shots, length=30)),
        "rl": write(folder / "rl.jsonl", rows(0.75, 2, shots, length=30)),
    }
    return write_eval_report("vl-rewardbench", files, folder / "report.html")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(started: Chromium, page: Path) -> Iterator[Chromium]:
    """The page as it opens; any error or warning of the browser fails the test."""
    started.scheme("light")
    started.size(1280, 900)
    started.open(address(page))
    yield started
    assert started.said == []


def address(page: Path, state: str = "") -> str:
    return f"file://{quote(str(page))}{state}"


def shown(browser: Chromium) -> int:
    return int(browser.ask(FOUND).split(" of ")[0].replace(",", ""))


def test_the_file_is_small_and_complete(browser, page):
    assert page.stat().st_size < 5_000_000
    assert browser.ask(FOUND) == "2,500 of 2,500 judgements"
    assert browser.ask("$$('#rows tbody tr').length") == 100


def test_filters_change_the_rows_to_those_that_pass(browser, page):
    browser.choose("category", "reasoning")
    assert shown(browser) == 2 * 318
    assert {line[2] for line in browser.ask(LINES)} == {"reasoning"}
    browser.choose("category", "")
    browser.choose("result", "unparsed")
    judged = [json.loads(line) for line in (page.parent / "rl.jsonl").read_text().splitlines()]
    assert shown(browser) == sum(row["verdict"] is None for row in judged)
    browser.choose("why", "no answer")
    assert shown(browser) == sum("no_answer" in row["problems"] and row["verdict"] is None for row in judged)
    browser.choose("why", "")
    browser.choose("result", "")
    browser.choose("proxy", "differs")
    differ = [r for r in judged if r["verdict"] and r["proxy_verdict"] and r["verdict"] != r["proxy_verdict"]]
    assert shown(browser) == len(differ) > 100
    assert all(line[5] != line[7][0] and line[7].endswith("≠ judge") for line in browser.ask(LINES))
    browser.choose("order", "swapped")
    assert shown(browser) == sum(row["order"] == "swapped" for row in differ)
    browser.ask("$('#clear').click()")
    assert shown(browser) == 2500


def test_search_other_run_and_pair_filters_count_right(browser, page):
    runs = {
        tag: [json.loads(x) for x in (page.parent / f"{tag}.jsonl").read_text().splitlines()] for tag in ("sft", "rl")
    }
    pairs = list(zip(runs["sft"], runs["rl"], strict=True))
    browser.choose("other", "+ sft")
    browser.choose("result", "wrong")
    assert shown(browser) == sum(a["correct"] is True and b["correct"] is False for a, b in pairs)
    browser.ask("$('#clear').click()")
    browser.choose("pair", "torn")
    torn = [
        o for o in zip(runs["rl"][::2], runs["rl"][1::2], strict=True) if len({r["correct"] is True for r in o}) == 2
    ]
    assert shown(browser) == 2 * len(torn)
    browser.choose("pair", "")
    browser.choose("q", "MATHVERSE_17")
    assert {line[0] for line in browser.ask(LINES)} == {"mathverse_17", *(f"mathverse_17{n}" for n in range(10))}


def test_columns_sort_both_ways_with_an_aria_state(browser):
    head = "$('#rows th[data-sort=tokens]')"
    browser.ask(f"{head}.firstElementChild.click()")
    tokens = [int(line[9].replace(",", "")) for line in browser.ask(LINES)]
    assert tokens == sorted(tokens)
    assert browser.ask(f"{head}.ariaSort") == "ascending"
    browser.ask(f"{head}.firstElementChild.click()")
    assert int(browser.ask(LINES)[0][9].replace(",", "")) > tokens[-1]
    assert browser.ask("$$('#rows th[aria-sort]:not([aria-sort=none])').length") == 1


def test_the_keyboard_reaches_a_row_opens_it_moves_on_and_returns(browser):
    browser.ask("$('#clear').focus()")
    for _ in range(11):  # the heads of the columns, then the first row
        browser.press("Tab")
    assert browser.ask("document.activeElement.closest('tbody') !== null")
    browser.press("ArrowDown")
    browser.press("ArrowDown")
    here = browser.ask("document.activeElement.dataset.name")
    assert here == browser.ask("$$('#rows tbody a')[2].dataset.name")
    assert browser.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter")
    browser.wait("$('#judgement').open")
    assert browser.ask("$('#at').textContent") == "3 of 2,500"
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    browser.press("ArrowLeft")
    assert browser.ask("$('#at').textContent") == "4 of 2,500"
    assert quote(browser.ask("$('#title').textContent")) in browser.ask("location.hash")
    browser.press("Escape")
    browser.wait("!$('#judgement').open && document.activeElement.closest('tbody') !== null")
    assert browser.ask("document.activeElement === $$('#rows tbody a')[3]")
    assert "row=" not in browser.ask("location.hash")


def test_moving_past_the_page_ends_on_the_page_of_the_row(browser):
    browser.ask("$$('#rows tbody a').at(-1).focus(); $$('#rows tbody a').at(-1).click()")
    browser.wait("$('#judgement').open")
    browser.press("ArrowRight")
    browser.press("Escape")
    browser.wait("!$('#judgement').open && document.activeElement.closest('tbody') !== null")
    assert browser.ask("$('#range').textContent") == "101 – 200 of 2,500"
    assert browser.ask("document.activeElement === $$('#rows tbody a')[0]")


def test_an_opened_judgement_shows_its_parts_and_nasty_text_stays_text(browser, page):
    judged = next(
        json.loads(line) for line in (page.parent / "rl.jsonl").open() if NASTY[:20] in json.loads(line)["question"]
    )
    browser.open(address(page, "#judgements?row=hallucination_pair-0~as_is"))
    browser.wait("$('#judgement').open")
    assert browser.ask("$('#question').textContent").startswith(NASTY.split("\ud83d")[0])
    assert browser.ask("$('#response1').textContent.length") == len(judged["response_1"])
    assert browser.ask("$('#card1').className") == ("better" if judged["label"] == 1 else "")
    assert "better by label" in browser.ask("$(`#mark${1}`).textContent + $(`#mark${2}`).textContent")
    assert browser.ask("$$('#rubric li b').map((weight) => weight.textContent)") == ["60 %", "40 %"]
    assert "<img src=x onerror" in browser.ask("$$('#rubric li')[1].textContent")
    assert browser.ask("$('#evaluation').textContent") == judged["evaluation"]
    assert browser.ask("$('#proxy').textContent") == judged["proxy_answer"]
    assert browser.ask("$('#elsewhere').children.length") == 3
    browser.wait("$('#shots img').complete && $('#shots img').naturalWidth > 60")
    assert browser.ask("$$('img[src=x]').length") == 0


def test_the_proxy_is_right_or_wrong_by_the_label_and_disagreement_is_stated_in_words(browser):
    seen = set()
    for judge in ("right", "wrong"):
        browser.choose("result", judge)
        for value in ("same", "differs"):
            browser.choose("proxy", value)
            for line in browser.ask(LINES):
                better, verdict, proxy = line[4], line[5], line[7].split()
                assert proxy[:2] == [proxy[0], "right" if proxy[0] == better else "wrong"]
                assert (proxy[2:] == ["≠", "judge"]) == (proxy[0] != verdict)
                seen.add((judge, proxy[1], value))
            kinds = "$$('#rows td.proxy .chip').map((chip) => [chip.textContent, chip.className.split(' ')[1]].join())"
            assert set(browser.ask(kinds)) <= {"right,good", "wrong,bad"}
    assert len(seen) == 4


@pytest.mark.parametrize("width", [1280, 480])
def test_a_table_wider_than_its_card_has_a_hint_that_it_scrolls(browser, width):
    browser.size(width, 900)
    tables = browser.ask(
        "$$('.scroll').filter((box) => box.checkVisibility()).map((box) => [box.scrollWidth > box.clientWidth + 1,"
        " box.previousElementSibling.textContent, !box.previousElementSibling.hidden,"
        " box.tabIndex === 0 || box.querySelector('a, button') !== null])"
    )
    assert {words for _, words, _, _ in tables} == {"↔ This table scrolls to the side."}
    assert all(wide == hint and (reachable or not wide) for wide, _, hint, reachable in tables)
    assert any(wide for wide, *_ in tables) == (width < 1280)


def test_the_stages_of_a_run_fit_their_card(started, tmp_path):
    stages = ("distill", "split", "proxy_sft", "grm_sft", "grm_rl", "evaluate", "transfer", "report")
    for number, stage in enumerate(stages):
        done = {"started": 1.8e9 + 9000 * number, "finished": 1.8e9 + 9000 * (number + 1), "peak_memory_mb": 99_999,
                "nodes": [f"gpu-node-{n:03d}" for n in range(8)], "job_id": "12345678"}  # fmt: skip
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "DONE.json").write_text(json.dumps(done))
    (tmp_path / "run.json").write_text("{}")
    started.size(1280, 900)
    started.call("Page.navigate", url=address(write_report(tmp_path, tmp_path / "page.html")))
    started.wait("document.readyState === 'complete' && $('.stages') !== null")
    assert started.ask("const box = $('.stages').parentElement; box.scrollWidth - box.clientWidth") <= 0
    assert started.ask("$$('.stages tbody tr').length") == len(stages)
    assert started.said == []


def test_a_link_restores_filter_order_page_and_row(browser, page):
    for name, value in (("run", "sft"), ("result", "wrong"), ("proxy", "differs")):
        browser.choose(name, value)
    browser.ask("$('#rows th[data-sort=tokens] button').click()")
    browser.ask("$$('#rows tbody a')[5].click()")
    browser.wait("$('#judgement').open")
    state, title, lines = browser.ask("location.hash"), browser.ask("$('#about').textContent"), browser.ask(LINES)
    browser.open(address(page, state))
    browser.wait("$('#judgement').open")
    assert (browser.ask("location.hash"), browser.ask("$('#about').textContent")) == (state, title)
    assert browser.ask(LINES) == lines
    assert browser.ask("['run', 'result', 'proxy'].map((n) => $('#filters').elements[n].value)") == [
        "sft",
        "wrong",
        "differs",
    ]
    browser.open(address(page, "#judgements?result=%3Cb%3E&sort=constructor&page=x&row=gone"))
    assert shown(browser) == 2500
    browser.wait("Math.abs($('#judgements').getBoundingClientRect().top) < 20")
    assert "gone is not among them" in browser.ask(FOUND)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast_in_light_and_in_dark(browser, scheme):
    browser.scheme(scheme)
    closed = browser.ask(CONTRAST)
    browser.ask("$('#rows tbody a').click()")
    browser.wait("$('#judgement').open")
    opened = browser.ask(CONTRAST)
    assert (closed["bad"], opened["bad"]) == ([], [])
    assert 500 < closed["seen"] < opened["seen"]


def test_dark_follows_the_system_until_the_button_is_used(browser):
    colours = "getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color"
    light = browser.ask(colours)
    browser.scheme("dark")
    dark = browser.ask(colours)
    assert dark != light
    browser.ask("$('#theme').click()")
    assert browser.ask(colours) == light
    browser.ask("$('#theme').click()")
    assert browser.ask(colours) == dark
    browser.ask("try { localStorage.clear() } catch {} delete document.documentElement.dataset.theme; 0")


def test_a_narrow_screen_needs_no_sideways_scrolling(browser):
    browser.size(380, 800)
    assert browser.ask("document.documentElement.scrollWidth") == 380
    browser.ask("$('#rows tbody a').click()")
    browser.wait("$('#judgement').open")
    assert browser.ask("$('#judgement').scrollWidth") <= 380


def test_every_control_has_a_name_and_heads_have_scopes(browser):
    named = "(e) => e.labels?.length || e.ariaLabel || e.alt || e.textContent.trim()"
    unnamed = f"$$('button, select, input, a, img').filter((e) => !({named})(e)).length"
    assert browser.ask(unnamed) == 0
    assert browser.ask("$$('thead th:not([scope=col]), tbody th:not([scope])').length") == 0
    assert browser.ask("$$('#rows caption, .bars caption').length") == 2
