"""Filters and what they fit."""

import pytest

from iscsi_target.discovery.slp.predicate import MAX_DEPTH, MAX_TERMS, parse
from iscsi_target.discovery.slp.strings import StringError

ATTRIBUTES = {
    "iscsi-name": ("iqn.2026-11.org.example:disk1",),
    "portal-group": ("10",),
    "alias": ("the disk (one)",),
    "auth-name": ("a", "b"),
}


@pytest.mark.clause("RFC2608 8.1")
@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("", True),
        ("(alias=the disk \\28one\\29)", True),
        ("( ALIAS = The Disk \\28one\\29 )", True),
        ("(alias=the disk)", False),
        ("(alias~=THE DISK \\28ONE\\29)", True),
        ("(alias=*)", True),
        ("(nothing=*)", False),
        ("(nothing=x)", False),
        ("(!(nothing=x))", True),
        ("(iscsi-name=iqn.2026*)", True),
        ("(iscsi-name=*disk1)", True),
        ("(iscsi-name=*disk*)", True),
        ("(iscsi-name=iqn*org*ex*disk1)", True),
        ("(iscsi-name=iqn*org*org*)", False),
        ("(iscsi-name=*2026-11.org.example:disk1*disk1)", False),
        ("(portal-group>=9)", True),
        ("(portal-group<=9)", False),
        ("(portal-group>=10)", True),
        ("(portal-group<=10)", True),
        ("(alias>=a)", True),
        ("(alias<=a)", False),
        ("(portal-group>=x)", False),
        ("(auth-name=b)", True),
        ("(auth-name=c)", False),
        ("(&(auth-name=a)(portal-group=10))", True),
        ("(&(auth-name=a)(portal-group=11))", False),
        ("(|(auth-name=c)(portal-group=10))", True),
        ("(|(auth-name=c)(portal-group=11))", False),
        ("(& (auth-name=a) (!(|(alias=x)(alias=y))) )", True),
    ],
)
def test_filter_fits(text, fits):
    assert parse(text).holds(ATTRIBUTES) is fits


@pytest.mark.parametrize(
    "text",
    [
        "alias=x",
        "(alias=x",
        "(alias=x))",
        "()",
        "(alias)",
        "(=x)",
        "(&)",
        "(!)",
        "(!(a=b)(c=d))",
        "(a=b)(c=d)",
        "(portal-group>=1*)",
        "(a=\\zz)",
        "(a(b)=c)",
        "(" * 1000,
        "(!" * (MAX_DEPTH + 1) + "(a=b)" + ")" * (MAX_DEPTH + 1),
        "(&" + "(a=b)" * MAX_TERMS + ")",
    ],
)
def test_what_is_no_filter_is_refused(text):
    with pytest.raises(StringError):
        parse(text)


def test_deepest_and_longest_filter_is_read():
    assert parse("(!" * MAX_DEPTH + "(a=b)" + ")" * MAX_DEPTH).holds({"a": ("b",)}) is (MAX_DEPTH % 2 == 0)
    assert parse("(&" + "(a=b)" * (MAX_TERMS - 1) + ")").holds({"a": ("b",)})
