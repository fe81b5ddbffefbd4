"""The run as one HTML page."""

from __future__ import annotations

from jobs.engine.stage import StageRun


def write_page(run: StageRun) -> None:
    from proxygrm.report.page import write_report

    write_report(run.run_dir, run.out / "report.html")
