"""The exact messages of the data tools; everywhere else tests assert codes and values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_tools.export.convert import convert, convert_step
from data_tools.filters.decontamination import DecontaminationSettings
from data_tools.filters.difficulty import DifficultySettings, critique_files
from data_tools.filters.quality import QualitySettings
from data_tools.filters.run import filter_pairs
from data_tools.filters.settings import FilterSettings, read_settings
from data_tools.filters.similarity import SimilaritySettings
from data_tools.ingest.join import join
from data_tools.ingest.linked_images import link_image
from data_tools.ingest.raw_rows import scan_files
from data_tools.ingest.run import ingest
from data_tools.inspect.check import check
from data_tools.inspect.kinds import kind_of
from data_tools.inspect.show import show
from data_tools.inspect.stats import stats
from data_tools.rows.critique_index import index_critiques
from data_tools.rows.image_bytes import ImageBytes
from data_tools.rows.preference import write_pairs
from data_tools.sources import load
from data_tools.sources.demo_pairs import write_demo_pairs
from data_tools.split.run import split
from data_tools.steps.shards import Shard
from jobs.cli.data import data
from jobs.cli.data.split import read_sizes, sets_of
from proxygrm.core.errors import UserError
from proxygrm.teacher.critiques import append, critique_row
from support.rows.filter_pairs import folder, pair
from support.rows.release_files import jsonl
from support.training_sets import sized

GOOD = {"question": "q", "chosen": "a", "rejected": "b"}
KINDS = "a pairs folder, or a file of pairs, critiques or training rows"
JSONL = "a JSONL file of {question, chosen, rejected, images}"
TWO_STAGES = str(Path(__file__).parents[3] / "docs" / "examples" / "two_stages.py")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with one file of each kind; messages name relative paths."""
    monkeypatch.chdir(tmp_path)
    here = Path()
    folder(here / "pairs", [pair("a"), pair("b", label=2)])
    folder(here / "same", [pair("a")])
    write_pairs(here / "lost", [])
    good = "<rubric>r (100%)<justify>j</justify></rubric><eval>Response 1 fits.</eval><answer>1</answer>"
    append(here / "c.jsonl", [critique_row("s:a", good, "m")])
    append(here / "other.jsonl", [critique_row("t:x", good, "m")])
    jsonl(here / "good.jsonl", [GOOD])
    jsonl(here / "bad.jsonl", [GOOD, {}])
    jsonl(here / "ties.jsonl", [GOOD | {"rejected": "a"}])
    jsonl(here / "image.jsonl", [GOOD | {"image": "gone.png"}])
    jsonl(here / "strange.jsonl", [{"a": 1, "b": 2}])
    (here / "list.jsonl").write_text("[1]\n")
    (here / "two.json").write_text(json.dumps([GOOD]) + "[]")
    (here / "torn.json").write_text(json.dumps([GOOD])[:-4])
    (here / "no comma.json").write_text("[1 2]")
    (here / "empty.jsonl").write_text("")
    (here / "x.txt").write_text("")
    (here / "nothing").mkdir()
    (here / "packed").mkdir()
    (here / "packed" / "images.zip_aa").write_bytes(b"PK")
    (here / "links").mkdir()
    (here / "links" / "a.parquet").symlink_to("gone")
    pq.write_table(pa.table({"a": [1]}), here / "a.parquet")
    (here / "damaged.parquet").write_bytes(b"PAR1")
    (here / "s.toml").write_text("[qualty]\n")
    (here / "t.toml").write_text("[zzz]\n")
    (here / "off.toml").write_text("similarity = false\n[difficulty]\n")
    (here / "broken.toml").write_text("quality = {")


def from_jsonl(source: str, **options: Any) -> Callable[[], object]:
    return lambda: ingest("preference-jsonl", Path(source), Path("out"), **options)


def to(target: Any, source: str, out: str, *critiques: str, **options: Any) -> Callable[[], object]:
    return lambda: convert(target, Path(source), Path(out), critiques=[Path(c) for c in critiques], **options)


def settings(file: str, *arguments: Any) -> Callable[[], object]:
    return lambda: read_settings(Path(file), *arguments)


def values(**tables: Any) -> Callable[[], object]:
    return lambda: read_settings(None, tables)


def sets(
    sizes: dict[str, int], critiques: str = "c.jsonl", short: Any = "refuse", stage: str = ""
) -> Callable[[], object]:
    return lambda: split(Path("pairs"), [Path(critiques)], Path("sets"), sized(sizes), short=short, stage=stage)


def command(*words: str) -> Callable[[], object]:
    return lambda: data.main(list(words), standalone_mode=False)


def read_changed_image() -> None:
    Path("a.bin").write_bytes(b"12345")
    ImageBytes(10).read(["a.bin"], [4])


INGEST: list[tuple[str, Callable[[], object], str]] = [
    ("data.unknown-source", lambda: load("llava"), "there is no source 'llava'; the sources are: llava-critic, "
     "rlaif-v, rlhf-v, mmif, mmpr, mm-rlhf, vlfeedback, povid, wildvision-battle, r1-reward-rl, omnialign-v-dpo, "
     "ultrafeedback, ultrafeedback-binarized, tulu-3, olmo-2, shp, skywork, vl-rewardbench, multimodal-rewardbench, "
     "mm-rlhf-rewardbench, rewardbench, rm-bench, preference-jsonl"),
    ("option.bad-value", lambda: load("shp", {"min_ratio": "5"}),
     "source shp: min_ratio is '5'; it must be one of: 1, 1.5, 2, 3"),
    ("option.bad-value", command("ingest", "shp", "nothing", "--out", "out", "--source-option", "min_ratio"),
     "--source-option 'min_ratio' is not NAME=VALUE, e.g. pairs=gap"),
    ("option.repeated-name", command("ingest", "shp", "nothing", "--out", "out", "--source-option", "min_ratio=2",
                                   "--source-option", "min_ratio=3"),
     "--source-option gives one name twice: min_ratio=2, min_ratio=3; give each once"),
    ("data.no-files", lambda: ingest("shp", Path("nothing"), Path("out")),
     "nothing has neither a parquet nor a JSON file named train*; give the folder of SHP, or one of its train.json "
     "files"),
    ("data.packed", from_jsonl("packed"),
     "packed has no parquet or JSON file, but images.zip_aa: unpack it first (the parts of a split archive are joined "
     f"in the order of their names: cat NAME.zip_* > NAME.zip); give {JSONL}"),
    ("data.too-many-bad-rows", lambda: ingest("povid", Path("strange.jsonl"), Path("out")),
     "1 of 1 rows are bad, more than --max-bad 0.01 allows: unknown_layout 1. First: strange.jsonl row 1 (no id): "
     "unknown_layout, no texts or turns in conversations and rejected_conversations; the row has a: 1, b: 2. "
     "out/ingest_dropped.refused.jsonl lists them all; fix the file, or raise --max-bad"),
    ("file.bad-suffix", from_jsonl("x.txt"), f"x.txt is neither .parquet nor .jsonl nor .json; give {JSONL}"),
    ("file.missing", from_jsonl("gone"), f"gone does not exist; give {JSONL}"),
    ("file.broken-link", from_jsonl("links"),
     "links/a.parquet is a link to a missing file; download the release again"),
    ("data.no-files", from_jsonl("nothing"), f"nothing has neither a parquet nor a JSON file; give {JSONL}"),
    ("data.not-one-file", lambda: ingest("rm-bench", Path("nothing"), Path("out")),
     "nothing has 0 files named total_dataset* instead of one; give RM-Bench's data/total_dataset.json"),
    ("file.damaged", lambda: scan_files(Path("damaged.parquet"), JSONL, ((),)),
     "damaged.parquet cannot be read: it is not a complete parquet file ({cause}); download it again"),
    ("data.missing-columns", from_jsonl("a.parquet"), "a.parquet does not have the expected layout: it lacks question, "
     f"chosen, rejected; give {JSONL}"),
    ("data.is-a-pairs-folder", from_jsonl("pairs"),
     "pairs is a pairs folder already; use it directly, or join it with others (`proxygrm data join`)"),
    ("file.not-a-folder", from_jsonl("good.jsonl", images_root="gone"), "--images-root gone is not a folder"),
    ("file.not-a-folder", lambda: ingest("preference-jsonl", Path("good.jsonl"), Path("x.txt")),
     "x.txt is a file; --out is the folder to write"),
    ("option.bad-value", from_jsonl("good.jsonl", missing_images="skip"),
     "missing_images is 'skip'; it must be one of: refuse, drop, blank"),
    ("image.missing", from_jsonl("image.jsonl", missing_images="refuse"),
     "image.jsonl: the images of 1 rows are missing under {cwd} (first: gone.png); put them in place, use a grey image "
     "with --missing-images blank, or drop those rows with --missing-images drop (in `data ingest` with "
     "a higher --max-bad)"),
    ("data.too-many-bad-rows", from_jsonl("bad.jsonl"),
     "1 of 2 rows are bad, more than --max-bad 0.01 allows: missing_field 1. First: bad.jsonl row 2 (no id): "
     "missing_field, neither chosen and rejected nor response_1, response_2 and label. "
     "out/ingest_dropped.refused.jsonl lists them all; fix the file, or raise --max-bad"),
    ("data.no-usable-rows", from_jsonl("ties.jsonl"),
     "none of 1 rows of ties.jsonl could be used ({'same_responses': 1})"),
    ("file.not-one-array", from_jsonl("two.json"),
     "two.json continues after its array ends ('[]'); give one array per file"),
    ("file.damaged", from_jsonl("torn.json"), "torn.json is cut off or not JSON in element 1, character 1 "
     "(Unterminated string starting at: line 1 column 47 (char 46)); download it again"),
    ("file.damaged", from_jsonl("no comma.json"),
     "no comma.json is not a JSON array: no comma after element 1; download it again"),
    ("data.join-inputs", lambda: join([Path("pairs")], Path("out")),
     "give at least two pairs folders, each of them once"),
    ("option.out-is-input", lambda: join([Path("pairs"), Path("lost")], Path("lost")),
     "--out lost is one of the inputs; give another folder"),
    ("data.repeated-ids", lambda: join([Path("pairs"), Path("same")], Path("out")),
     "1 ids are in two folders (first: 's:a' in pairs and same); leave one folder out, or ingest its file again under "
     "another name: ids of your own data start with the file name"),
    ("image.bad-name", lambda: link_image(Path("pairs/images"), Path("out"), "a/b"),
     "pairs/pairs.parquet names the image 'a/b', which is not a file name"),
    ("image.missing", lambda: link_image(Path("pairs/images"), Path("nothing"), "a.png"),
     "the image 'a.png' is not in pairs/images; filter with --quality, or ingest again"),
    ("option.bad-value", lambda: write_demo_pairs(Path("out"), 1, 1, 0, kinds={"texture": 1.0}),
     "demo kinds {'texture': 1.0} are invalid; give shares of some of: colour, shape, count, position"),
    ("option.bad-value", lambda: write_demo_pairs(Path("out"), 0, 4, 0),
     "demo pairs: 0 training and 4 held-out pairs requested; both must be above 0"),
    ("option.bad-value", lambda: write_demo_pairs(Path("out"), 1, 1, 0, fog=1.5),
     "demo pairs: fog is 1.5; it must be from 0 to 1"),
]  # fmt: skip
ROWS: list[tuple[str, Callable[[], object], str]] = [
    ("option.bad-shard", lambda: Shard.parse("1"), "shard '1' is not I/N; write 1/8 for the first of eight"),
    ("option.bad-shard", lambda: Shard.parse("4/3"), "shard '4/3': I must be from 1 to N, and N at most 99999"),
    ("data.shards-missing", lambda: convert_step("verl", Path("pairs"), Path("t.parquet")).finish(3),
     "convert verl: 3 of 3 shards are not done (first: 1/3); run them first"),
    ("critique.none", lambda: index_critiques([Path("empty.jsonl")]), "no critiques in empty.jsonl; distill first"),
    ("file.unreadable", lambda: index_critiques([Path("gone")]),
     "gone cannot be read (No such file or directory); distill the shard first"),
    ("image.unreadable", lambda: ImageBytes(10).read(["gone"], [4]),
     "the image gone cannot be read (No such file or directory); ingest the data again"),
    ("image.changed", read_changed_image, "the image a.bin changed while it was read; do not change it, and run again"),
    ("image.too-large", lambda: ImageBytes(10).read(["a"], [2**31]),
     "the images of one row have 2048 MB together; at most 2047 MB fit, make them smaller"),
    ("file.missing", lambda: check(Path("gone")), "gone does not exist"),
    ("data.unknown-kind", lambda: kind_of(Path("strange.jsonl")),
     f"strange.jsonl is not of a known kind: its fields are a, b; give {KINDS}"),
    ("data.no-objects", lambda: kind_of(Path("list.jsonl")), "list.jsonl has no JSON object among its first 50 rows"),
    ("data.no-rows", lambda: stats(Path("lost")), "lost (pairs folder) has no rows"),
    ("data.no-rows", lambda: show(Path("pairs"), Path("x.html"), first=9), "pairs has fewer than 9 rows"),
]  # fmt: skip
EXPORT: list[tuple[str, Callable[[], object], str]] = [
    ("option.bad-value", to("csv", "pairs", "o.csv"),
     "cannot convert to 'csv'; the targets are: verl, verl-r1, swift-grm, swift-proxy, swift-r1, swift-rm, bench"),
    ("option.bad-out", to("verl", "pairs", "o.jsonl"), "--out o.jsonl must be a .parquet file"),
    ("option.missing", to("swift-grm", "pairs", "o.jsonl"),
     "swift-grm is written from the teacher's critiques; give them with --critiques"),
    ("option.no-effect", to("bench", "pairs", "o.jsonl", "c.jsonl"),
     "only swift-grm, swift-proxy, swift-r1 use critiques, not bench; leave --critiques out"),
    ("file.not-a-file", to("swift-grm", "pairs", "o.jsonl", "gone"),
     "gone is not a file; give the teacher's critiques (JSONL)"),
    ("data.not-a-pairs-folder", to("bench", "good.jsonl", "o.jsonl"),
     "bench needs a pairs folder; make one with `proxygrm data ingest preference-jsonl good.jsonl`"),
    ("file.not-a-file", to("verl", "gone.jsonl", "o.parquet"),
     "gone.jsonl is not a file; give a JSONL file or a pairs folder"),
    ("option.out-is-input", to("verl", "pairs", "pairs/pairs.parquet"),
     "--out pairs/pairs.parquet is the input; name another file"),
    ("option.out-is-input", to("swift-grm", "pairs", "c.jsonl", "c.jsonl"),
     "--out c.jsonl is the input; name another file"),
    ("image.missing", to("verl", "image.jsonl", "o.parquet", missing_images="refuse"),
     "image.jsonl: the images of 1 rows are missing (image.jsonl row 1 (image:1): missing_image, gone.png); put them "
     "in place, drop those rows with --missing-images drop, or use a grey image with --missing-images blank"),
    ("data.no-sets", lambda: sets_of(TWO_STAGES),
     f"--recipe {TWO_STAGES}: its chain splits no pairs into sets; name another recipe"),
    ("data.bad-sizes", sets({}), "split sizes {} must be 0 or more, and at least one above 0"),
    ("critique.other-pairs", sets({"grm_sft": 1}, "other.jsonl"),
     "none of the critiques is of a pair in pairs (the first is of 't:x'); give the critiques of these pairs"),
    ("data.too-few-pairs", sets({"grm_sft": 4}),
     "too few usable critiques: grm_sft lacks 3 of 4 rows (the teacher judged 1 pairs right and 0 wrong; each set has "
     "equally many rows of both labels, and no image is in two sets). Distil more pairs, make the sets smaller with "
     "--sizes, or let all sets shrink in proportion with --short take"),
    ("data.empty-set", sets({"grm_sft": 4}, short="take"),
     "grm_sft would be empty: there are no usable critiques of both labels for it; distil more pairs, or leave the set "
     "out with --sizes grm_sft=0"),
    ("data.empty-set", sets({"grm_sft": 4}, short="take", stage="cut"),
     "grm_sft would be empty: there are no usable critiques of both labels for it; distil more pairs, or leave the set "
     "out with --set cut.grm_sft=0"),
    ("option.bad-value", lambda: read_sizes("sft=5", ("grm_sft", "grm_rl")),
     "--sizes: 'sft=5' is not NAME=ROWS with one of the names grm_sft, grm_rl"),
]  # fmt: skip
FILTERS: list[tuple[str, Callable[[], object], str]] = [
    ("settings.unreadable", settings("broken.toml"), "settings broken.toml cannot be read ({cause}); give a TOML file"),
    ("settings.unknown-name", settings("s.toml"), "s.toml: unknown setting 'qualty'; did you mean 'quality'?"),
    ("settings.unknown-name", settings("t.toml"),
     "t.toml: unknown setting 'zzz'; there are quality, similarity, difficulty, decontamination"),
    ("settings.no-effect", settings("off.toml", None, {"difficulty": "--critiques"}),
     "off.toml: [difficulty] has no effect without --critiques; give it, or leave the table out"),
    ("option.no-effect", settings("off.toml", {"similarity": {"image_distance": 3}}),
     "--image-distance has no effect: off.toml has similarity = false; leave one of them out"),
    ("settings.bad-value", values(difficulty=3), "settings: difficulty is 3; write a table [difficulty]"),
    ("settings.bad-value", values(quality={"image_side": 3}),
     "settings [quality] image_side is 3; write [least, most]"),
    ("settings.bad-value", values(similarity={"threshold": "x"}),
     "settings [similarity] threshold is 'x'; it must be int or float"),
    ("settings.out-of-range", lambda: SimilaritySettings(threshold=0.1),
     "near-duplicate threshold 0.1 must be from 0.5 to 1"),
    ("settings.out-of-range", lambda: SimilaritySettings(image_distance=17),
     "similarity.image_distance is 17; it must be from 0 to 16 bits of 64"),
    ("settings.out-of-range", lambda: QualitySettings(question_words=(5, 4)),
     "quality.question_words is [5, 4]; it must be [least, most] with 0 <= least <= most"),
    ("settings.out-of-range", lambda: DifficultySettings((0.6, 0.5)),
     "agreement 0.6:0.5 must be LOW:HIGH with 0 <= LOW <= HIGH <= 1"),
    ("settings.bad-value", lambda: DifficultySettings(without_samples="x"),  # type: ignore[arg-type]
     "difficulty.without_samples is 'x'; it must be 'keep' or 'drop'"),
    ("settings.out-of-range", lambda: DecontaminationSettings(near_text=0.1),
     "decontamination.near_text is 0.1; it must be from 0.5 to 1"),
    ("critique.none", lambda: critique_files([Path("nothing")]),
     "nothing has no critiques (*.jsonl); give the folder that the distillation wrote"),
    ("option.bad-out", lambda: filter_pairs(Path("pairs"), Path("pairs")),
     "--out pairs must be a folder, and not the one that is filtered"),
    ("settings.nothing-to-do", lambda: filter_pairs(Path("pairs"), Path("out"), FilterSettings(None, None)),
     "every filter is off; leave one on, or give --critiques or --against"),
    ("option.missing", command("filter", "pairs", "--out", "out", "--agreement", "0:1"),
     "--agreement needs critiques; give --critiques DIR"),
    ("option.bad-value", command("filter", "pairs", "--out", "out", "--near-duplicates", "some"),
     "--near-duplicates 'some' is neither a share like 0.8 nor off"),
    ("option.bad-value", command("filter", "pairs", "--out", "out", "--critiques", "c.jsonl", "--agreement", "1"),
     "--agreement '1' is not LOW:HIGH, e.g. 0.0:0.99"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "call", "message"), [*INGEST, *ROWS, *EXPORT, *FILTERS])
def test_every_error_has_its_code_and_message(files, code, call, message):
    with pytest.raises(UserError) as caught:
        call()
    expected = message.replace("{cwd}", str(Path.cwd())).replace("{cause}", str(caught.value.__cause__))
    assert (caught.value.code, str(caught.value)) == (code, expected)
