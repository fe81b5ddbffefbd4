"""Near-duplicate filtering of preference pairs: `proxygrm data filter` against datasketch, on the same rows.

    python -m uv pip install --no-deps --target /tmp/datasketch datasketch
    PYTHONPATH=/tmp/datasketch python benchmarks/near_duplicates.py --rows 50000

--ours leaves datasketch out, and needs no installation.

Same texts, same shingles (sets of lower-case word 3-grams), 128 hash functions, the same bands, and candidates count
when their estimate reaches the threshold. "near-duplicates" and datasketch (MinHash.update_batch, MinHashLSH) read the
texts and name the rows that leave; "the whole command" also writes the kept rows and the log. "datasketch before 2.0"
is the older arithmetic, which datasketch still has as an option. Each runs in a process of its own, on one core,
without the generation; time is CPU seconds without imports, memory the largest resident set with them.

The hash functions differ, so estimates do, by 0.05 (one deviation of the difference) at the threshold. Rows that only
one tool keeps must therefore have a true Jaccard index near the threshold, and the last lines show that they have.
`--borderline` rows are made to lie there; all others are clear.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from measuring import cpu_seconds, peak_mb

sys.path.insert(0, str(Path(__file__).parent.parent))
THRESHOLD, PLACES, TOLERANCE = 0.8, 128, 0.15
HOW = """datasketch is not installed; it serves this measurement only:
  python -m uv pip install --no-deps --target /tmp/datasketch datasketch
  PYTHONPATH=/tmp/datasketch python benchmarks/near_duplicates.py
or measure this project alone with --ours"""


def generate(folder: Path, rows: int, copies: float, borderline: float) -> Path:
    """Questions of 5 to 25 words and responses of 20 to 160, their frequencies as in language (Zipf)."""
    from data_tools.rows.preference import PreferencePair, write_pairs

    chance = random.Random(0)
    words = ["".join(chance.choices("abcdefghijklmnoprstuvwy", k=chance.randint(2, 9))) for _ in range(20_000)]
    weights = list(accumulate(1 / (rank + 3) for rank in range(len(words))))
    seen: list[tuple[str, ...]] = []

    def text(least: int, most: int) -> str:
        return " ".join(chance.choices(words, cum_weights=weights, k=chance.randint(least, most)))

    def edited(given: str, edits: int) -> str:
        changed = given.split()
        for _ in range(edits):
            changed[chance.randrange(len(changed))] = chance.choice(words)
        return " ".join(changed)

    def pairs():
        for row in range(rows):
            kind = chance.random()
            if seen and kind < copies + borderline:
                question, one, two = chance.choice(seen)
                # A changed word changes three shingles: one in 75 leaves over 0.92, one in 15 to 40 about 0.8.
                every = chance.choice([75, 150, 10_000]) if kind < copies else chance.randint(15, 40)
                texts = (question, edited(two, len(two.split()) // every), edited(one, len(one.split()) // every))
            else:
                texts = (text(5, 25), text(20, 160), text(20, 160))
                seen.append(texts)
            yield PreferencePair(f"bench:{row}", "bench", *texts, 1, (), "none")

    write_pairs(folder, pairs())
    return folder


def texts_of(pairs: Path) -> Iterator[list[tuple[str, str, str]]]:
    """Question and responses, a row group at a time: what all tools but the whole command read."""
    from data_tools.rows.preference import pair_groups

    for table in pair_groups(pairs, columns=["question", "response_1", "response_2"]):
        yield list(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))


def whole_command(pairs: Path, out: Path) -> dict[int, int]:
    from data_tools.filters.run import filter_pairs
    from data_tools.filters.settings import FilterSettings
    from data_tools.filters.similarity import SimilaritySettings

    filter_pairs(pairs, out, FilterSettings(quality=None, similarity=SimilaritySettings(THRESHOLD)))
    with (out / "filter_dropped.jsonl").open(encoding="utf-8") as lines:
        left = [json.loads(line) for line in lines]
    return {number(row["id"]): number(row["detail"]) for row in left}


def number(text: str) -> int:
    """Of a generated row, from the end of a text."""
    return int(text.rpartition(":")[2])


def near_duplicates_alone(pairs: Path, out: Path) -> dict[int, int]:
    import numpy as np

    from data_tools.filters.minhash import signatures
    from data_tools.filters.similarity import SimilaritySettings, near_duplicates

    groups = texts_of(pairs)
    signs = np.concatenate([signatures(rows[at : at + 512]) for rows in groups for at in range(0, len(rows), 512)])
    found = near_duplicates(signs, [()] * len(signs), pairs / "images", SimilaritySettings(THRESHOLD))
    return dict(zip(found.rows.tolist(), found.keepers.tolist(), strict=True))


def datasketch(pairs: Path, out: Path, scheme: str | None = None) -> dict[int, int]:
    from datasketch import MinHash, MinHashLSH

    from data_tools.filters.minhash import bands_for

    bands = bands_for(THRESHOLD)
    index = MinHashLSH(num_perm=PLACES, params=(bands, PLACES // bands))
    options = {"num_perm": PLACES} | ({"scheme": scheme} if scheme else {})
    stay: dict[int, MinHash] = {}
    left: dict[int, int] = {}
    for row, texts in enumerate(chain.from_iterable(texts_of(pairs))):
        sign = MinHash(**options)
        sign.update_batch([shingle.encode() for shingle in shingles(texts)])
        near = [found for found in index.query(sign) if sign.jaccard(stay[found]) >= THRESHOLD]
        if near:
            left[row] = min(near)
        else:
            stay[row] = sign
            index.insert(row, sign)
    return left


def datasketch_before_2(pairs: Path, out: Path) -> dict[int, int]:
    return datasketch(pairs, out, "legacy")


TOOLS = {
    "proxygrm: near-duplicates": near_duplicates_alone,
    "proxygrm: the whole command": whole_command,
    "datasketch": datasketch,
    "datasketch before 2.0": datasketch_before_2,
}
BASE = "datasketch"


def shingles(texts: tuple[str, str, str]) -> set[str]:
    found = set()
    for text in texts:
        words = text.lower().split()
        found |= {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}
    return found


def measure(tool: str, pairs: Path, out: Path) -> None:
    """In a process of its own: write what left, and print one JSON line."""
    import pandas  # noqa: F401 - imports are not counted; arrow imports this one sooner or later

    import data_tools.filters.merge  # noqa: F401

    if tool.startswith("datasketch"):
        import datasketch as _  # noqa: F401
    before, began = cpu_seconds(), time.monotonic()
    left = TOOLS[tool](pairs, out)
    cpu, wall = cpu_seconds() - before, time.monotonic() - began
    out.mkdir(exist_ok=True)
    (out / "left.json").write_text(json.dumps(left))
    peak = peak_mb()
    print(json.dumps({"tool": tool, "left": len(left), "cpu_s": cpu, "wall_s": wall, "peak_mb": peak}))


def compare(pairs: Path, one: dict[int, int], other: dict[int, int], names: tuple[str, str], total: int) -> None:
    """Print how the kept rows agree; ends with an error when rows differ that are clear."""
    differ = {row: one.get(row, other.get(row, row)) for row in one.keys() ^ other.keys()}
    wanted = set(differ) | set(differ.values())
    rows = enumerate(chain.from_iterable(texts_of(pairs)))
    sets = {row: shingles(texts) for row, texts in rows if row in wanted}
    near = [len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in differ.items()]
    both = total - len(one.keys() | other.keys())
    only = [len(other.keys() - one.keys()), len(one.keys() - other.keys())]
    print(f"{names[0]} | {names[1]}: {both:,} rows kept by both, {only[0]} by the first only, {only[1]} by the second "
          f"only ({both / max(both + sum(only), 1):.2%} the same)")  # fmt: skip
    if near:
        print(f"  true Jaccard index of the rows that differ: {min(near):.3f} to {max(near):.3f}")
        far = max(abs(value - THRESHOLD) for value in near)
        if far > TOLERANCE:
            raise SystemExit(f"a row {far:.3f} from the threshold is kept by one tool only: that is not chance")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--copies", type=float, default=0.2, help="share of rows that are copies with few edits")
    parser.add_argument("--borderline", type=float, default=0.02, help="share made to lie about the threshold")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each tool, of which the fastest counts")
    parser.add_argument("--ours", action="store_true", help="without datasketch")
    parser.add_argument("--only", choices=list(TOOLS), help=argparse.SUPPRESS)
    parser.add_argument("--pairs", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        measure(given.only, given.pairs, given.out)
        return
    if not given.ours and importlib.util.find_spec("datasketch") is None:
        raise SystemExit(HOW)
    tools = [tool for tool in TOOLS if not (given.ours and tool.startswith("datasketch"))]
    base = tools[0] if given.ours else BASE
    folder = Path(tempfile.mkdtemp(prefix="near-duplicates-"))
    try:
        pairs = generate(folder / "pairs", given.rows, given.copies, given.borderline)
        found: dict[str, dict[str, Any]] = {}
        left: dict[str, dict[int, int]] = {}
        for turn in range(given.repeat):
            for place, tool in enumerate(tools):
                out = folder / f"{turn}-{place}"
                command = [sys.executable, __file__, "--only", tool, "--pairs", str(pairs), "--out", str(out)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                run = json.loads(done.stdout.splitlines()[-1])
                found[tool] = min(run, found.get(tool, run), key=lambda one: one["cpu_s"])
                left[tool] = {int(row): keeper for row, keeper in json.loads((out / "left.json").read_text()).items()}
        print(f"{given.rows:,} rows, {given.copies:.0%} of them copies, {given.borderline:.0%} borderline; "
              f"threshold {THRESHOLD}; fastest of {given.repeat}\n")  # fmt: skip
        print(
            "| tool | rows per CPU second | rows per second | peak MB | rows kept | ratio |\n|---|---|---|---|---|---|"
        )
        for tool, run in found.items():
            print(f"| {tool} | {given.rows / run['cpu_s']:,.0f} | {given.rows / run['wall_s']:,.0f} | "
                  f"{run['peak_mb']:,} | {given.rows - run['left']:,} | "
                  f"{found[base]['cpu_s'] / run['cpu_s']:.1f} |")  # fmt: skip
        print()
        for i, j in ((0, 1), (0, 2), (0, 3), (2, 3)):
            if max(i, j) < len(tools):
                compare(pairs, left[tools[i]], left[tools[j]], (tools[i], tools[j]), given.rows)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
