"""The program of a job's process: submitit's, with a quick end.

python -m slurm.job_process FOLDER
"""

from __future__ import annotations

from proxygrm.core.runtime.quick_end import quick_end


def main() -> None:
    """SLURM gets the exit status of submitit's own program."""
    with quick_end():
        from submitit.core.submission import submitit_main

        submitit_main()


if __name__ == "__main__":
    main()
