"""What a line of a job's log tells, and that commands stay as quiet as they were."""

from __future__ import annotations

import re
import subprocess
import sys


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


LOG = "import logging; log = logging.getLogger('slurm.health'); "


def test_each_line_of_a_job_has_its_stage_attempt_and_rank_once() -> None:
    code = (
        f"{LOG}from proxygrm.core.runtime import job_log; job_log.set_up('old', 1, 0); "
        "job_log.set_up('100%/grm_rl', 2, 3); log.info('2 nodes'); log.warning('one is slow'); log.debug('not this'); "
        "logging.getLogger('urllib3').warning('of a library')"
    )
    done = run(code)
    lines = done.stdout.splitlines()
    assert [re.sub(r"^\[\d\d:\d\d:\d\d ", "[", line) for line in lines] == [
        "[100%/grm_rl attempt 2 rank 3] INFO 2 nodes",
        "[100%/grm_rl attempt 2 rank 3] WARNING one is slow",
    ]
    assert done.stderr == "of a library\n"


def test_a_command_shows_warnings_on_standard_error_and_no_information() -> None:
    done = run(f"{LOG}log.info('2 nodes'); log.warning('one is slow')")
    assert (done.stdout, done.stderr) == ("", "one is slow\n")
