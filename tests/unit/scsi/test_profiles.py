"""Initiator profiles as data, and which of them holds for which initiator."""

import pytest

from iscsi_target.scsi.profiles import PROFILES, STANDARD, Choices, Chosen, Profile

ESXI, WINDOWS, EXACTING = (PROFILES[name].choices for name in ("esxi", "windows", "exacting"))


def test_the_standard_profile_is_what_holds_without_any_and_says_why():
    assert STANDARD.choices == Choices()
    assert STANDARD.reasons.keys() == set(Choices._fields)
    assert next(iter(PROFILES.values())) is STANDARD


@pytest.mark.parametrize("profile", [profile for profile in PROFILES.values() if profile is not STANDARD])
def test_a_profile_has_a_reason_for_what_it_chooses_otherwise_and_for_nothing_else(profile: Profile):
    otherwise = {name for name, value in profile.choices._asdict().items() if value != getattr(STANDARD.choices, name)}
    assert otherwise
    assert profile.reasons.keys() == otherwise


def test_the_longest_pattern_that_fits_counts_whatever_the_order():
    patterns = {"iqn.1998-01.com.vmware:*": ESXI, "iqn.*": WINDOWS, "iqn.1998-01.com.vmware:lab": EXACTING}
    for each in (patterns, dict(reversed(patterns.items()))):
        chosen = Chosen(STANDARD.choices, each)
        assert chosen.of("iqn.1998-01.com.vmware:host") is ESXI
        assert chosen.of("iqn.1998-01.com.vmware:lab") is EXACTING
        assert chosen.of("iqn.1998-01.com.vmware:laboratory") is ESXI
        assert chosen.of("iqn.1991-05.com.microsoft:host") is WINDOWS
        assert chosen.of("eui.0123456789abcdef") is STANDARD.choices
