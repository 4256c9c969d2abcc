"""The handles of sessions."""

import pytest

from iscsi_target.target import tsihs
from iscsi_target.target.tsihs import Tsihs


@pytest.mark.clause("RFC7143 11.12.6")
def test_handle_is_never_zero_and_never_one_that_is_in_use(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tsihs, "MAX_TSIH", 3)
    handles = Tsihs()
    assert [handles.take(0) for _ in range(3)] == [1, 2, 3]
    handles.release(2)
    assert handles.take(0) == 2


def test_free_handle_is_given_out_as_late_as_possible(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tsihs, "MAX_TSIH", 3)
    handles = Tsihs()
    for expected in (1, 2, 3, 1):
        assert handles.take(0) == expected
        handles.release(expected)


def test_handle_that_a_login_names_is_taken():
    handles = Tsihs()
    assert handles.take(2) == 2
    assert [handles.take(0), handles.take(0)] == [1, 3]


def test_free_handle_may_be_released():
    handles = Tsihs()
    handles.release(7)
    assert handles.take(7) == 7
