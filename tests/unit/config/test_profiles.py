"""Initiator profiles in the table of a target."""

import pytest

from iscsi_target.scsi.profiles import PROFILES, AbortOfFinished, Choices, WrongDirection
from tests.unit.config.conftest import Find

VMWARE = "iqn.1998-01.com.vmware:host"


def choices(find: Find, more: str, initiator: str) -> Choices:
    configuration = find(more).configuration
    assert configuration is not None
    return configuration.targets[0].chosen.of(initiator)


def test_without_any_the_standard_profile_is_for_all(find: Find):
    assert choices(find, "", VMWARE) == Choices()


def test_a_profile_is_for_all_initiators_or_for_those_whose_names_fit(find: Find):
    more = 'profile = "exacting"\nprofiles = { "IQN.1998-01.com.VMware:*" = "esxi" }\n'
    assert choices(find, more, VMWARE) == PROFILES["esxi"].choices
    assert choices(find, more, "iqn.2026-11.org.example:a") == PROFILES["exacting"].choices


def test_a_choice_of_the_target_goes_before_all_profiles(find: Find):
    more = 'profiles = { "iqn.1998-01.com.vmware:*" = "esxi" }\n'
    more += 'abort_of_finished_task = "does-not-exist"\nwrong_direction = "refused"\n'
    expected = Choices(AbortOfFinished.DOES_NOT_EXIST, WrongDirection.REFUSED, standby_reads=True)
    assert choices(find, more, VMWARE) == expected
    assert choices(find, 'abort_of_finished_task = "complete"', "iqn.2026-11.org.example:a") == Choices(
        AbortOfFinished.COMPLETE
    )


@pytest.mark.parametrize(
    "more, said",
    [
        ('profile = "esx"', ":8: targets[0].profile 'esx' is no profile; did you mean esxi?"),
        ('profile = "solaris"', "is no profile; write one of standard, esxi, windows, exacting; see"),
        ('profiles = { "iqn.*" = "linux" }', "'linux' is no profile; write one of"),
        ('profiles = ["esxi"]', "is not a table; write profiles = {"),
        ('profiles = { "*" = "esxi" }', "fits no name of an initiator; write a name, or how names begin and *"),
        ('profiles = { "iqn.*.vmware*" = "esxi" }', "fits no name of an initiator"),
        ('profiles = { "host" = "esxi" }', "fits no name of an initiator"),
        ('profiles = { "iqn.a*" = "esxi", "IQN.A*" = "windows" }', "is the same as iqn.a*; drop one of them"),
        ('abort_of_finished_task = "never"', "abort_of_finished_task"),
        ("wrong_direction = true", "wrong_direction"),
    ],
)
def test_mistakes_are_told_with_their_remedy(find: Find, more: str, said: str):
    found = find(more + "\n")
    assert found.configuration is None
    [mistake] = found.mistakes
    assert said in mistake
