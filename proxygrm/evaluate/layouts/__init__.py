"""Result files of other suites: recognised, read into judgements, and written from ours."""

from __future__ import annotations

from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks import Benchmark
from proxygrm.evaluate.layouts import lmms_eval, rewardbench, rm_bench, vlmevalkit
from proxygrm.evaluate.layouts.base import Document, Layout, Reading, shown
from proxygrm.evaluate.layouts.documents import open_foreign, unknown_layout
from proxygrm.evaluate.layouts.known_pairs import KnownPairs
from proxygrm.evaluate.rows.text import reasons_text

LAYOUTS = {module.LAYOUT.name: module.LAYOUT for module in (lmms_eval, vlmevalkit, rewardbench, rm_bench)}


def read_foreign(
    path: Path, bench: Benchmark, file: int, partial: bool, known: KnownPairs, name: str = ""
) -> tuple[Layout, Reading] | None:
    """A file in another suite's layout; None for one that `rows.answers` reads or refuses.

    name: the layout it is said to have; "": it is recognised. UserError for an unknown or ambiguous layout, for one of
    another benchmark, and for rows that cannot be used: each shows a row. With `partial`, those rows are left out, and
    the notes count them.
    """
    document = open_foreign(path)
    if document is None:
        if name and path.is_file():
            raise UserError(
                f"{path} is a JSONL of answers as upstream or this suite writes them; leave --layout out",
                code="eval.not-foreign",
                path=path,
                layout=name,
            )
        return None
    layout = _layout_of(document, name)
    if layout.bench != bench.name:
        raise UserError(
            f"{path} is of {layout.title} ({layout.bench}), not of {bench.name}; use --bench {layout.bench}",
            code="bench.other-layout",
            path=path,
            layout=layout.name,
            bench=bench.name,
        )
    reading = layout.read(document, bench, file, known)
    if reading.unusable and (not partial or not reading.judgements):
        raise UserError(
            f"{path}, read as {layout.title}: {reasons_text(reading.unusable)}; {reading.shown}; nothing was scored, "
            "fix these rows, or score the others with --partial",
            code="eval.unusable-rows",
            path=path,
            layout=layout.name,
            reasons=reading.unusable,
        )
    if not reading.judgements:
        raise UserError(
            f"{path}, read as {layout.title}, has no rows; was its run interrupted?", code="eval.no-answers", path=path
        )
    if reading.unusable:
        reading.notes.append(f"{path.name}: left out: {reasons_text(reading.unusable)}; {reading.shown}")
    return layout, reading


def _layout_of(document: Document, name: str) -> Layout:
    found = [layout for layout in LAYOUTS.values() if layout.recognises(document)]
    if name:
        if LAYOUTS[name] not in found:
            raise UserError(
                f"{document.path} is not of {LAYOUTS[name].title}: its first row is {shown(document.first)}",
                code="eval.other-layout",
                path=document.path,
                layout=name,
            )
        return LAYOUTS[name]
    if not found:
        raise unknown_layout(document, list(LAYOUTS))
    if len(found) > 1:
        names = ", ".join(layout.name for layout in found)
        raise UserError(
            f"{document.path} may be of {names}; choose one with --layout. Its first row is {shown(document.first)}",
            code="eval.ambiguous-layout",
            path=document.path,
            layouts=[layout.name for layout in found],
        )
    return found[0]


__all__ = ["LAYOUTS", "KnownPairs", "Layout", "Reading", "read_foreign"]
