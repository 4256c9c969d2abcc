"""Where the copy managers of three units find tokens."""

import pytest

from iscsi_target.scsi.state.copy_managers import CopyManagers
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.rod_tokens import InvalidTokenOperation, RodToken, TokenError
from tests.unit.scsi.command_bench import A, device

TOKEN = RodToken(bytes(512), A, (), 60, 0, 0)


def having(made: CopyManagers, *names: str) -> list[Device]:
    devices = {name: device() for name in names}
    made.adopt(devices)
    assert all(each.copy_managers is made for each in devices.values())
    return list(devices.values())


@pytest.mark.clause("SPC4r37 5.17.6.5.2.1")
def test_a_token_is_of_the_unit_that_was_asked_or_of_another_one():
    managers = CopyManagers()
    one, two = having(managers, "one", "two")
    two.tokens = two.tokens.with_new(TOKEN)
    assert managers.find(TOKEN.raw, two, 0) == (None, TOKEN)
    assert managers.find(TOKEN.raw, one, 0) == ("two", TOKEN)
    assert managers.find(b"\1" * 512, one, 0) is None


def test_why_a_token_of_another_unit_is_not_valid_is_known():
    managers = CopyManagers()
    one, two = having(managers, "one", "two")
    two.tokens = two.tokens.with_new(TOKEN).cancelled()
    with pytest.raises(InvalidTokenOperation) as refused:
        managers.find(TOKEN.raw, one, 0)
    assert refused.value.sense.code == TokenError.TOKEN_CANCELLED


def test_units_are_known_by_their_designators():
    managers = CopyManagers()
    assert not managers.knows(device().identity.naa)
    having(managers, "one")
    assert managers.knows(device().identity.naa)


def test_entropy_has_to_be_handed_in():
    with pytest.raises(AssertionError, match="8 random bytes"):
        CopyManagers().entropy(8)
    assert CopyManagers(bytes).entropy(8) == bytes(8)
