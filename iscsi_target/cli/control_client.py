"""Asks a running server by way of its control socket; `server.control` says what can be asked.

Plain sockets: whoever asks has nothing else to do meanwhile. A server that is not there, and one that refuses, is a
`ConfigError`, which the command line prints as one line.
"""

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from iscsi_target.config.values import ConfigError, default_state
from iscsi_target.server.control import SOCKET_NAME

EXIT_UNDECIDED = 3  # nobody knows whether the order was carried out
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

Answer = dict[str, object]


class Unanswered(ConfigError):
    """Says that the server ended before it had told everything; what it was ordered to do may be done or not."""


def server_state(state: Path | None, configuration: Path | None) -> Path:
    """Returns the state directory of the server that is meant: the one that is named, or a file's, or the default.

    raises    ConfigError when the file does not tell
    """
    if state is not None or configuration is None:
        return state or default_state()
    from iscsi_target.config.checks import state_directory

    try:
        return state_directory(configuration)
    except ConfigError as error:
        raise ConfigError(error.where, error.what, remedy=f"{error.remedy}, or use --state DIR") from error


def ask(state: Path, request: Mapping[str, object]) -> Iterator[Answer]:
    """Sends a request and yields what the server answers, as it comes, until it has told everything or ends.

    state     the server's state directory
    raises    ConfigError when no server is there, or it refuses, Unanswered when it ends in the middle of an answer
    """
    with _connect(state) as server, server.makefile("rb") as answers:
        with contextlib.suppress(ConnectionError):  # one that refuses a client says so before it has read anything
            server.sendall(json.dumps(request).encode() + b"\n")
        try:
            for line in answers:
                yield _understood(state, line)
        except ConnectionError:  # it has ended
            return


def ask_once(state: Path, request: Mapping[str, object]) -> Answer:
    """Sends a request that is answered with one object, and returns that.

    raises    ConfigError as `ask`, Unanswered when the server ends instead of answering
    """
    for answer in ask(state, request):
        return answer
    raise unanswered(state)


def unanswered(state: Path) -> Unanswered:
    """Returns what to raise when the server ended before it had told everything."""
    return Unanswered(f"state {state}", "the server ended before it had answered", remedy="start it and ask again")


def _connect(state: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        descriptor = os.open(state, os.O_PATH | os.O_DIRECTORY)
        try:
            server.connect(f"/proc/self/fd/{descriptor}/{SOCKET_NAME}")  # of any length that way
        finally:
            os.close(descriptor)
    except OSError as error:
        server.close()
        raise _absent(state, error) from error
    return server


def _absent(state: Path, error: OSError) -> ConfigError:
    if isinstance(error, FileNotFoundError | NotADirectoryError | ConnectionRefusedError):
        what, remedy = "no server uses it", "start one, or name its state directory with --state or --config"
    elif isinstance(error, PermissionError):
        what, remedy = "its server is not yours", "ask as the user that runs it"
    else:
        what, remedy = f"its server cannot be reached: {error.strerror}", "see whether it runs"
    return ConfigError(f"state {state}", what, remedy=remedy)


def _understood(state: Path, line: bytes) -> Answer:
    try:
        answer = json.loads(line)
    except ValueError:  # cut in the middle by its end
        raise unanswered(state) from None
    if not isinstance(answer, dict):
        raise ConfigError(f"state {state}", "its server speaks otherwise", remedy="use one version of iscsi-target")
    if "error" in answer:
        raise ConfigError(f"state {state}", str(answer["error"]), remedy=str(answer.get("remedy", "")))
    return answer
