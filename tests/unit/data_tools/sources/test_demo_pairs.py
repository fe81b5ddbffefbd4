from __future__ import annotations

from collections import Counter

import pyarrow.parquet as pq
import pytest

from data_tools.ingest.run import ingest
from data_tools.rows.preference import read_pairs
from data_tools.sources.demo_pairs import write_demo_pairs
from proxygrm.critique.contract import parse, parse_proxy_verdict
from proxygrm.demo.corpus import demo_corpus
from proxygrm.demo.image_reader import read_image
from proxygrm.demo.scenes import KINDS, combinations, read_fact, read_question, separate
from support.refusals import refused


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo pairs")
    write_demo_pairs(folder, train=300, held_out=80, seed=3)
    return folder


def _texts(row):
    return row["question"], row["chosen"], row["rejected"]


def test_the_files_have_the_layout_of_rlaif_v(drawn):
    names = ["ds_name", "image", "question", "chosen", "rejected"]
    names += ["origin_dataset", "origin_split", "idx", "image_path"]
    for name, count in (("train", 300), ("held_out", 80)):
        table = pq.read_table(drawn / f"{name}.parquet")
        assert table.column_names == names
        assert table.num_rows == count


def test_held_out_combinations_are_never_seen_in_training(drawn):
    train, held_out = ({(*_texts(r), _other(r)) for r in pq.read_table(drawn / f"{n}.parquet").to_pylist()}
                       for n in ("train", "held_out"))  # fmt: skip
    assert train
    assert held_out
    assert not train & held_out


def _other(row):
    # "It is a circle." and "The number is two." do not name the subject; the image shows it
    scene = read_image(row["image"]["bytes"])
    return {"shape": scene.fact("colour"), "count": scene.shape}.get(row["origin_split"], "")


def test_every_fact_is_right_and_wrong_in_training_too():
    for kind in KINDS:
        train, held_out = separate(kind, seed=0)
        assert not set(train) & set(held_out)
        assert len(train) + len(held_out) == len(combinations(kind))
        assert {c.right for c in train} == {c.wrong for c in train} == set(KINDS[kind].facts)


def test_the_share_of_images_in_fog_is_the_requested_one(tmp_path):
    write_demo_pairs(tmp_path, train=300, held_out=10, seed=1, kinds=("colour",), fog=0.5)
    foggy = [read_image(row["image"]["bytes"]).fog for row in pq.read_table(tmp_path / "train.parquet").to_pylist()]
    assert 120 < sum(foggy) < 180
    with refused("option.bad-value", option="fog", value=1.5):
        write_demo_pairs(tmp_path, train=3, held_out=1, seed=1, fog=1.5)


def test_labels_are_exactly_balanced_after_ingestion(drawn, tmp_path):
    for name, count in (("train", 300), ("held_out", 80)):
        report = ingest("rlaif-v", drawn / f"{name}.parquet", tmp_path / name)
        assert report["labels"] == {"1": count // 2, "2": count // 2}
        assert report["dropped"] == report["bad"] == {}
        assert report["images"] == count


@pytest.mark.parametrize(("train", "held_out"), [(1, 1), (7, 3), (101, 41)])
def test_odd_numbers_leave_the_labels_at_most_one_apart(tmp_path, train, held_out):
    write_demo_pairs(tmp_path, train, held_out, seed=0)
    for name in ("train", "held_out"):
        labels = ingest("rlaif-v", tmp_path / f"{name}.parquet", tmp_path / name)["labels"]
        assert abs(labels["1"] - labels["2"]) <= 1


def test_the_texts_alone_do_not_determine_the_label(tmp_path):
    write_demo_pairs(tmp_path, train=4 * 180, held_out=88, seed=0, kinds=["colour"])
    for name in ("train", "held_out"):
        ingest("rlaif-v", tmp_path / f"{name}.parquet", tmp_path / name)
        labels: dict[tuple[str, str, str], set[int]] = {}
        for pair in read_pairs(tmp_path / name):
            labels.setdefault((pair.question, pair.response_1, pair.response_2), set()).add(pair.label)
        assert all(both == {1, 2} for both in labels.values())


def test_ids_of_the_two_files_are_distinct(drawn, tmp_path):
    ids = []
    for name in ("train", "held_out"):
        ingest("rlaif-v", drawn / f"{name}.parquet", tmp_path / name)
        ids += [pair.id for pair in read_pairs(tmp_path / name)]
    assert len(set(ids)) == len(ids) == 380


def test_the_image_shows_the_fact_of_the_chosen_response(drawn):
    kinds: Counter[str] = Counter()
    for row in pq.read_table(drawn / "train.parquet").to_pylist():
        kind = read_question(row["question"])
        assert kind
        kinds[kind] += 1
        fact = read_image(row["image"]["bytes"]).fact(kind)
        assert fact == read_fact(kind, row["chosen"]) != read_fact(kind, row["rejected"])
    assert kinds == {"colour": 210, "shape": 30, "count": 30, "position": 30}


def test_the_same_seed_draws_the_same_bytes(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_demo_pairs(tmp_path / name, 20, 4, seed, kinds=["colour", "count"])
    a, b, c = (pq.read_table(tmp_path / n / "train.parquet").to_pylist() for n in "abc")
    assert a == b != c


def test_an_unknown_kind_is_refused_with_the_names_of_the_known_ones(tmp_path):
    with refused("option.bad-value", option="kinds", known=["colour", "shape", "count", "position"]):
        write_demo_pairs(tmp_path, 4, 4, 0, kinds={"texture": 1.0})
    with refused("option.bad-value", option="pairs", value=[0, 4]):
        write_demo_pairs(tmp_path, 0, 4, 0)


def test_the_judge_recognises_every_drawn_combination():
    import random

    from proxygrm.demo.scenes import draw

    rng = random.Random(1)
    for kind in KINDS:
        for combination in combinations(kind):
            assert read_image(draw(combination, rng)).fact(kind) == combination.right


def test_the_tokenizer_corpus_holds_instructions_critiques_and_proxy_answers():
    texts = list(demo_corpus(seed=1, n=40))
    assert len(texts) == 160
    assert texts == list(demo_corpus(seed=1, n=40))
    for _, critique, _, answer in zip(*[iter(texts)] * 4, strict=True):
        assert parse(critique).well_formed
        assert parse(critique).problems == ()
        assert parse_proxy_verdict(answer) == parse(critique).verdict
