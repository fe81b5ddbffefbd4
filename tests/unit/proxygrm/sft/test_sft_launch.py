"""The processes of a training meet on this node alone: real torchrun, real process groups."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from proxygrm.sft.nodes import Nodes

pytestmark = pytest.mark.slow

PROCESS = """
import json, os, sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
total = torch.ones(1)
dist.all_reduce(total)
if dist.get_rank() == 0:
    mine = set()
    for pid in (os.getpid(), os.getppid()):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                mine.add(os.readlink(link))
            except OSError:
                pass
    rows = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in mine:
                rows.append(words[1].split(":"))
    listening = [(address, int(port, 16)) for address, port in rows]
    seen = {"total": total.item(), "listening": listening, "port": int(os.environ["MASTER_PORT"])}
    Path(sys.argv[1]).write_text(json.dumps(seen))
dist.barrier()
dist.destroy_process_group()
"""


def test_two_trainings_of_a_node_use_separate_loopback_ports(tmp_path: Path) -> None:
    (tmp_path / "process.py").write_text(PROCESS)
    command = [sys.executable, "-m", "proxygrm.sft.launch", "--nproc_per_node", "2", str(tmp_path / "process.py")]
    both = [subprocess.Popen([*command, str(tmp_path / f"{name}.json")]) for name in "ab"]
    assert [process.wait(600) for process in both] == [0, 0]
    seen = [json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab"]
    assert [each["total"] for each in seen] == [2, 2]
    ports = {each["port"] for each in seen}
    assert len(ports) == 2
    assert 29500 not in ports
    for each in seen:
        assert each["port"] in [port for _, port in each["listening"]]
        assert {address for address, _ in each["listening"]} == {"0100007F"}


def test_two_nodes_meet_at_the_address_of_the_first_alone(tmp_path: Path) -> None:
    (tmp_path / "process.py").write_text(PROCESS)
    processes = []
    for rank in (1, 0):  # the second may start first
        nodes = Nodes(2, rank, f"127.0.0.{rank + 11}", "lo", str(tmp_path / "store.json"))
        words = [*nodes.words, "--nproc_per_node", "1", str(tmp_path / "process.py"), str(tmp_path / "seen.json")]
        processes.append(subprocess.Popen([sys.executable, "-m", "proxygrm.sft.launch", *words]))
    assert [process.wait(600) for process in processes] == [0, 0]
    seen = json.loads((tmp_path / "seen.json").read_text())
    address, port = json.loads((tmp_path / "store.json").read_text())
    assert (seen["total"], address) == (2, "127.0.0.11")
    assert seen["port"] == port != 29500
    assert ["0B00007F", port] in seen["listening"]
    assert {address for address, _ in seen["listening"]} <= {"0B00007F", "0100007F"}
