"""The changes of the CPU adapter to a running process, checked in a separate process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import torch, verl
equal = torch.nested.as_nested_tensor([torch.zeros(4, 272, dtype=torch.long)] * 3, layout=torch.jagged)
uneven = torch.nested.as_nested_tensor([torch.zeros(4, n, dtype=torch.long) for n in (5, 7)], layout=torch.jagged)
print([tuple(t.shape) for t in equal.unbind()], [tuple(t.shape) for t in uneven.unbind()])
"""


@pytest.mark.heavy
def test_position_ids_of_equally_long_rollouts_remain_separate() -> None:
    environment = {**os.environ, "VERL_PLATFORM": "cpu", "VERL_USE_EXTERNAL_MODULES": "proxygrm.rl.cpu.platform"}
    ran = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.splitlines()[-1] == "[(4, 272), (4, 272), (4, 272)] [(4, 5), (4, 7)]"
