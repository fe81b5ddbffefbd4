"""The line of a log that an error quotes: the cause of an end, not what followed from it. Excerpts are vLLM's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxygrm.core.runtime.log_tail import last_words, telling_line

TOO_LONG = """\
(APIServer pid=7)   File "/x/pydantic/_internal/_dataclasses.py", line 121, in __init__
(APIServer pid=7)     s.__pydantic_validator__.validate_python(ArgsKwargs(args, kwargs), self_instance=s)
(APIServer pid=7) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
(APIServer pid=7)   Value error, User-specified max_model_len (32000) is greater than the derived max_model_len \
(max_position_embeddings=4096.0). [type=value_error, input_value=ArgsKwargs((), {}), input_type=ArgsKwargs]
(APIServer pid=7)     For further information visit https://errors.pydantic.dev/2.14/v/value_error
"""
ENGINE_DIED = """\
(Worker pid=9) ERROR 11-27 02:17:24 [multiproc_executor.py:898]   File "/x/vllm/mrope.py", line 251, in f
(Worker pid=9) ERROR 11-27 02:17:24 [multiproc_executor.py:898]     assert sum(self.mrope_section) == rotary_dim // 2
(Worker pid=9) ERROR 11-27 02:17:24 [multiproc_executor.py:898]            ^^^^^^^^^^^^^^^^^^^^^^^
(Worker pid=9) ERROR 11-27 02:17:24 [multiproc_executor.py:898] AssertionError
(EngineCore pid=8)     raise e from None
(EngineCore pid=8) Exception: WorkerProc initialization failed due to an exception in a background process. See stack \
trace for root cause.
(APIServer pid=7) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
NO_MEMORY = """\
(EngineCore_DP0 pid=8) ERROR 11-27 02:17:24 [core.py:1100] ValueError: Free memory on device cuda:0 (3.1/79.1 GiB) on \
startup is less than desired GPU memory utilization (0.9, 71.2 GiB). Decrease GPU memory utilization.
(EngineCore_DP0 pid=8) Process EngineCore_DP0:
(APIServer pid=7) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'E': 1}
[02:17:25] supervisor: started again (1 of 3)
"""


@pytest.mark.parametrize(
    ("log", "quoted"),
    [
        (TOO_LONG, "ModelConfig: User-specified max_model_len (32000) is greater than the derived max_model_len"),
        (ENGINE_DIED, "AssertionError (mrope.py line 251: assert sum(self.mrope_section) == rotary_dim // 2)"),
        (NO_MEMORY, "ValueError: Free memory on device cuda:0 (3.1/79.1 GiB) on startup is less than desired"),
        ("usage: vllm\nmain.py: error: unrecognized arguments: --nonsense 3\n", "main.py: error: unrecognized"),
        ("\x1b[36m(TaskRunner pid=3)\x1b[0m ValueError: too few rows\nbye\n", "ValueError: too few rows"),
        ("[rank0]: torch.OutOfMemoryError: CUDA out of memory.\nEOFError\n", "torch.OutOfMemoryError: CUDA out of"),
        ("ValueError: these do not fit:\n  a 1\n  b 2\n", "ValueError: these do not fit: a 1 b 2"),
        ("RuntimeError: Engine core initialization failed. See root cause above.\n", "RuntimeError: Engine core init"),
        ("OSError: [Errno 98] in use\nConnectionResetError: [Errno 104]\n", "OSError: [Errno 98] in use"),
        ("loading\nready\n", "ready"),
        ("", "nothing in the log"),
    ],
)
def test_the_cause_is_quoted_and_not_its_consequence(tmp_path: Path, log: str, quoted: str) -> None:
    file = tmp_path / "x.log"
    file.write_text(log)
    assert last_words(file).startswith(quoted)


def test_a_missing_log_and_one_that_is_not_text_raise_nothing(tmp_path: Path) -> None:
    assert last_words(tmp_path / "gone") == "nothing in the log"
    (tmp_path / "x").write_bytes(b"\xff\xfe\n")
    assert last_words(tmp_path / "x")


def test_the_quoted_line_has_the_requested_length() -> None:
    line = telling_line(["ValueError: " + "x" * 900, "  and\n  more"], 300)
    assert len(line) == 300
    assert "\n" not in line


def test_the_cause_is_found_although_hundreds_of_lines_of_stack_follow_it(tmp_path: Path) -> None:
    file = tmp_path / "x.log"
    file.write_text(NO_MEMORY.splitlines()[0] + "\n" + '(APIServer pid=7)   File "/x/y.py", line 1, in f\n' * 1500)
    assert last_words(file).startswith("ValueError: Free memory")


def test_what_earlier_attempts_wrote_is_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "swift.log"
    file.write_text("ValueError: of an earlier attempt\n")
    start = file.stat().st_size
    with file.open("a") as log:
        log.write("[rank0]: torch.OutOfMemoryError: CUDA out of memory\nChildFailedError: \n")
    assert last_words(file, since=start) == "torch.OutOfMemoryError: CUDA out of memory"
    assert last_words(file, since=file.stat().st_size) == "nothing in the log"
