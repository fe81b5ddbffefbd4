"""The shell of every page: one file that loads nothing and runs no script or style but its own."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_bytes
from proxygrm.evaluate.benchmarks import Partition
from proxygrm.report.bars import share_bar
from proxygrm.report.judgements import Packed, pack

if TYPE_CHECKING:
    from jinja2 import Environment

PAGE_BYTES = 4_900_000  # the whole file
SCRIPTS = ("theme.js", "unpack.js", "judgement.js", "table.js", "start.js", "wide.js")
STYLES = ("report.css", "pages.css")

JUDGEMENT_COLUMNS = (
    ("pair", "Pair", "", "the pair's id; opens the judgement"),
    ("question", "Question", "", "the first words"),
    ("category", "Category", "", "as counted in the scores"),
    ("order", "Order", "", "in which the responses were shown"),
    ("better", "Better", "num", "the better response by the label, in the order shown"),
    ("verdict", "Verdict", "num", "the response chosen by the judge, in the order shown"),
    ("result", "Result", "", "as counted in the scores"),
    (
        "proxy",
        "Proxy",
        "",
        "the response chosen by the proxy from the rubric alone, right or wrong by the label; ≠ judge: "
        "the judge chose the other one",
    ),
    ("why", "Problems", "", "why the critique is not well-formed"),
    ("tokens", "Tokens", "num", "of the critique"),
)

Runs = Mapping[str, Sequence[dict[str, Any]]]


def render_page(
    template: str, values: Mapping[str, Any], runs: Runs, cut: Partition, names: Mapping[str, str] | None = None
) -> str:
    """The page of `template` with the judgements of `runs` ({tag: rows}), of at most PAGE_BYTES."""
    environment = page_environment()
    values = {**values, **_inline(environment), "written": clock(time.time()), "svg": share_bar}
    values["judgement_columns"] = JUDGEMENT_COLUMNS
    page = environment.get_template(template)
    total = sum(len(rows) for rows in runs.values())
    without_data = page.render(**values, packed=Packed("", False, "", total, total, []))
    packed = pack(runs, cut, max(0, PAGE_BYTES - len(without_data.encode("utf-8", "replace")) - 10_000), names)
    return page.render(**values, packed=packed)


def write_page(html: str, out_html: Path) -> Path:
    """Write atomically. UserError when that fails."""
    try:
        write_bytes(out_html, html.encode("utf-8", "replace"))
    except OSError as error:
        raise UserError(
            f"cannot write {out_html}: {error.strerror}; choose another path",
            code="file.cannot-write",
            path=out_html,
            reason=error.strerror,
        ) from error
    return out_html


def clock(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def page_environment() -> Environment:
    """The templates of every page and its parts."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("proxygrm.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def _inline(environment: Environment) -> dict[str, str]:
    """Style and script, and the policy that allows these two, by their hashes, and nothing else."""
    rendered: Callable[[str], str] = lambda name: environment.get_template(name).render()  # noqa: E731
    css = "\n".join(map(rendered, STYLES))
    js = '"use strict";\n(() => {\n' + "\n".join(map(rendered, SCRIPTS)) + "\n})();"
    policy = (
        f"default-src 'none'; script-src {_hash(js)}; style-src {_hash(css)}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    return {"css": css, "js": js, "policy": policy}


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
