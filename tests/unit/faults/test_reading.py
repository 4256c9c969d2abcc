"""The smallest parts of a rule."""

import pytest

from iscsi_target.faults import reading
from iscsi_target.faults.reading import RuleError
from iscsi_target.faults.rules import Span


@pytest.mark.parametrize(
    "text, number", [("42", 42), ("0x2a", 42), ("2Ah", 42), (" 0 ", 0), ("0xffffffffffffffff", 2**64 - 1)]
)
def test_numbers_are_decimal_or_marked_as_hexadecimal(text: str, number: int):
    assert reading.number("lun", text) == number


@pytest.mark.parametrize(
    "text", ["", "2a", "0x", "-1", "1.5", "1_000", "٣", "0x10000000000000000", "99999999999999999999"]
)
def test_what_is_no_number_is_refused_with_its_place(text: str):
    with pytest.raises(RuleError, match="lun="):
        reading.number("lun", text)


def test_a_count_begins_with_one():
    assert reading.count("nth", "3", 7) == 3
    for text in ("0", "8"):
        with pytest.raises(RuleError, match="1 to 7"):
            reading.count("nth", text, 7)


@pytest.mark.parametrize(
    "text, wanted", [("3", Span(3, 3)), ("0..7", Span(0, 7)), ("0x10 .. 0x20", Span(16, 32)), ("Yes", Span(1, 1))]
)
def test_a_span_is_one_number_or_the_first_and_the_last(text: str, wanted: Span):
    assert reading.span("lun", text) == wanted


@pytest.mark.parametrize("text", ["7..0", "..", "1..", "a..b"])
def test_spans_that_are_none(text: str):
    with pytest.raises(RuleError):
        reading.span("lun", text)


@pytest.mark.parametrize("text, seconds", [("200ms", 0.2), ("2s", 2), ("1.5 s", 1.5), ("1min", 60), ("60MIN", 3600)])
def test_times_have_a_unit(text: str, seconds: float):
    assert reading.seconds("delay", text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "2", "2h", "0s", "-1s", "61min", "1e9s"])
def test_times_that_are_none(text: str):
    with pytest.raises(RuleError):
        reading.seconds("delay", text)


def test_an_error_says_where_what_and_what_to_do():
    error = RuleError("lun=x", "is no number", remedy="write one")
    assert (error.where, error.what, error.remedy) == ("lun=x", "is no number", "write one")
    assert str(error) == "lun=x is no number; write one"


def test_names_are_alike_however_they_are_written():
    assert reading.like("WRITE(10)") == reading.like("write 10") == "WRITE10"
    assert reading.key_of(" Scsi  Command") == reading.key_of("scsi_command") == "scsi-command"
    assert reading.unquoted(' "a, b" ') == "a, b"
