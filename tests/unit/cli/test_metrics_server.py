"""The server of the metrics: what it answers to whom, and that no client can hold it up."""

import contextlib
import http.client
import os
import socket

import pytest

from trainprof.cli import metrics_server
from trainprof.cli.metrics_server import MetricsServer, is_of_this_machine
from trainprof.errors import TrainprofError


def told(accepted):
    return "text/plain; charset=utf-8", f"accepted {accepted}\n".encode()


@pytest.fixture
def server():
    server = MetricsServer(0)
    server.start(told)
    yield server
    server.close()


def ask(server, path="/metrics", method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def test_the_page_is_there_and_nothing_else(server):
    assert ask(server, Accept="text/plain") == (200, "accepted text/plain\n")
    assert ask(server, "/metrics?x=1", Accept="a/b") == (200, "accepted a/b\n")
    where = "trainprof: the metrics of this run are at /metrics\n"
    assert ask(server, "/") == (200, where)
    assert ask(server, "/../../etc/passwd") == (404, where)
    assert ask(server, "/metrics", "HEAD") == (200, "")
    assert ask(server, "/metrics", "POST")[0] == 501
    assert server.url == f"http://127.0.0.1:{server.server_address[1]}/metrics"


def test_it_listens_on_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        (None, True),
        ("127.0.0.1:9000", True),
        ("localhost", True),
        ("[::1]:9000", True),
        ("127.1.2.3", True),
        ("evil.example:9000", False),
        ("127.0.0.1.evil.example", False),
        ("10.0.0.1", False),
        ("[", False),
        ("", False),
    ],
)
def test_a_page_of_the_internet_cannot_have_a_browser_read_it(host, is_ours):
    assert is_of_this_machine(host) is is_ours


def test_a_client_that_names_another_machine_is_refused(server):
    assert ask(server, Host="evil.example")[0] == 403


def test_a_system_that_refuses_another_priority_is_served_all_the_same(monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "setpriority", refused)
    server = MetricsServer(0)
    server.start(told)
    assert ask(server)[0] == 200
    server.close()


def test_what_cannot_be_told_is_no_old_figure():
    server = MetricsServer(0)

    def broken(_):
        raise TrainprofError("It is gone.")

    server.start(broken)
    assert ask(server) == (503, "It is gone.\n")
    server.close()


def connected(server):
    return socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=60)


def test_nonsense_is_answered_or_dropped_and_the_next_client_is_served(server, capfd):
    for sent in (
        b"\0\xff\n\n",
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"",
        b"A" * 70_000,
    ):
        with connected(server) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                client.recv(1000)
    assert ask(server)[0] == 200
    assert capfd.readouterr().err == ""


def test_clients_that_send_nothing_are_left_and_too_many_are_closed(monkeypatch):
    server = MetricsServer(0)
    waiting = [connected(server) for _ in range(3)]
    with monkeypatch.context() as patch:
        patch.setattr(metrics_server, "CONNECTIONS_MAX", 2)
        patch.setattr(metrics_server, "CONNECTION_S", 1.0)
        server.start(told)
        assert waiting[2].recv(1) == b""  # one too many
        assert [one.recv(1) for one in waiting[:2]] == [b"", b""]  # these took too long
    assert ask(server)[0] == 200
    server.close()
    for one in waiting:
        one.close()


def test_a_client_that_goes_away_is_no_matter(server, capfd):
    for _ in range(20):
        client = connected(server)
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()  # by a reset
    assert ask(server)[0] == 200
    assert capfd.readouterr().err == ""
