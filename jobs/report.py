"""The run as one HTML page."""

from __future__ import annotations

from jobs.stage import StageRun


def write_page(run: StageRun) -> None:
    from proxygrm.report import write_report

    write_report(run.run_dir, run.out / "report.html")
