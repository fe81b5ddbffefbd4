"""The page of `data stats`: a table of the sources, and the distributions of each as small charts."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from data_tools.inspect.by_source import COLUMNS, MEASURES, cells

MOST_SOURCES = 60
_WIDTH, _HEIGHT, _BOTTOM = 320, 110, 18


def write_stats_page(report: dict[str, Any], out: Path) -> None:
    """Write the page of a report of `stats`. Raises UserError if it cannot be written."""
    from proxygrm.report.shell import page_environment, write_page

    sources = dict(list(report["by_source"].items())[:MOST_SOURCES])
    measures = [(measure, _charts(measure, sources)) for measure in MEASURES]
    values = {
        "name": Path(report["path"]).name or report["path"],
        "report": report,
        "columns": COLUMNS,
        "rows": [(name, cells(source)) for name, source in sources.items()],
        "more": len(report["by_source"]) - len(sources),
        "measures": [(measure, charts) for measure, charts in measures if charts],
    }
    write_page(page_environment().get_template("data_stats.html").render(**values), out)


def _charts(measure: str, sources: dict[str, Any]) -> list[dict[str, str]]:
    """A chart of each source that has the measure; all on one axis."""
    found = {name: source["half_octaves"].get(measure) for name, source in sources.items()}
    steps = [step for counts in found.values() for step in counts or {}]
    if not steps:
        return []
    first, last = min(steps), max(steps)
    return [
        {
            "source": name,
            "median": f"{sources[name]['quantiles'][measure]['0.5']:,}",
            "svg": _bars(counts, first, last, f"{measure} of {name}"),
        }
        for name, counts in found.items()
        if counts
    ]


def _bars(counts: dict[int, int], first: int, last: int, title: str) -> str:
    """A bar for each half octave, and the highest fills the height."""
    whole, most = sum(counts.values()), max(counts.values())
    width = _WIDTH / (last - first + 1)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    for step, count in sorted(counts.items()):
        high = (_HEIGHT - _BOTTOM) * count / most
        low_edge, high_edge = round(2 ** (step / 2)), round(2 ** ((step + 1) / 2))
        parts.append(
            f'<rect class="mark" x="{(step - first) * width:.1f}" y="{_HEIGHT - _BOTTOM - high:.1f}" '
            f'width="{max(width - 1, 0.5):.1f}" height="{high:.1f}">'
            f"<title>{low_edge:,} to {high_edge:,}: {count:,} ({count / whole:.1%})</title></rect>"
        )
    for step, anchor, at in ((first, "start", 0), (last + 1, "end", _WIDTH)):
        parts.append(f'<text class="tick" x="{at}" y="{_HEIGHT - 4}" text-anchor="{anchor}">{round(2 ** (step / 2)):,}')
        parts.append("</text>")
    return "".join([*parts, "</svg>"])
