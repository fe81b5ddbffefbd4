"""`torchrun` with a rendezvous that other jobs cannot take, and on one node one that other users cannot reach.

Plain torchrun listens on every address of the node, at port 29500: a second training on the node fails, and anyone who
connects can read and change what the processes agree on. Here the kernel chooses the port, the socket is bound before
anything starts, and torch's store uses that socket: to the loopback address where a training has one node, else to the
address of node 0 alone, which writes the port into a file that the other nodes wait for.

    python -m proxygrm.sft.launch --nproc_per_node 8 -m swift.cli.sft ...
    python -m proxygrm.sft.launch --nodes JSON --nproc_per_node 8 -m swift.cli.sft ...    (`nodes.Nodes`)
"""

from __future__ import annotations

import functools
import json
import os
import socket
import sys
import time
from pathlib import Path

from proxygrm.core.files.whole_file import write_text
from proxygrm.sft.nodes import NODES, Nodes

MEET_S = 300.0
"""How long the other nodes wait for node 0 to listen."""
_POLL_S = 0.2


def main(arguments: list[str]) -> None:
    """arguments: of torchrun, without those about nodes and the rendezvous; before them `--nodes` and a `Nodes`."""
    from torch.distributed import TCPStore, run
    from torch.distributed.elastic.rendezvous import static_tcp_rendezvous

    nodes = Nodes()
    if arguments[:1] == [NODES]:
        nodes, arguments = Nodes(**json.loads(arguments[1])), arguments[2:]
    # Sockets that the libraries themselves open stay on this node, or on the network between the nodes.
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = nodes.interface
    if nodes.rank == 0:
        with socket.socket() as listener:
            listener.bind((nodes.address, 0))
            listener.listen(128 * nodes.count)
            address, port = listener.getsockname()
            # torch's static rendezvous on our socket. Not its `--standalone`, which unpickles what is in the store, and
            # listens on every address.
            static_tcp_rendezvous.TCPStore = functools.partial(  # type: ignore[attr-defined]
                TCPStore, master_listen_fd=listener.detach()
            )
        if nodes.count > 1:
            write_text(Path(nodes.meeting), json.dumps([address, port]))
    else:
        address, port = _meet(Path(nodes.meeting))
    rendezvous = ["--nnodes", str(nodes.count), "--node_rank", str(nodes.rank)]
    rendezvous += ["--master_addr", address, "--master_port", str(port)]
    run.main([*rendezvous, *arguments])


def _meet(file: Path) -> tuple[str, int]:
    """Where node 0 listens."""
    deadline = time.monotonic() + MEET_S
    while file.name not in os.listdir(file.parent):  # noqa: PTH208 - a listing makes NFS look again
        if time.monotonic() > deadline:
            sys.exit(f"node 0 does not listen after {MEET_S:.0f} s: there is no {file}")
        time.sleep(_POLL_S)
    address, port = json.loads(file.read_text())
    return address, port


if __name__ == "__main__":
    main(sys.argv[1:])
