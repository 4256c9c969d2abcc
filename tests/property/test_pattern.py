"""Patterns of every layout against its codec: which bytes match, what is taken from them, and what is filled in."""

import random

from iscsi_target.wire.codec import Field
from iscsi_target.wire.layout import Layout
from iscsi_target.wire.pattern import filler, matcher
from tests.property.test_layouts import every_layout

TRIES = 40


def whole_fields(layout: type[Layout]) -> list[Field]:
    return [field for field in layout.declared if field.aligned and not field.reserved]


def draw(source: random.Random, field: Field) -> object:
    drawn = source.randbytes(field.width_bits // 8)
    return drawn if field.form.name == "BYTES" else int.from_bytes(drawn)


def some(source: random.Random, names: list[str]) -> list[str]:
    return [name for name in names if source.random() < 0.5]


def base(layout: type[Layout]) -> dict[str, object]:
    """Values for the fields that have no default."""
    without = [field for field in layout.declared if field.default is Field and not field.reserved]
    return {field.name: bytes(field.width_bits // 8) if field.form.name == "BYTES" else 0 for field in without}


@every_layout
def test_filler_packs_what_the_codec_packs(layout: type[Layout]):
    """Law: a filled pattern is the packed value that has the same fields, whichever are filled."""
    source = random.Random(layout.__name__)
    fields = {field.name: field for field in whole_fields(layout)}
    for _ in range(TRIES):
        filled = some(source, list(fields))
        values = {name: draw(source, fields[name]) for name in filled}
        assert filler(layout, filled, **base(layout))(*values.values()) == layout(**(base(layout) | values)).pack()


@every_layout
def test_matcher_takes_what_the_codec_reads_and_refuses_all_else(layout: type[Layout]):
    """Law: bytes match when they differ from the packed pattern in fields that are taken or ignored only."""
    source = random.Random(layout.__name__)
    fields = {field.name: field for field in whole_fields(layout)}
    for _ in range(TRIES):
        taken, rest = some(source, list(fields)), []
        rest = [name for name in fields if name not in taken]
        ignored = some(source, rest)
        values = {name: draw(source, fields[name]) for name in (*taken, *ignored)}
        value = layout(**(base(layout) | values))
        match = matcher(layout, taken, ignored, **base(layout))
        ahead = source.randrange(3)
        assert match(bytes(ahead) + value.pack() + b"more", ahead) == tuple(values[name] for name in taken)
        wrong = bytearray(value.pack())
        bit = source.randrange(8 * len(wrong))
        wrong[bit // 8] ^= 0x80 >> bit % 8
        where = next(f for f in layout.declared if f.offset_bits <= bit < f.offset_bits + f.width_bits)
        assert (match(wrong, 0) is None) == (where.name not in values)
