"""RM-Bench as released (THU-KEG/RM-Bench): data/total_dataset.json, one array of 1,327 prompts without images.

A row: id, prompt, chosen[3], rejected[3], domain (chat, code, math, safety-refuse, safety-response), and more. Both
lists are in the order concise, detailed plain, detailed markdown. A row becomes nine pairs, one for each chosen and
each rejected response, with the id DOMAIN/ID/cI-rJ; the nine are a `group`. The files of the single domains have no
`domain`: of a folder, only total_dataset.json is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from data_tools.sources.base import Excluded, RawPair, Source
from proxygrm.core.ids import BadId, has_id, id_text
from proxygrm.evaluate.benchmarks.rm_bench import PARTS, STYLES, pair_id

_STYLE = "style"  # of an expanded row: (chosen, rejected)


def expand(row: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """The nine comparisons of a prompt; a row without three responses on each side stays one, which `read` refuses."""
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if not (isinstance(chosen, list) and isinstance(rejected, list) and len(chosen) == len(rejected) == len(STYLES)):
        return [row]
    return [
        row | {"chosen": chosen[i], "rejected": rejected[j], _STYLE: (i, j)}
        for i, j in product(range(len(STYLES)), repeat=2)
    ]


def read(row: dict[str, Any]) -> RawPair | Excluded:
    id_, part = row.get("id"), row.get("domain")
    if _STYLE not in row:
        return Excluded("not_three_styles", "chosen and rejected are not lists of three responses", id=id_)
    if not isinstance(part, str) or part not in PARTS:
        return Excluded("no_domain", f"domain is {part!r}, none of {', '.join(PARTS)}", id=id_)
    if not has_id(id_):
        return Excluded("bad_id", "no id", id=id_)
    try:
        full_id = pair_id(part, id_text(id_), *row[_STYLE])
    except BadId as error:
        return Excluded("bad_id", str(error), id=id_)
    prompt = full_id.rpartition("/")[0]
    return RawPair(
        full_id, row.get("prompt"), row.get("chosen"), row.get("rejected"), (), category=str(part), group=prompt
    )


SOURCE = Source(
    "rm-bench",
    columns=("id", "prompt", "chosen", "rejected", "domain"),
    read=read,
    expand=expand,
    expected="RM-Bench's data/total_dataset.json",
    benchmark=True,
    files="total_dataset*",
)
