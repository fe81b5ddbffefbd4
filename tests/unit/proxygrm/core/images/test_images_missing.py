"""A row that names an image has it, or is counted, under the same options at every door."""

from __future__ import annotations

import base64
import json
from hashlib import sha256

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from PIL import Image

from data_tools.export.convert import convert
from data_tools.ingest.run import ingest
from data_tools.inspect.check import check
from data_tools.rows.preference import ImageStore, PreferencePair, read_pairs, write_pairs
from data_tools.split.run import split
from proxygrm.core.errors import UserError
from proxygrm.evaluate.best_of_n.judge import judge_candidates
from proxygrm.evaluate.judges.endpoint import Endpoint, EndpointJudge
from proxygrm.evaluate.rows.pairs import NOT_GIVEN, check_pairs, load_pairs, with_images
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.evaluate.transfer.rubrics import read_rubrics
from proxygrm.teacher.critiques import append, critique_row
from support.evaluate.http_judges import serving
from support.evaluate.runs import rows, run, write
from support.images.gallery import encoded
from support.proxy.front_calls import ASKED, ask
from support.refusals import refused
from support.rows.convert_rows import GOOD
from support.rows.release_files import IMAGE, TEXT, image_bytes, jsonl, write_images
from support.training_sets import sized

MODEL = ("--model", "yes", "--max-tokens", "100")
GOOD_ROW = {"question": "q", "chosen": "a", "rejected": "b"}
CELLS = [
    {"bytes": image_bytes(1), "path": None}, None, {"bytes": None, "path": None}, {"bytes": b"", "path": "gone.png"},
    {"bytes": b"", "path": "there.png"},
]  # fmt: skip
ODD = [
    GOOD_ROW | {"id": "empty list", "image": "a.png", "images": []},
    GOOD_ROW | {"id": "null", "images": [None, "b.png"]},
    GOOD_ROW | {"id": "blank", "images": ["", "a.png"]},
    GOOD_ROW | {"id": "both", "image": "b.png", "images": ["a.png", "b.png"]},
]


@pytest.fixture(scope="module")
def judge():
    """An endpoint that always prefers the first response."""
    app = FastAPI()
    critique = GOOD.format("it weighs", 1)

    @app.get("/v1/models")
    def models():
        return {"data": [{"id": "yes"}]}

    @app.post("/v1/chat/completions")
    def complete():
        return {"choices": [{"message": {"content": critique}, "finish_reason": "stop"}]}

    with serving(app) as url:
        yield url


@pytest.fixture
def release(tmp_path):
    """VL-RewardBench's parquet, three of its five rows without their image."""
    write_images(tmp_path, ["there.png"])
    kinds = [("id", TEXT), ("query", TEXT), ("response", pa.list_(TEXT)), ("human_ranking", pa.list_(pa.int64()))]
    released = [
        {"id": f"mathverse_{i}", "query": f"Bar {i}?", "response": [f"left {i}", f"right {i}"],
         "human_ranking": [0, 1], "image": cell} for i, cell in enumerate(CELLS)
    ]  # fmt: skip
    table = pa.Table.from_pylist(released, schema=pa.schema([*kinds, ("image", IMAGE)]))
    pq.write_table(table, tmp_path / "test.parquet")
    return tmp_path / "test.parquet"


@pytest.fixture
def odd(tmp_path):
    write_images(tmp_path, ["a.png", "b.png"])
    return jsonl(tmp_path / "odd.jsonl", ODD)


def test_a_benchmark_without_some_of_its_images_is_refused_thinned_or_shown_grey(release, tmp_path):
    with pytest.raises(UserError, match="the images of 3 rows are missing"):
        ingest("vl-rewardbench", release, tmp_path / "refused")
    report = ingest("vl-rewardbench", release, tmp_path / "drop", missing_images="drop", max_bad=0.6)
    assert (report["kept"], report["bad"]) == (2, {"missing_image": 3})
    report = ingest("vl-rewardbench", release, tmp_path / "blank", missing_images="blank")
    assert (report["kept"], report["notes"]) == (5, {"blank_image": 3})
    assert [len(pair.images) for pair in read_pairs(tmp_path / "blank")] == [1] * 5
    assert check(release).problems["missing_image"].count == 3


@pytest.mark.parametrize(
    ("source", "row"),
    [
        ("multimodal-rewardbench", {"ID": "7", "Image": None, "Text": "q", "Output1": "a", "Output2": "b",
                                    "Better": "Output1", "Category": "vqa"}),
        ("mm-rlhf-rewardbench", {"id": "7", "image": "", "prompt": "q", "chosen": "a", "rejected": "b",
                                 "category": "mcq"}),
        ("vl-rewardbench", {"id": "7", "image": [], "prompt": "q", "chosen": "a", "rejected": "b"}),
        ("mmif", {"conversations": [{"from": "human", "value": "<image><image>q"}], "images": ["there.png"],
                  "chosen": {"value": "a"}, "rejected": {"value": "b"}}),
    ],
)  # fmt: skip
def test_each_source_that_lives_by_images_counts_a_row_that_lacks_one(source, row, tmp_path):
    write_images(tmp_path, ["there.png"])
    path = tmp_path / "x.json"
    path.write_text(json.dumps([row]))
    with pytest.raises(UserError, match="missing"):
        ingest(source, path, tmp_path / "refused", missing_images="refuse")
    assert ingest(source, path, tmp_path / "blank", missing_images="blank")["notes"]["blank_image"] == 1


def test_no_image_of_a_list_is_passed_over_by_ingest_check_convert_and_evaluation(odd, tmp_path):
    report = ingest("preference-jsonl", odd, tmp_path / "pairs", max_bad=0.5)
    assert (report["kept"], report["bad"]) == (2, {"missing_image": 2})
    assert [len(pair.images) for pair in read_pairs(tmp_path / "pairs")] == [1, 2]
    assert {reason: problem.count for reason, problem in check(odd).problems.items()} == report["bad"]
    made = convert("verl", odd, tmp_path / "x.parquet", max_bad=0.5)
    assert (made["kept"], made["bad"]) == (2, {"missing_image": 2})
    images = [[path.name for path in pair.images] for pair in load_pairs(odd)]
    assert images == [["a.png"], [NOT_GIVEN, "b.png"], [NOT_GIVEN, "a.png"], ["a.png", "b.png"]]


def test_urls_are_read_by_ingest_and_by_the_others_as_far_as_they_are_paths(tmp_path):
    content = encoded(Image.new("RGB", (30, 20), (1, 2, 3)))
    (tmp_path / "a b.png").write_bytes(content)
    urls = {
        "file": (tmp_path / "a b.png").as_uri(),
        "data": f"data:image/jpeg;base64,{base64.b64encode(content).decode()}",
        "base64": base64.b64encode(content).decode(),
        "http": "http://127.0.0.1/a.png",
    }
    texts = {"chosen": "x", "rejected": "y"}
    rows = [{"id": name, "question": f"{name}?", "images": [url], **texts} for name, url in urls.items()]
    rows += [{"id": f"one {name}", "question": f"one {name}?", "image": url, **texts} for name, url in urls.items()]
    file = jsonl(tmp_path / "u.jsonl", rows)
    report = ingest("preference-jsonl", file, tmp_path / "pairs", missing_images="blank", max_bad=0.5)
    assert (report["kept"], report["bad"], report["notes"]) == (6, {"bad_image": 2}, {})
    assert {pair.images for pair in read_pairs(tmp_path / "pairs")} == {(f"{sha256(content).hexdigest()}.png",)}
    made = convert("verl", file, tmp_path / "x.parquet", missing_images="blank", max_bad=0.8)
    assert (made["kept"], made["bad"]) == (2, {"bad_image": 6})
    assert {reason: problem.count for reason, problem in check(file).problems.items()} == {"bad_image": 2}
    assert load_pairs(jsonl(tmp_path / "f.jsonl", rows[:1]))[0].images == (tmp_path / "a b.png",)
    for row, said in ((rows[1], "data ingest"), (rows[2], "data ingest"), (rows[3], "not fetched")):
        with pytest.raises(UserError, match=said):
            load_pairs(jsonl(tmp_path / "f.jsonl", [row]))


def test_a_name_that_no_file_can_have_is_a_missing_image(tmp_path):
    row = {"id": "a", "question": "q?", "chosen": "x", "rejected": "y"}
    file = jsonl(tmp_path / "l.jsonl", [row | {"image": "x" * 5000}, row | {"id": "b", "image": "a\0b"}])
    with pytest.raises(UserError, match="2 of 2 images are missing"):
        check_pairs(load_pairs(file), "refuse")
    assert check_pairs(load_pairs(file), "blank") == 2
    assert with_images(load_pairs(file), "drop") == []
    judged = {
        "question": "q?",
        "response_1": "x",
        "response_2": "y",
        "label": 1,
        "critique": "",
        "images": ["x" * 5000],
    }
    (ordered,) = read_rubrics("s", jsonl(tmp_path / "j.jsonl", [judged | {"id": "a"}])).ordered.values()
    assert [image.name for image in ordered.pair.images] == [NOT_GIVEN]


def test_convert_knows_the_options_of_ingest(odd, tmp_path):
    with refused("image.missing", path=odd, count=2) as caught:
        convert("verl", odd, tmp_path / "x.parquet", missing_images="refuse", max_bad=1.0)
    assert caught.value.values["first"].startswith("odd.jsonl row 2 ")
    assert not (tmp_path / "x.parquet").exists()
    report = convert("verl", odd, tmp_path / "x.parquet", missing_images="blank")
    assert (report["kept"], report["notes"]["blank_image"]) == (4, 2)
    images = [row["images"] for row in pq.read_table(tmp_path / "x.parquet").to_pylist()]
    assert [len(row) for row in images] == [1, 2, 2, 2]
    assert images[1][0] == images[2][0] != images[0][0]
    with refused("option.bad-value", option="missing_images", value="skip", known=["refuse", "drop", "blank"]):
        convert("verl", odd, tmp_path / "x.parquet", missing_images="skip")


def test_a_lost_or_thin_image_of_a_pairs_folder_is_a_bad_row_of_convert_and_left_out_of_a_split(tmp_path):
    store = ImageStore(tmp_path / "pairs")
    names = [store.add(image_bytes(i)) for i in range(6)] + [store.add(encoded(Image.new("L", (1, 300))))]
    pairs = [PreferencePair(f"s:{i}", "s", "q", "a", f"b{i}", 1 + i % 2, (name,), "") for i, name in enumerate(names)]
    write_pairs(tmp_path / "pairs", pairs)
    (store.folder / names[0]).unlink()
    append(tmp_path / "c.jsonl", [critique_row(p.id, GOOD.format("it weighs", p.label), "m") for p in pairs])
    for to, options in (("verl", {}), ("swift-grm", {"critiques": [tmp_path / "c.jsonl"]}), ("bench", {})):
        out = tmp_path / f"{to}.{'parquet' if to == 'verl' else 'jsonl'}"
        report = convert(to, tmp_path / "pairs", out, max_bad=0.5, **options)
        assert (report["kept"], report["bad"]) == (5, {"missing_image": 1, "stretched_image": 1})
        dropped = [json.loads(line) for line in (tmp_path / f"{out.name}.dropped.jsonl").read_text().splitlines()]
        assert [(row["row"], row["id"]) for row in dropped] == [(1, "s:0"), (7, "s:6")]
    found = split(tmp_path / "pairs", [tmp_path / "c.jsonl"], tmp_path / "sets", sized({"grm_sft": 4}))
    assert found.dropped == {"missing_image": 1, "stretched_image": 1}
    assert found.sets["grm_sft"]["rows"] == 4


def test_a_pairs_folder_put_together_by_hand_is_settled_on_its_way_to_the_trainers(tmp_path):
    store = ImageStore(tmp_path / "pairs")
    (store.folder / "mine.png").write_bytes(encoded(Image.new("LA", (8, 8), (0, 0))))
    pairs = [PreferencePair(f"s:{i}", "s", "q", "a", f"b{i}", 1 + i, ("mine.png",), "") for i in range(2)]
    write_pairs(tmp_path / "pairs", pairs)
    assert check(tmp_path / "pairs").remarks == {"image_on_white": 2}
    append(tmp_path / "c.jsonl", [critique_row(p.id, GOOD.format("it weighs", p.label), "m") for p in pairs])
    split(tmp_path / "pairs", [tmp_path / "c.jsonl"], tmp_path / "sets", sized({"grm_sft": 2}))
    for line in (tmp_path / "sets" / "grm_sft.jsonl").read_text().splitlines():
        with Image.open(json.loads(line)["images"][0]) as image:
            assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("words", [(), ("--bench", "vl-rewardbench")])
def test_eval_run_refuses_drops_or_shows_grey_what_its_jsonl_does_not_give(words, judge, odd, tmp_path):
    benchmark = bool(words)
    file = write(tmp_path / "more.jsonl", [*ODD, GOOD_ROW | {"id": "none"}])
    with pytest.raises(UserError, match=r"\d of \d images are missing \(rows 2"):
        run(tmp_path / "refuse", judge, "--pairs", file, *words, *MODEL)
    output = run(tmp_path / "drop", judge, "--pairs", file, *words, *MODEL, "--missing-images", "drop")
    lost = 3 if benchmark else 2
    assert f"{lost} without their images are left out" in output
    report = json.loads((tmp_path / "drop" / "run.json").read_text())
    assert (report["pairs"], report["without_images"], report["blank_images"]) == (5 - lost, lost, 0)
    run(tmp_path / "blank", judge, "--pairs", file, *words, *MODEL, "--missing-images", "blank")
    missing = {row["id"] for row in rows(tmp_path / "blank") if row["image_missing"]}
    assert missing == {"null", "blank"} | ({"none"} if benchmark else set())


def test_eval_run_of_a_release_knows_the_same_options(release, judge, tmp_path):
    words = ("--bench", "vl-rewardbench", "--data", release, *MODEL)
    with pytest.raises(UserError, match="the images of 3 rows are missing"):
        run(tmp_path / "refuse", judge, *words)
    output = run(tmp_path / "drop", judge, *words, "--missing-images", "drop")
    assert "ingested 2 of 5 rows (missing image 3)" in output
    assert len({row["id"] for row in rows(tmp_path / "drop")}) == 2
    run(tmp_path / "blank", judge, *words, "--missing-images", "blank")
    assert sum(row["image_missing"] for row in rows(tmp_path / "blank")) == 6  # in both orders


def test_candidates_whose_image_is_missing_are_counted_and_not_judged(judge, tmp_path):
    write_images(tmp_path, ["a.png"])
    prompts = [
        {"id": name, "question": "What?", "images": images, "candidates": [{"response": "x"}, {"response": "y"}]}
        for name, images in (("there", ["a.png"]), ("lost", [None, "a.png"]))
    ]
    file = write(tmp_path / "candidates.jsonl", prompts)
    endpoint = EndpointJudge(Endpoint(judge, "yes"), EvaluateSettings(missing_images="drop"))
    with pytest.raises(UserError, match="1 of 2 images are missing"):
        judge_candidates(endpoint, file, tmp_path / "refuse.jsonl", False, "refuse")
    report = judge_candidates(endpoint, file, tmp_path / "drop.jsonl", False, "drop")
    assert (report["judgements"], report["asked"]) == (4, 2)
    lines = [json.loads(line) for line in (tmp_path / "drop.jsonl").read_text().splitlines()]
    assert {row["id"] for row in lines if row["refused"] == "not asked: an image is missing"} == {"lost"}


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (["", "a.png"], "empty"),
        ("cut.png", "cut.png: "),
        ("data:image/png;base64,aGk=", "not an image"),
        (["out.png"], "outside the folder"),
    ],
)
def test_the_front_end_says_what_is_wrong_with_an_image(image, said, tmp_path):
    write_images(tmp_path / "in", ["a.png"])
    (tmp_path / "in" / "cut.png").write_bytes(encoded(Image.effect_noise((64, 64), 90))[:1500])
    write_images(tmp_path, ["secret.png"])
    (tmp_path / "in" / "out.png").symlink_to(tmp_path / "secret.png")
    for _ in range(2):
        answer = ask(lambda http: http.post("/get_reward_mllm", json={**ASKED, "image": image}), images=tmp_path / "in")
        assert answer.status_code == 422
        assert said in answer.json()["error"]["detail"]
