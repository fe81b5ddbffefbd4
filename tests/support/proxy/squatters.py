"""A server of another user at a replica's port: it runs as another uid, answers every request as a replica would, with
its own verdict, and records what it was sent."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = "127.0.0.1"
NOBODY = 65534
foreign = pytest.mark.skipif(os.getuid() != 0, reason="only root can start a process of another user")

BECOME_ANOTHER = f"""
import encodings.idna, os
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
"""  # in the process itself, because another user may not be allowed to read our interpreter

SQUATTER = """
import http.server, json, sys
BECOME_ANOTHER
class Squatter(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        print(self.path, dict(self.headers), body, file=sys.stderr, flush=True)
        completion = {"choices": [{"message": {"content": "<answer>2</answer>"}, "finish_reason": "stop"}]}
        answer = json.dumps(completion).encode() if body else b""
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("X-Proxygrm-Proof", "0" * 64)
        self.end_headers()
        self.wfile.write(answer)
    do_GET = do_POST
    def log_message(self, *a): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Squatter)
print("listening", server.server_address[1], flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def squatter(port: int, seen: Path, script: str = SQUATTER, *arguments: str) -> Iterator[int]:
    """Another user's server at the port (0: a free one), which is told; it writes to `seen` what it was sent."""
    with seen.open("wb") as log:
        command = [sys.executable, "-S", "-E", "-c", script.replace("BECOME_ANOTHER", BECOME_ANOTHER), str(port)]
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=log, cwd="/")
        try:
            said = process.stdout.readline().split()
            assert said[:1] == [b"listening"], seen.read_text()
            yield int(said[1])
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def bind(port: int, address: str = HERE, **options: int) -> socket.socket:
    bound = socket.socket()
    try:
        for name in options:
            bound.setsockopt(socket.SOL_SOCKET, getattr(socket, name), 1)
        bound.bind((address, port))
        bound.listen()
    except OSError:
        bound.close()
        raise
    return bound


def another_user_can_bind(port: int, address: str, options: dict[str, int]) -> bool:
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            bind(port, address, **options)
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0
