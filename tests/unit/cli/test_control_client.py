"""One who asks, and a socket of the test in place of a server."""

import json
import os
import socket
import threading

import pytest

from iscsi_target.cli.control_client import Unanswered, ask, ask_once
from iscsi_target.config.values import ConfigError
from iscsi_target.server.control import SOCKET_NAME

REQUEST = {"request": "units"}


@pytest.fixture
def serve(tmp_path):
    """Returns a function that answers one request with these bytes and closes; the requests are in `asked`."""
    threads = []
    asked = []

    def start(answer: bytes):
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tmp_path / SOCKET_NAME))
        listening.listen()

        def run():
            accepted, _ = listening.accept()
            with listening, accepted:
                asked.append(json.loads(accepted.makefile().readline()))
                accepted.sendall(answer)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return asked

    yield start
    for thread in threads:
        thread.join(5)


def test_answers_come_one_by_one_until_the_server_closes(serve, tmp_path):
    asked = serve(b'{"a": 1}\n{"b": 2}\n')
    assert list(ask(tmp_path, REQUEST)) == [{"a": 1}, {"b": 2}]
    assert asked == [REQUEST]


def test_one_answer_is_the_first(serve, tmp_path):
    serve(b'{"a": 1}\n')
    assert ask_once(tmp_path, REQUEST) == {"a": 1}


def test_error_of_the_server_is_raised_with_its_remedy(serve, tmp_path):
    serve(b'{"error": "there is no unit", "remedy": "units: disk0"}\n')
    with pytest.raises(ConfigError, match=r"state .*: there is no unit; units: disk0$"):
        ask_once(tmp_path, REQUEST)


@pytest.mark.parametrize("answer", [b"", b'{"a": '])
def test_server_that_ends_instead_of_answering_is_an_error(serve, tmp_path, answer):
    serve(answer)
    with pytest.raises(Unanswered, match="the server ended before it had answered; start it and ask again"):
        ask_once(tmp_path, REQUEST)


@pytest.mark.parametrize("broken", [BrokenPipeError, ConnectionResetError])
def test_refusal_of_a_server_that_does_not_hear_the_request_is_read_all_the_same(tmp_path, monkeypatch, broken):
    class Refused(socket.socket):
        def sendall(self, data, flags=0, /):
            raise broken

    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b'{"error": "16 clients are connected", "remedy": "end one of them"}\n')
        theirs.close()
        monkeypatch.setattr("iscsi_target.cli.control_client._connect", lambda state: Refused(fileno=ours.detach()))
        with pytest.raises(ConfigError, match=r"16 clients are connected; end one of them$") as raised:
            ask_once(tmp_path, REQUEST)
    assert not isinstance(raised.value, Unanswered)


def test_answer_that_is_no_object_is_an_error(serve, tmp_path):
    serve(b"[]\n")
    with pytest.raises(ConfigError, match="its server speaks otherwise"):
        ask_once(tmp_path, REQUEST)


@pytest.mark.parametrize("leave", ["nothing", "directory", "stale socket"])
def test_server_that_is_not_there_is_an_error_that_says_where(tmp_path, leave):
    state = tmp_path / "state"
    if leave != "nothing":
        state.mkdir()
    if leave == "stale socket":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(state / SOCKET_NAME))
    with pytest.raises(ConfigError) as raised:
        ask_once(state, REQUEST)
    assert str(raised.value) == (
        f"state {state}: no server uses it; start one, or name its state directory with --state or --config"
    )


def test_server_of_somebody_else_is_an_error(tmp_path, monkeypatch):
    def refuse(path, flags):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ConfigError, match="its server is not yours; ask as the user that runs it"):
        ask_once(tmp_path, REQUEST)


def test_other_failure_says_what_the_system_said(tmp_path, monkeypatch):
    def fail(path, flags):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(ConfigError, match="cannot be reached: Too many open files"):
        ask_once(tmp_path, REQUEST)
