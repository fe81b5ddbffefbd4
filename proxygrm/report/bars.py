"""A share as a bar with its interval. Lengths are in per cent of the cell, so the bars of a column have one axis."""

from __future__ import annotations

from proxygrm.report.benchmark import Bar

COLOURS = 6  # in the page's style; more runs reuse them


def share_bar(bar: Bar) -> str:
    """SVG of 16 px height: track, bar, the line at 50 %, whiskers; a published number is hollow."""
    parts = ['<rect class="track" y="3" width="100%" height="10" rx="2"/>']
    if bar.share is not None:
        kind = "hollow" if bar.run is None else f"s{bar.run % COLOURS}"
        parts.append(f'<rect class="{kind}" y="3" width="{100 * bar.share:.2f}%" height="10" rx="2"/>')
    parts.append('<line class="mid" x1="50%" x2="50%" y1="0" y2="16"/>')
    if bar.share is not None and bar.low is not None and bar.high is not None:
        low, high = f"{100 * bar.low:.2f}%", f"{100 * bar.high:.2f}%"
        ends = ((low, high, 8, 8), (low, low, 4, 12), (high, high, 4, 12))
        parts += [f'<line class="whisker" x1="{a}" x2="{b}" y1="{c}" y2="{d}"/>' for a, b, c, d in ends]
    return f'<svg class="bar" aria-hidden="true">{"".join(parts)}</svg>'
