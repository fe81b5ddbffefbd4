"""A replica's port: no other user can take it before its server listens or after it has died, and a server that does
not hold the key is not taken for the replica."""

from __future__ import annotations

import socket

import pytest

from proxygrm.serving.access.held_port import hold
from proxygrm.serving.replicas.server import ReplicaServer
from support.proxy.small_servers import HTTP_SERVER, impatient, small_server, spec, wait_for  # noqa: F401
from support.proxy.squatters import HERE, another_user_can_bind, bind, foreign, squatter
from support.refusals import refused

KEY = "the-job's-key"


@foreign
@pytest.mark.parametrize("address", [HERE, "0.0.0.0"])
@pytest.mark.parametrize(
    "options", [{}, {"SO_REUSEADDR": 1}, {"SO_REUSEPORT": 1}, {"SO_REUSEADDR": 1, "SO_REUSEPORT": 1}]
)
def test_no_other_user_can_take_a_held_port_while_the_model_loads_or_after_the_server_died(tmp_path, address, options):
    server = ReplicaServer(spec(tmp_path), KEY)
    try:
        assert not another_user_can_bind(server.port, address, options)
        with bind(server.port, SO_REUSEADDR=1, SO_REUSEPORT=1):  # as vLLM does
            assert not another_user_can_bind(server.port, address, options)
        assert not another_user_can_bind(server.port, address, options)
    finally:
        server.stop()
    assert another_user_can_bind(server.port, address, options)


def test_a_requested_port_is_not_shared_with_another_server_of_the_same_user(tmp_path):
    with hold(HERE) as held:
        port = held.getsockname()[1]
        with refused("proxy.port-unavailable", address=HERE, port=port, reason="Address already in use"):
            ReplicaServer(spec(tmp_path), KEY, port=port)
    with bind(0, SO_REUSEADDR=1, SO_REUSEPORT=1) as listening, pytest.raises(OSError, match="in use"):
        hold(HERE, listening.getsockname()[1])


def test_a_port_can_be_held_again_right_after_its_server_has_ended():
    with hold(HERE) as held:
        port = held.getsockname()[1]
        with bind(port, SO_REUSEADDR=1, SO_REUSEPORT=1) as listening, socket.create_connection((HERE, port)) as caller:
            served = listening.accept()[0]
            served.close()  # first, so that this end is the one that waits (TIME_WAIT)
            assert caller.recv(1) == b""
    hold(HERE, port).close()


@foreign
@pytest.mark.usefixtures("impatient")
def test_a_server_that_answers_health_without_the_key_is_not_healthy_and_does_not_see_the_key(tmp_path):
    server = ReplicaServer(spec(tmp_path), KEY, small_server("import time; time.sleep(60)"))
    server._port_holder.close()  # as if the kernel had allowed it
    with squatter(server.port, tmp_path / "seen"):
        server.start()
        try:
            wait_for(lambda: "does not hold the key" in server.status().detail)
            assert server.status().state == "starting"
        finally:
            server.stop()
    seen = (tmp_path / "seen").read_text()
    assert "/proof" in seen
    assert KEY not in seen


@pytest.mark.usefixtures("impatient")
def test_a_server_that_dies_between_proof_and_health_is_not_asked_over_another_connection(tmp_path):
    script = HTTP_SERVER.replace('protocol_version = "HTTP/1.1"', "").replace(
        "class Handler(Proving):", 'class Handler(Proving):\n    protocol_version = "HTTP/1.0"'
    )  # which closes after each answer
    server = ReplicaServer(spec(tmp_path), KEY, small_server(script))
    server.start()
    try:
        wait_for(lambda: socket.socket().connect_ex((HERE, server.port)) == 0)
        assert not server._is_healthy()
        assert server.status().state == "starting"
    finally:
        server.stop()
