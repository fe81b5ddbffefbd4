"""`proxygrm eval report`: scores and every judgement as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jobs.cli.common.say import echo


def write(
    bench: str,
    files: Mapping[str, Path],
    output: Path,
    partition: str,
    policy: str,
    partial: bool,
    common: bool,
    expected: list[str] | None,
) -> None:
    from jobs.cli.common.quiet import quiet
    from proxygrm.core.files.output_file import check_output
    from proxygrm.report.eval_page import write_eval_report

    check_output(output, files.values(), "--out")
    with quiet("eval report"):
        page = write_eval_report(
            bench, files, output, partition_name=partition, policy=policy, partial=partial, common=common,
            expected=expected,
        )  # fmt: skip
    echo(f"{page} ({page.stat().st_size / 1e6:.2f} MB)")
