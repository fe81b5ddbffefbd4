"""The sentences of the errors of the report, each once; other tests use codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proxygrm.core.errors import UserError
from proxygrm.report.page import write_report
from proxygrm.report.shell import write_page
from proxygrm.report.tables.run import result_table, training_table

MISSING = "[Errno 2] No such file or directory: 'DIR/gone'"


@pytest.mark.parametrize(
    ("action", "code", "sentence"),
    [
        (
            lambda folder: write_report(folder / "gone", folder / "page.html"),
            "run.not-found",
            "no run folder at DIR/gone; `proxygrm status` lists the runs",
        ),
        (
            lambda folder: write_page("", folder / "file" / "page.html"),
            "file.cannot-write",
            "cannot write DIR/file/page.html: File exists; choose another path",
        ),
        (lambda folder: result_table(folder / "gone"), "report.no-results", f"no results in DIR/gone: {MISSING}"),
        (lambda folder: training_table(folder / "gone"), "report.no-metrics", f"no metrics in DIR/gone: {MISSING}"),
    ],
)
def test_every_error_has_its_sentence(
    action: Callable[[Path], object], code: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        action(tmp_path)
    assert (caught.value.code, str(caught.value).replace(str(tmp_path), "DIR")) == (code, sentence)
