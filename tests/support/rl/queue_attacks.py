"""TransferQueue's real servers and client in one process, and strangers who send them pickles.

`python queue_attacks.py open|guarded FOLDER` prints the results as JSON; FOLDER gets a folder from every pickle that
was loaded. It runs in a separate process, because the guard changes the module permanently.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import zmq
from zmq.utils.monitor import recv_monitor_message

ACCEPTED = zmq.EVENT_HANDSHAKE_SUCCEEDED
REFUSED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_DISCONNECTED
)


class Touch:
    """A pickle that runs code when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def stranger(address: str, loaded: Path, keys: dict[str, bytes]) -> str:
    """Sends a pickle that creates the folder `loaded`, under a name that TransferQueue serves; returns the result."""
    from transfer_queue.utils.serial_utils import _PICKLE_FALLBACK_SENTINEL

    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.IDENTITY, f"TQ_STORAGE_{uuid4().hex[:8]}".encode())
    socket.setsockopt(zmq.RECONNECT_IVL, -1)
    for name, value in keys.items():
        setattr(socket, name, value)
    monitor = socket.get_monitor_socket(ACCEPTED | REFUSED)
    try:
        socket.connect(address)
        with contextlib.suppress(zmq.Again):  # refused before it has sent anything
            socket.send_multipart([_PICKLE_FALLBACK_SENTINEL, pickle.dumps(Touch(loaded))], zmq.NOBLOCK)
        if not monitor.poll(120_000):
            return "nothing happened"
        if recv_monitor_message(monitor)["event"] != ACCEPTED:
            return "refused"
        deadline = time.monotonic() + 120
        while not loaded.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return "accepted"
    finally:
        socket.disable_monitor()
        context.destroy(linger=0)


def strangers(name: str, address: str, folder: Path, guarded: bool) -> dict[str, str]:
    wrong_server, _ = zmq.curve_keypair()
    public, secret = zmq.curve_keypair()
    kinds: dict[str, dict[str, bytes]] = {"no keys": {}}
    if guarded:
        from proxygrm.rl.guards.curve import keys

        own = {"curve_publickey": public, "curve_secretkey": secret}
        kinds["keys of its own"] = {"curve_serverkey": wrong_server, **own}
        kinds["a client key of its own"] = {"curve_serverkey": keys("server")[0], **own}
    return {kind: stranger(address, folder / f"{name}, {kind}", curve) for kind, curve in kinds.items()}


def strange_server() -> str:
    """Whether a socket of the job connects to another server that has taken one of its ports."""
    from transfer_queue.utils.zmq_utils import create_zmq_socket

    context = zmq.Context()
    server = context.socket(zmq.ROUTER)
    port = server.bind_to_random_port("tcp://127.0.0.1")
    client = create_zmq_socket(context, zmq.DEALER, "127.0.0.1", b"TQ_STORAGE_client")
    client.setsockopt(zmq.RECONNECT_IVL, -1)
    monitor = client.get_monitor_socket(ACCEPTED | REFUSED)
    client.connect(f"tcp://127.0.0.1:{port}")
    result = "nothing happened"
    if monitor.poll(120_000):
        result = "accepted" if recv_monitor_message(monitor)["event"] == ACCEPTED else "refused"
    client.disable_monitor()
    context.destroy(linger=0)
    return result


def job_s_own_client(controller: Any, units: dict[str, Any]) -> list[list[int]]:
    """The rows that the job's own client reads back."""
    import torch
    from tensordict import TensorDict
    from transfer_queue.client import TransferQueueClient

    client = TransferQueueClient("client", controller)
    client.initialize_storage_manager("SimpleStorage", {"zmq_info": units})
    rows = TensorDict({"ids": torch.arange(6).reshape(3, 2)}, batch_size=3)
    meta = client.put(rows, partition_id="train")
    rows_read = [row.tolist() for row in client.get_data(meta)["ids"].unbind()]
    client.close()
    return rows_read


def main(guarded: bool, folder: Path) -> dict[str, Any]:
    if guarded:
        from proxygrm.rl.guards.private_sockets import guard

        guard()
    import ray
    from transfer_queue.controller import TransferQueueController
    from transfer_queue.storage.simple_storage import SimpleStorageUnit

    ray.util.get_node_ip_address = lambda: "127.0.0.1"
    controller = TransferQueueController.__ray_metadata__.modified_class()
    unit = SimpleStorageUnit.__ray_metadata__.modified_class({"total_storage_size": 100})
    servers = {**controller.zmq_server_info.ports, **unit.zmq_server_info.ports}
    results = {name: strangers(name, f"tcp://127.0.0.1:{port}", folder, guarded) for name, port in servers.items()}
    server = strange_server()
    own = job_s_own_client(controller.zmq_server_info, {unit.storage_unit_id: unit.zmq_server_info})
    unit.shutdown()
    return {
        "strangers": results,
        "server": server,
        "loaded": sorted(path.name for path in folder.iterdir()),
        "own": own,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1] == "guarded", Path(sys.argv[2]))), flush=True)
    os._exit(0)  # the controller's threads never end
