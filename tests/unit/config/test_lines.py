"""The lines of keys in a TOML text."""

import pytest

from iscsi_target.config.lines import dotted, line_of

TEXT = """\
state = "/state"  # 1

[portal_groups.1]
listen = ["127.0.0.1:3260"]

[units."disk0"]
file = "disk0.img"
limits.size = 1

[[targets]]
name = "iqn.2026-11.org.example:a"
[targets.mutual_chap]
user = "u"

[[ targets ]]  # the second
name = "iqn.2026-11.org.example:b"
luns = { 0 = "disk0" }
"""


@pytest.mark.parametrize(
    "key, line",
    [
        (("state",), 1),
        (("portal_groups", "1", "listen"), 4),
        (("units", "disk0"), 6),
        (("units", "disk0", "limits", "size"), 8),
        (("targets", 0, "name"), 11),
        (("targets", 0, "mutual_chap", "user"), 13),
        (("targets", 1, "name"), 16),
        (("targets", 1, "luns", "0"), 17),
        (("targets", 1, "missing"), 15),
        (("portal_groups",), 3),
        (("nowhere",), 0),
    ],
)
def test_key_is_on_its_line_or_that_of_its_table(key, line):
    assert line_of(TEXT, key) == line


def test_key_is_written_with_dots_and_brackets():
    assert dotted(("targets", 0, "luns", "5")) == "targets[0].luns.5"


def test_part_that_toml_has_in_quotes_is_written_in_quotes():
    assert dotted(("units", "disk 0", "size")) == 'units."disk 0".size'


def test_long_word_without_an_equals_sign_costs_no_time():
    assert line_of(f"{'a' * 10_000}!\nb = 1\n", ("b",)) == 2
