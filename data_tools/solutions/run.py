"""VisualPRM400K as released -> a solutions folder, as a step in shards.

OUT/solutions.jsonl, pairs.jsonl, images/   the solutions folder (`proxygrm.process.solutions`)
OUT/outcomes.jsonl    in the same form, rows whose one label is of the whole response, if there are any
OUT/report.json       the counts; `dropped.jsonl` has one line for each row of the release that is left out

The rows, their order and their ids do not depend on the number of shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data_tools.ingest.raw_rows import scan_files
from data_tools.rows.preference import SCHEMA_VERSION
from data_tools.solutions.release import EXPECTED, annotations_of
from data_tools.solutions.settings import SolutionOptions
from data_tools.steps.shards import Shard, Step, carry_out, stamp_of
from proxygrm.core.errors import UserError
from proxygrm.process.solutions import REPORT, SOLUTIONS


def solutions_step(
    release: Path,
    out: Path,
    options: SolutionOptions | None = None,
    *,
    subsets: Sequence[str] = (),
    images_root: Path | None = None,
    max_bad: float = 0.01,
) -> Step:
    """The step that reads a release, or one of its annotation files, into the solutions folder `out`.

    subsets: only these. images_root: the folder of all images, instead of the release's. Raises UserError for a release
    that is not unpacked or of another layout, and for options out of bounds.
    """
    from data_tools.solutions import part  # deferred: imports numpy

    options, out = options or SolutionOptions(), Path(out)
    annotations = tuple(annotations_of(release, subsets, images_root, exclude=out))
    taken = {Path(release).resolve()}
    for each in annotations:
        taken |= {folder.resolve() for folder in (each.path.parent, each.images, each.all_images) if folder}
    if out.resolve() in taken or (out.exists() and not out.is_dir()):
        raise UserError(f"--out {out} must be a folder, and none of the release's own", code="option.bad-out", path=out)
    files = [scan_files(each.path, EXPECTED, part.COLUMNS)[0] for each in annotations]
    places = [(each.name, each.subset, str(each.images), str(each.all_images)) for each in annotations]
    job = part.Job(annotations, tuple(files), options, out)
    return Step(
        "solutions", out, REPORT, stamp_of((options, places, SCHEMA_VERSION), [each.path for each in annotations]),
        run=partial(part.run, job), done=part.done, merge=partial(_merge, job, max_bad), result=out / SOLUTIONS,
    )  # fmt: skip


def write_solutions(release: Path, out: Path, options: SolutionOptions | None = None, **more: Any) -> dict[str, Any]:
    """Run `solutions_step` with these options in this process (for small data), and return the report."""
    return carry_out(solutions_step(release, out, options, **more), 1, workers=1)


def _merge(job: Any, max_bad: float, shards: list[Shard], parts: Path) -> dict[str, Any]:
    from data_tools.solutions.merge import merge

    return merge(job, max_bad, shards, parts)
