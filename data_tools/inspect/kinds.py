"""Tells the kind of a file or folder from its columns, or from the fields of its first rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

from data_tools.ingest.raw_rows import RawFile, list_files, open_parquet_file, read_span, scan_files
from data_tools.ingest.run import ingest_job
from data_tools.sources import SOURCES, load
from proxygrm.core.errors import UserError

EXPECTED = "a pairs folder, or a file of pairs, critiques or training rows"
_FIRST_ROWS = 50  # of JSON
Fields = Mapping[str, bool]
"""Of a file: name -> whether it holds lists."""


@dataclass(frozen=True)
class Kind:
    name: str  # "pairs", "verl", "swift", "critiques", or the name of a source in `data_tools.sources`
    title: str
    fits: Callable[[Fields], bool]  # whether a file with these fields is of this kind
    parquet: bool = True
    json: bool = True
    files: str = ""  # patterns of the first file's name, separated by "|"; "": any name
    beside: str = ""  # a file that is in its folder, or in the one above


def _all(*names: str) -> Callable[[Fields], bool]:
    return lambda fields: set(names) <= set(fields)


def _turns(*names: str) -> Callable[[Fields], bool]:
    """Both sides are lists: of turns, or of responses."""
    return lambda fields: {*names, "chosen", "rejected"} <= set(fields) and fields["chosen"] and fields["rejected"]


def _preference(fields: Fields) -> bool:
    has_question = "question" in fields or "prompt" in fields
    return has_question and ({"chosen", "rejected"} <= set(fields) or {"response_1", "response_2"} <= set(fields))


def _benchmark(fields: Fields) -> bool:
    """The layout of R1-Reward and MM-RLHF-RewardBench, which is also used for VL-RewardBench."""
    return {"id", "prompt", "chosen", "rejected"} <= set(fields) and not {"question", "label"} & set(fields)


def _conversations(fields: Fields) -> bool:
    """Two conversations that share the prompt, which no other field has."""
    return {"chosen", "rejected", "source"} <= set(fields) and not {"prompt", "question", "conversations"} & set(fields)


PAIRS = Kind(
    "pairs", "pairs folder", _all("id", "question", "response_1", "response_2", "label", "license"), json=False
)
OMNIALIGN = "chart.jsonl|creation.jsonl|diagram.jsonl|ins_follow.jsonl|knowledge.jsonl|poster.jsonl"
"""Its files; their columns were not seen."""
KINDS = (
    PAIRS,
    Kind("verl", "verl parquet", _all("data_source", "prompt", "reward_model"), json=False),
    Kind("swift", "ms-swift JSONL", _all("messages"), parquet=False),
    Kind("critiques", "critiques JSONL", _all("id", "critique"), parquet=False),
    Kind("rlaif-v", "RLAIF-V parquet", _all("ds_name", "question", "chosen", "rejected"), json=False),
    Kind("vl-rewardbench", "VL-RewardBench", _all("id", "query", "response", "human_ranking")),
    Kind("multimodal-rewardbench", "Multimodal RewardBench", _all("ID", "Output1", "Output2", "Better")),
    Kind("rlhf-v", "RLHF-V parquet", _all("text", "image", "idx"), json=False),
    Kind("rlhf-v", "RLHF-V parquet (llamafactory)", _all("conversations", "chosen", "rejected"), json=False),
    Kind("vlfeedback", "VLFeedback", _all("prompt", "completions")),
    Kind("ultrafeedback", "UltraFeedback", _all("instruction", "completions")),
    Kind("wildvision-battle", "WildVision-Battle", _all("conversation_a", "conversation_b", "winner")),
    Kind("povid", "POVID JSON", _all("conversations", "rejected_conversations"), parquet=False),
    Kind("r1-reward-rl", "R1-Reward-RL parquet", _all("message", "answer"), json=False),
    Kind("shp", "SHP", _all("history", "human_ref_A", "human_ref_B", "labels")),
    Kind("rewardbench", "RewardBench", _all("id", "prompt", "chosen", "rejected", "subset", "chosen_model")),
    Kind("rm-bench", "RM-Bench JSON", _turns("prompt", "domain"), parquet=False),
    Kind("ultrafeedback-binarized", "UltraFeedback, binarized", _turns("prompt_id", "score_chosen")),
    Kind("olmo-2", "OLMo-2", _turns("chosen_model", "rejected_model")),
    Kind("skywork", "conversation pairs (Skywork)", _conversations),
    Kind("tulu-3", "conversation pairs with their prompt (Tulu-3)", _turns("prompt")),
    Kind("mmpr", "MMPR", _all("question", "chosen", "rejected"), parquet=False, beside="meta.json"),
    Kind("mm-rlhf", "MM-RLHF JSONL", _all("prompt", "chosen", "rejected"), parquet=False, files="dpo_pairs*"),
    Kind("omnialign-v-dpo", "OmniAlign-V-DPO JSONL", _all("chosen", "rejected"), parquet=False, files=OMNIALIGN),
    Kind("mmif", "MMIF DPO JSON", _all("conversations", "chosen", "rejected"), parquet=False),
    Kind("llava-critic", "LLaVA-Critic parquet", _all("conversations", "image"), json=False),
    Kind("bench", "benchmark JSONL", _benchmark, parquet=False),
    Kind("preference-jsonl", "preference JSONL", _preference),
)  # fmt: skip


def kind_of(path: Path, images_root: Path | None = None) -> tuple[Kind, list[RawFile]]:
    """The kind, and the files (none for a pairs folder).

    Raises UserError for a path that does not exist, cannot be read, or is of no known kind.
    """
    if path.is_dir() and (path / "pairs.parquet").is_file():
        return PAIRS, []
    first = list_files(path, EXPECTED)[0][0]
    parquet = first.suffix.lower() == ".parquet"
    fields = _columns(first) if parquet else _fields(path)
    for kind in KINDS:
        if (kind.parquet if parquet else kind.json) and kind.fits(fields) and _named(kind, first, path):
            return kind, [] if kind is PAIRS else _files(kind, path, images_root)
    some = sorted(fields)[:20]
    raise UserError(
        f"{path} is not of a known kind: its fields are {', '.join(some) or 'none'}; give {EXPECTED}",
        code="data.unknown-kind", path=path, fields=some,
    )  # fmt: skip


def _named(kind: Kind, first: Path, path: Path) -> bool:
    folders = [first.parent, first.parent.parent, path]
    by_name = not kind.files or any(fnmatch(first.name, each) for each in kind.files.split("|"))
    return by_name and (not kind.beside or any((folder / kind.beside).is_file() for folder in folders))


def _files(kind: Kind, path: Path, images_root: Path | None) -> list[RawFile]:
    """The files as ingestion takes them, where that depends on their names."""
    source = load(kind.name) if kind.name in SOURCES else None
    if source is None or not (source.files or source.of_file):
        return scan_files(path, EXPECTED, ((),))
    folder = path if path.is_dir() else path.parent
    return list(ingest_job(source, path, folder / ".no-output", images_root=images_root).files)


def _columns(file: Path) -> Fields:
    import pyarrow as pa

    return {each.name: pa.types.is_list(each.type) for each in open_parquet_file(file).schema_arrow}


def _fields(path: Path) -> Fields:
    """The fields of the first row that is a JSON object; bad rows may come before it."""
    files = scan_files(path, EXPECTED, ((),))
    rows = read_span(files, range(sum(file.units for file in files)), ((),), (), EXPECTED)
    for _, _, row in islice(rows, _FIRST_ROWS):
        if isinstance(row, dict):
            return {name: isinstance(value, list) for name, value in row.items()}
    raise UserError(f"{path} has no JSON object among its first {_FIRST_ROWS} rows", code="data.no-objects", path=path)
