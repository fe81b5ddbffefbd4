"""What a file or folder is, by its columns or the fields of its first rows."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from data_tools.ingest.raw_rows import RawFile, list_files, read_span, survey
from proxygrm.core.errors import UserError, barred

GIVE = "a pairs folder, or a file of pairs, critiques or training rows"
_LOOK_AT = 50  # first rows of JSON


@dataclass(frozen=True)
class Kind:
    name: str  # "pairs", "verl", "swift", "critiques", or the name of a source in `data_tools.sources`
    title: str
    fits: Callable[[Collection[str]], bool]  # fields -> is it this?
    parquet: bool = True
    json: bool = True


def _all(*names: str) -> Callable[[Collection[str]], bool]:
    return lambda fields: set(names) <= set(fields)


def _preference(fields: Collection[str]) -> bool:
    asks = "question" in fields or "prompt" in fields
    return asks and ({"chosen", "rejected"} <= set(fields) or {"response_1", "response_2"} <= set(fields))


def _benchmark(fields: Collection[str]) -> bool:
    """The shape of R1-Reward and of MM-RLHF-RewardBench; VL-RewardBench goes about in it too."""
    return {"id", "prompt", "chosen", "rejected"} <= set(fields) and not {"question", "label"} & set(fields)


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
    Kind("mmif", "MMIF DPO JSON", _all("conversations", "chosen", "rejected"), parquet=False),
    Kind("llava-critic", "LLaVA-Critic parquet", _all("conversations", "image"), json=False),
    Kind("bench", "benchmark JSONL", _benchmark, parquet=False),
    Kind("preference-jsonl", "preference JSONL", _preference),
)  # fmt: skip


def kind_of(path: Path) -> tuple[Kind, list[RawFile]]:
    """The kind, and the files (none for a pairs folder).

    Raises UserError for a path that is not there, cannot be read, or is nothing that is known.
    """
    if path.is_dir() and (path / "pairs.parquet").is_file():
        return PAIRS, []
    first = list_files(path, GIVE)[0][0]
    if first.suffix.lower() == ".parquet":
        fields: Collection[str] = _columns(first)
    else:
        fields = _fields(path)
    parquet = first.suffix.lower() == ".parquet"
    for kind in KINDS:
        if (kind.parquet if parquet else kind.json) and kind.fits(fields):
            return kind, [] if kind is PAIRS else survey(path, GIVE, ((),))
    raise UserError(f"{path} is nothing that is known here: its fields are {', '.join(sorted(fields)[:20]) or 'none'}")


def _columns(file: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(file).names)
    except (pa.ArrowException, OSError) as error:
        why = barred(error) or f"it is not whole parquet ({error}); fetch it again"
        raise UserError(f"{file} cannot be read: {why}") from error


def _fields(path: Path) -> set[str]:
    """The fields of the first row that is an object; bad rows may stand before it."""
    files = survey(path, GIVE, ((),))
    rows = read_span(files, range(sum(file.units for file in files)), ((),), (), GIVE)
    for _, _, row in islice(rows, _LOOK_AT):
        if isinstance(row, dict):
            return set(row)
    raise UserError(f"{path} has no row that is a JSON object among its first {_LOOK_AT}")
