"""CURVE on TransferQueue's sockets: only processes of the job can send to them.

TransferQueue listens on the node's address and unpickles what arrives. Both key pairs, the server's and the client's,
are derived from the job's secret. A client must know the server's key, or the handshake fails before its first message;
then the server checks that the client's key is the job's, too.
"""

from __future__ import annotations

import functools
import hmac
import itertools
import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from proxygrm.core.runtime.job_secret import derive_key

DOMAIN = b"proxygrm"
_REFUSED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
log = logging.getLogger(__name__)
_numbers = itertools.count()
_checked: weakref.WeakSet[zmq.Context[Any]] = weakref.WeakSet()
_checking = threading.Lock()


def keys(role: str) -> tuple[bytes, bytes]:
    """(public, secret) of the job's `server` or `client`, in ZeroMQ's text form."""
    secret = z85.encode(derive_key(f"TransferQueue {role}"))
    return zmq.curve_public(secret), secret


def guarded(create: Callable[..., Any]) -> Callable[..., Any]:
    """TransferQueue's `create_zmq_socket` with CURVE on its sockets. It binds ROUTER and connects DEALER."""
    if not zmq.has("curve"):
        raise RuntimeError("this pyzmq has no CURVE: TransferQueue would accept anyone; reinstall pyzmq")

    @functools.wraps(create)
    def create_zmq_socket(ctx: Any, socket_type: Any, *args: Any, **options: Any) -> Any:
        socket = create(ctx, socket_type, *args, **options)
        try:
            _secure(ctx, socket, socket_type)
        except BaseException:
            socket.close(linger=0)
            raise
        return socket

    return create_zmq_socket


def _secure(ctx: Any, socket: Any, socket_type: int) -> None:
    if socket_type == zmq.ROUTER:
        _check_clients(ctx)
        socket.curve_secretkey = keys("server")[1]
        socket.curve_server = True
        socket.zap_domain = DOMAIN
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # refuse clients as long as nothing checks them
        _report_refused(ctx, socket)
    elif socket_type == zmq.DEALER:
        socket.curve_publickey, socket.curve_secretkey = keys("client")
        socket.curve_serverkey = keys("server")[0]
    else:
        kind = zmq.SocketType(socket_type).name
        raise RuntimeError(f"TransferQueue opens a {kind} socket; only ROUTER and DEALER can be guarded")


def _check_clients(ctx: Any) -> None:
    """One thread per context checks the clients' keys (ZAP, ZeroMQ RFC 27). Like TransferQueue's own thread it ends
    with the context; pyzmq's authenticator would have to be stopped first, or the context never ends."""
    with _checking:
        if ctx in _checked:
            return
        requests = ctx.socket(zmq.REP, socket_class=zmq.Socket)
        requests.bind("inproc://zeromq.zap.01")
        _checked.add(ctx)
    client_key = z85.decode(keys("client")[0])

    def answer() -> None:
        version, request, _, _, _, mechanism, *credentials = requests.recv_multipart()
        accepted = mechanism == b"CURVE" and bool(credentials) and hmac.compare_digest(credentials[0], client_key)
        status = (b"200", b"OK") if accepted else (b"400", b"not a client of this job")
        requests.send_multipart([version, request, *status, b"", b""])

    _until_the_context_ends(requests, answer, "transfer-queue-keys")


def _report_refused(ctx: Any, socket: Any) -> None:
    """Log refused handshakes: the 1st, the 10th, the 100th, so that the log cannot fill the disk."""
    address = f"inproc://proxygrm-refused-{next(_numbers)}"
    socket.monitor(address, _REFUSED | zmq.EVENT_MONITOR_STOPPED)
    events = ctx.socket(zmq.PAIR, socket_class=zmq.Socket)
    events.connect(address)
    refused = 0

    def report() -> bool:
        nonlocal refused
        event = recv_monitor_message(events)
        if event["event"] == zmq.EVENT_MONITOR_STOPPED:
            return True
        refused += 1
        if str(refused).rstrip("0") == "1":
            log.warning("TransferQueue refused %d connection(s) without the job's keys", refused)
        return False

    _until_the_context_ends(events, report, "transfer-queue-refused")


def _until_the_context_ends(socket: Any, step: Callable[[], bool | None], name: str) -> None:
    def run() -> None:
        try:
            while not step():
                pass
        except zmq.ContextTerminated:
            pass
        finally:
            socket.close(linger=0)

    threading.Thread(target=run, name=name, daemon=True).start()
