"""The texts of SLP."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.discovery.slp.strings import (
    StringError,
    attribute_list,
    chosen,
    escaped,
    folded,
    matches,
    merged,
    split_list,
    unescaped,
)


@pytest.mark.clause("RFC2608 6.4")
def test_texts_are_the_same_without_case_and_superfluous_spaces():
    assert folded("  Some   Text ") == folded("some text") == "some text"
    assert split_list("DEFAULT, My  Scope ,,") == ("default", "my scope")


@pytest.mark.clause("RFC2608 5")
def test_reserved_characters_are_escaped_in_an_attribute_list():
    assert escaped("a,b(c)\\") == "a\\2cb\\28c\\29\\5c"
    assert attribute_list({"alias": ("a,b", "c"), "x": ("1",)}) == "(alias=a\\2cb,c),(x=1)"
    assert unescaped("\\c3\\a4\\2c") == "\xe4,"


@given(st.text())
def test_what_is_escaped_comes_back(text):
    """Law: unescaping undoes escaping, and an escaped text has no character that ends one."""
    assert unescaped(escaped(text)) == text
    assert not set(escaped(text)) & set("(),*")


@pytest.mark.parametrize("text", ["\\", "\\g1", "a\\2", "\\ff"])
def test_wrong_escape_is_refused(text):
    with pytest.raises(StringError):
        unescaped(text)


@pytest.mark.clause("RFC2608 10.4")
@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", ["iscsi-name", "portal-group"]),
        ("ISCSI-NAME", ["iscsi-name"]),
        ("*-group,x", ["portal-group"]),
        ("i*-*e", ["iscsi-name"]),
        ("iscsi", []),
        ("****************", ["iscsi-name", "portal-group"]),
    ],
)
def test_tags_choose_attributes(tags, expected):
    attributes = {"iscsi-name": ("n",), "portal-group": ("1",)}
    assert list(chosen(attributes, split_list(tags))) == expected


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("abcabc", True),
        ("a*c", True),
        ("*", True),
        ("a*b*b*c", True),
        ("a*b*b*b*c", False),
        ("abca*abc", False),
        ("b*", False),
    ],
)
def test_pattern_fits(pattern, fits):
    assert matches("abcabc", tuple(pattern.split("*"))) is fits


def test_attributes_of_several_services_are_joined():
    assert merged([{"a": ("1",), "b": ("2",)}, {"a": ("3", "1")}]) == {"a": ("1", "3"), "b": ("2",)}
