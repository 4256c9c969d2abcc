"""What patterns refuse; that they match and fill what codecs read and pack is a law in tests/property."""

import pytest

from iscsi_target.iscsi.responses import DataIn
from iscsi_target.wire.layout import LayoutError
from iscsi_target.wire.pattern import filler, matcher


@pytest.mark.parametrize("values", [(1 << 24, 0), (-1, 0), (0, 1 << 32), ("", 0)])
def test_value_that_does_not_fit_is_refused_with_its_name(values: tuple):
    fill = filler(DataIn, ("data_segment_length", "initiator_task_tag"))
    with pytest.raises(LayoutError, match="does not fit"):
        fill(*values)


@pytest.mark.parametrize("make", [matcher, filler])
def test_field_of_less_than_a_byte_cannot_vary(make):
    with pytest.raises(TypeError, match="not whole bytes"):
        make(DataIn, ("final",))


@pytest.mark.parametrize("make", [matcher, filler])
def test_field_that_a_layout_does_not_have_cannot_vary(make):
    with pytest.raises(TypeError, match="no field cdb"):
        make(DataIn, ("cdb",))
    with pytest.raises(TypeError):
        make(DataIn, (), cdb=0)


def test_fields_are_given_and_taken_in_the_order_of_the_layout():
    with pytest.raises(TypeError, match="order"):
        filler(DataIn, ("initiator_task_tag", "data_segment_length"))
