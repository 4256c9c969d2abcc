"""Every layout of the package: its generated codec and construct say the same of the same bytes."""

import importlib
import inspect
import pkgutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import iscsi_target
from iscsi_target.wire.layout import Layout, LayoutError


def find_layouts() -> list[type[Layout]]:
    for module in pkgutil.walk_packages(iscsi_target.__path__, "iscsi_target."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, unseen = [], [Layout]
    while unseen:
        subclasses = [
            layout for layout in unseen.pop().__subclasses__() if layout.__module__.startswith("iscsi_target.")
        ]
        found += subclasses
        unseen += subclasses
    return sorted(found, key=lambda layout: f"{layout.__module__}.{layout.__name__}")


LAYOUTS = find_layouts()
every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
bytes_of_a_layout = st.binary(min_size=1, max_size=64)


def fill(layout: type[Layout], random: bytes) -> bytes:
    return (random * layout.size)[: layout.size]


def parse(layout: type[Layout], raw: bytes) -> dict[str, object]:
    """What construct makes of the bytes, reserved fields left out."""
    values: dict[str, object] = {}
    for name, value in layout.construct().parse(raw).items():
        values |= dict(value) if name.startswith("bits_") else {name: value}
    return {name: value for name, value in values.items() if not name.startswith("_")}


def mask(raw: bytes, by: bytes) -> bytes:
    return bytes(byte & kept for byte, kept in zip(raw, by, strict=True))


def test_the_package_has_layouts():
    assert len(LAYOUTS) > 80
    assert len({layout.__name__ for layout in LAYOUTS if layout.__module__.endswith(("requests", "responses"))}) == 18


@pytest.mark.clause("RFC7143 11.2.1")
def test_every_basic_header_segment_has_48_bytes():
    from iscsi_target.iscsi.requests import REQUESTS
    from iscsi_target.iscsi.responses import RESPONSES

    for layout in (*REQUESTS.values(), *RESPONSES.values()):
        assert layout.size == 48, layout


@every_layout
@settings(max_examples=10)
@given(bytes_of_a_layout)
def test_codec_reads_what_construct_reads(layout, random):
    """Law: for any bytes, unpack and construct's parse give the same fields in the same order."""
    raw = fill(layout, random)
    value = layout.unpack(raw)
    assert dict(zip(layout.fields, value, strict=True)) == parse(layout, raw)
    assert layout.unpack(memoryview(b"x" + raw), 1) == value


@every_layout
@settings(max_examples=10)
@given(bytes_of_a_layout)
def test_codec_writes_what_construct_writes(layout, random):
    """Law: unpack and pack give back the bytes with reserved bits zero, and construct builds the same ones."""
    raw = fill(layout, random)
    clean = mask(raw, layout.usage())
    packed = layout.unpack(raw).pack()
    assert packed == clean
    assert layout.construct().build(layout.construct().parse(clean)) == packed
    assert layout.unpack(packed) == layout.unpack(raw)


@every_layout
@settings(max_examples=10)
@given(bytes_of_a_layout)
def test_reserved_bits_are_those_that_usage_leaves_out(layout, random):
    """Law: reserved_bit is the first bit set outside usage, and None exactly when there is none."""
    raw = fill(layout, random)
    wrong = mask(raw, bytes(0xFF ^ byte for byte in layout.usage()))
    pointer = layout.reserved_bit(raw)
    if pointer is None:
        assert not any(wrong)
    else:
        assert not any(wrong[: pointer.byte])
        assert wrong[pointer.byte].bit_length() - 1 == pointer.bit


@every_layout
def test_each_field_has_its_place_alone(layout):
    """Law: all ones in one field set the bits from its location on and no others; all fields together are usage."""
    zeros = layout.unpack(bytes(layout.size))
    together = 0
    for name, ones in zip(layout.fields, layout.unpack(b"\xff" * layout.size), strict=True):
        number = int.from_bytes(zeros.replace(**{name: ones}).pack(), "big")
        assert not together & number
        together |= number
        pointer = layout.location(name)
        assert layout.size * 8 - number.bit_length() == pointer.byte * 8 + 7 - pointer.bit
    assert together.to_bytes(layout.size, "big") == layout.usage()


@every_layout
def test_what_does_not_fit_a_field_is_refused(layout):
    """Law: one more than the largest value, less than zero, a wrong length and a wrong type are refused everywhere."""
    largest = layout.unpack(b"\xff" * layout.size)
    for name, value in zip(layout.fields, largest, strict=True):
        wrong = (value + b"x", value[:-1], 5, None) if isinstance(value, bytes) else (value + 1, -1, None, b"x")
        for one in wrong:
            with pytest.raises(LayoutError):
                largest.replace(**{name: one}).pack()


@every_layout
def test_defaults_fit_and_a_byte_less_is_too_short(layout):
    """Law: a value of defaults packs to `size` bytes; unpack of any fewer is refused."""
    parameters = inspect.signature(layout.__new__).parameters
    zeros = dict(zip(layout.fields, layout.unpack(bytes(layout.size)), strict=True))
    needed = {name: zero for name, zero in zeros.items() if parameters[name].default is inspect.Parameter.empty}
    packed = layout(**needed).pack()
    assert len(packed) == layout.size == layout.construct().sizeof()
    with pytest.raises(LayoutError):
        layout.unpack(packed[:-1])
    with pytest.raises(LayoutError):
        layout.unpack(packed, 1)
