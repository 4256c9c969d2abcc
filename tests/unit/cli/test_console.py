"""Lines for a reader that keeps up, one that stops, and one that is gone."""

import logging
import os
from contextlib import suppress

import pytest

from iscsi_target.cli.console import MAX_WAITING_LINES, Console


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    os.close(writer)
    os.close(reader)


def record(text):
    return logging.makeLogRecord({"msg": text, "levelname": "INFO", "levelno": logging.INFO})


def test_lines_are_written_in_order_before_it_closes(pipe):
    reader, writer = pipe
    console = Console(writer)
    console.handle(record("one"))
    console.write("two")
    console.close()
    received = b""
    while len(received) < len(b"one\ntwo\n"):
        received += os.read(reader, 100)
    assert received == b"one\ntwo\n"


def test_reader_that_stops_holds_nobody_up_and_learns_what_it_missed(pipe):
    reader, writer = pipe
    console = Console(writer)
    line = "x" * 100
    for _ in range(2 * MAX_WAITING_LINES):  # more than the queue and the pipe hold
        console.write(line)
    os.set_blocking(reader, False)
    received = b""
    while b"missing" not in received:
        try:
            received += os.read(reader, 1 << 16)
        except BlockingIOError:
            continue
    console.close()
    lines = received.decode().splitlines()
    [told] = [each for each in lines if "missing" in each]
    assert lines.count(line) + int(told.split()[0]) == 2 * MAX_WAITING_LINES


def test_close_leaves_a_reader_that_stopped_behind(pipe, monkeypatch):
    monkeypatch.setattr("iscsi_target.cli.console.CLOSE_WAIT_S", 0.01)
    reader, writer = pipe
    console = Console(writer)
    for _ in range(2 * MAX_WAITING_LINES):
        console.write("x" * 100)
    console.close()
    assert console._thread.is_alive()
    os.set_blocking(reader, False)
    while console._thread.is_alive():  # or it would write into whatever gets the number of the descriptor next
        with suppress(BlockingIOError):
            os.read(reader, 1 << 20)
        console._thread.join(0.001)


def test_descriptor_that_does_not_block_gets_every_line(pipe):
    reader, writer = pipe
    os.set_blocking(writer, False)
    console = Console(writer)
    lines = [f"{number:0100}" for number in range(MAX_WAITING_LINES)]
    for line in lines:
        console.write(line)
    wanted = "".join(f"{line}\n" for line in lines).encode()
    received = b""
    while len(received) < len(wanted):
        received += os.read(reader, 1 << 16)
    console.close()
    assert received == wanted


def test_reader_that_is_gone_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    console = Console(writer)
    console.write("one")
    console.write("two")
    console.close()
    os.close(writer)
