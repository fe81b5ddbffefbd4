"""`torchrun` for the processes of one node, with a rendezvous that other users cannot reach and other jobs cannot take.

Plain torchrun listens on every address of the node, at port 29500: a second training on the node fails, and anyone who
connects can read and change what the processes agree on. Here the kernel chooses the port, the socket is bound to the
loopback address before anything starts, and torch's store uses that socket.

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
    """arguments: of torchrun, without those about nodes and the rendezvous."""
    from torch.distributed import TCPStore, run
    from torch.distributed.elastic.rendezvous import static_tcp_rendezvous

    # Sockets that the libraries themselves open stay on this node, too.
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = _INTERFACE
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen(128)
        port = listener.getsockname()[1]
        # torch's static rendezvous on our socket. Not its `--standalone`, which unpickles what is in the store, and
        # listens on every address.
        static_tcp_rendezvous.TCPStore = functools.partial(  # type: ignore[attr-defined]
            TCPStore, master_listen_fd=listener.detach()
        )
    rendezvous = ["--nnodes", "1", "--node_rank", "0", "--master_addr", LOOPBACK, "--master_port", str(port)]
    run.main([*rendezvous, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
