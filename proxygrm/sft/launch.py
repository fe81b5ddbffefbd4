"""`torchrun` for the processes of one node, whose meeting point no other user can reach, and no other job takes.

torchrun by itself listens on every address of the node, at port 29500: the second training of the node ends there, and
whoever connects may read and change what the processes agree on. Here the kernel chooses the port, the socket is open
on the loopback address before anything starts, and torch's store is handed that very socket.

    python -m proxygrm.sft.launch --nproc_per_node 8 -m swift.cli.sft ...
"""

from __future__ import annotations

import functools
import os
import socket
import sys

LOOPBACK = "127.0.0.1"
_INTERFACE = "lo"


def main(arguments: list[str]) -> None:
    """arguments: of torchrun, less those about nodes and where to meet."""
    from torch.distributed import TCPStore, run
    from torch.distributed.elastic.rendezvous import static_tcp_rendezvous

    # What the libraries open beside it, to find each other, stays on this node, too.
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = _INTERFACE
    with socket.socket() as gate:
        gate.bind((LOOPBACK, 0))
        gate.listen(128)
        port = gate.getsockname()[1]
        # torch's own way of meeting, less the choice of a port. Not its `--standalone`: that one unpickles what it
        # finds in the store, and listens on every address.
        static_tcp_rendezvous.TCPStore = functools.partial(  # type: ignore[attr-defined]
            TCPStore, master_listen_fd=gate.detach()
        )
    where = ["--nnodes", "1", "--node_rank", "0", "--master_addr", LOOPBACK, "--master_port", str(port)]
    run.main([*where, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
