"""Tells the kind of a file or folder from its columns, or from the fields of its first rows."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from data_tools.ingest.raw_rows import RawFile, list_files, open_parquet_file, read_span, scan_files
from proxygrm.core.errors import UserError

EXPECTED = "a pairs folder, or a file of pairs, critiques or training rows"
_FIRST_ROWS = 50  # of JSON


@dataclass(frozen=True)
class Kind:
    name: str  # "pairs", "verl", "swift", "critiques", or the name of a source in `data_tools.sources`
    title: str
    fits: Callable[[Collection[str]], bool]  # whether a file with these fields is of this kind
    parquet: bool = True
    json: bool = True


def _all(*names: str) -> Callable[[Collection[str]], bool]:
    return lambda fields: set(names) <= set(fields)


def _preference(fields: Collection[str]) -> bool:
    has_question = "question" in fields or "prompt" in fields
    return has_question and ({"chosen", "rejected"} <= set(fields) or {"response_1", "response_2"} <= set(fields))


def _benchmark(fields: Collection[str]) -> bool:
    """The layout of R1-Reward and MM-RLHF-RewardBench, which is also used for VL-RewardBench."""
    return {"id", "prompt", "chosen", "rejected"} <= set(fields) and not {"question", "label"} & set(fields)


def _conversations(fields: Collection[str]) -> bool:
    """Two conversations that share the prompt, which no other field has."""
    return {"chosen", "rejected", "source"} <= set(fields) and not {"prompt", "question", "conversations"} & set(fields)


PAIRS = Kind(
    "pairs", "pairs folder", _all("id", "question", "response_1", "response_2", "label", "license"), json=False
)
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
    Kind("skywork", "conversation pairs (Skywork, OLMo-2)", _conversations),
    Kind("mmif", "MMIF DPO JSON", _all("conversations", "chosen", "rejected"), parquet=False),
    Kind("llava-critic", "LLaVA-Critic parquet", _all("conversations", "image"), json=False),
    Kind("bench", "benchmark JSONL", _benchmark, parquet=False),
    Kind("preference-jsonl", "preference JSONL", _preference),
)  # fmt: skip


def kind_of(path: Path) -> tuple[Kind, list[RawFile]]:
    """The kind, and the files (none for a pairs folder).

    Raises UserError for a path that does not exist, cannot be read, or is of no known kind.
    """
    if path.is_dir() and (path / "pairs.parquet").is_file():
        return PAIRS, []
    first = list_files(path, EXPECTED)[0][0]
    parquet = first.suffix.lower() == ".parquet"
    fields: Collection[str] = open_parquet_file(first).schema_arrow.names if parquet else _fields(path)
    for kind in KINDS:
        if (kind.parquet if parquet else kind.json) and kind.fits(fields):
            return kind, [] if kind is PAIRS else scan_files(path, EXPECTED, ((),))
    some = sorted(fields)[:20]
    raise UserError(
        f"{path} is not of a known kind: its fields are {', '.join(some) or 'none'}; give {EXPECTED}",
        code="data.unknown-kind", path=path, fields=some,
    )  # fmt: skip


def _fields(path: Path) -> set[str]:
    """The fields of the first row that is a JSON object; bad rows may come before it."""
    files = scan_files(path, EXPECTED, ((),))
    rows = read_span(files, range(sum(file.units for file in files)), ((),), (), EXPECTED)
    for _, _, row in islice(rows, _FIRST_ROWS):
        if isinstance(row, dict):
            return set(row)
    raise UserError(f"{path} has no JSON object among its first {_FIRST_ROWS} rows", code="data.no-objects", path=path)
