"""What a notification tells."""

import pytest

from iscsi_target.discovery.isns import attributes
from iscsi_target.discovery.isns.faults import Refused
from iscsi_target.discovery.isns.messages import Scn
from iscsi_target.discovery.isns.scn import notification, read_changes


@pytest.mark.clause("RFC4171 5.6.5.8")
def test_changes_come_back_from_a_notification_without_its_destination():
    changes = [("iqn.2026-11.org.example:a", Scn.OBJECT_ADDED), ("iqn.2026-11.org.example:b", Scn.OBJECT_REMOVED)]
    content = notification("iqn.2026-11.org.example:c", changes, 1_800_000_000)
    assert [tag for tag, _ in content] == [32, 4, 35, 32, 35, 32]
    assert read_changes(attributes.pack(content)) == changes


def test_what_is_no_notification_is_refused():
    with pytest.raises(Refused):
        read_changes(b"abcd")
