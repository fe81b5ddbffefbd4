"""`proxygrm process match`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from jobs.cli.common.row_command import MAX_BAD, write_rows
from jobs.cli.process.options import COMPAT, INPUT, OUTPUT, say_rows
from proxygrm.core.bad_row import BadRow


@click.command("match", short_help="Answers (JSONL) -> whether each one is right.")
@INPUT
@OUTPUT
@COMPAT
@MAX_BAD
def match_command(source: Path, target: Path, compat: str | None, max_bad: float) -> None:
    """Compare final answers with the right ones.

    \b
    In:  {"pred": "\\\\boxed{12\\\\text{ cm}}", "answer": "12", ...}       any JSON values; null is equal to nothing
         {"pred": "(B) 40", "answer": "40", "choices": ["30", "40"]}   a letter stands for its option, on either side
    Out: the row with equal (true | false)

    Numbers may have a unit on one side, or the same one on both; 0.33 is 1/3, but 0.001 is not 0.004: a decimal counts
    as rounded when it has two digits after the point and two significant ones. docs/process.md has the whole rule.

    --compat upstream makes texts alike as the released code does, then compares numbers rounded to two decimals as
    latex2sympy2 1.9.1 reads them (that package is not needed).
    """
    from proxygrm.process.match.answers import answers_equal

    counts: Counter[str] = Counter()

    def convert(row: Any) -> dict[str, Any]:
        if not isinstance(row, dict):
            raise BadRow("not_an_object", "the line is not a JSON object")
        for name in ("pred", "answer"):
            if name not in row:
                raise BadRow(f"no_{name}", f"{name} is missing; null is an answer that is never right")
        equal = answers_equal(row["pred"], row["answer"], row.get("choices"), compat == "upstream")
        counts["equal"] += equal
        return row | {"equal": equal}

    account = write_rows(source, target, convert, max_bad, "answers")
    say_rows(account, target, (counts["equal"], "equal"))
