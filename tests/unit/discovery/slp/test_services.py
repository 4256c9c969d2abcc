"""What is advertised of targets.

portal P in group 1, any address in group 2; target A in both groups, target B in group 2 and for one initiator
"""

import pytest

from iscsi_target.config.address import Address
from iscsi_target.config.values import TargetEntry
from iscsi_target.discovery.slp.services import services_of
from iscsi_target.iscsi.chap import Authentication, ChapAccount

P, ANY, ANY6 = Address("192.0.2.1", 3260), Address("0.0.0.0", 860), Address("::", 861)
A = TargetEntry("iqn.2026-11.org.example:a", {}, "Disk, A", (1, 2))
B = TargetEntry(
    "iqn.2026-11.org.example:b b", {}, "", (2,), Authentication((ChapAccount("u", b"secret"),)), frozenset({"iqn.x"})
)


@pytest.mark.clause("RFC4018 4.1")
def test_there_is_a_url_for_each_target_and_portal_that_leads_to_it():
    found = [each.url("192.0.2.9") for each in services_of([A, B], [(P, 1), (ANY, 2)])]
    assert found == [
        "service:iscsi:target://192.0.2.1:3260/iqn.2026-11.org.example:a",
        "service:iscsi:target://192.0.2.9:860/iqn.2026-11.org.example:a",
        "service:iscsi:target://192.0.2.9:860/iqn.2026-11.org.example:b%20b",
    ]
    [six] = services_of([B], [(ANY6, 2)])
    assert six.url("2001:db8::1").startswith("service:iscsi:target://[2001:db8::1]:861/")


@pytest.mark.clause("RFC4018 4.1")
def test_attributes_tell_name_group_transport_and_alias_but_not_who_may_log_in():
    first, _, third = services_of([A, B], [(P, 1), (ANY, 2)])
    assert first.attributes == {
        "iscsi-name": (A.name,),
        "portal-group": ("1",),
        "transports": ("tcp",),
        "alias": ("Disk, A",),
    }
    anybody = {"auth-name": ("iscsi",), "auth-addr": ("any",), "auth-cred": ("any",)}
    assert first.searchable == {**first.attributes, "alias": ("disk, a",), **anybody}
    assert set(third.attributes) == {"iscsi-name", "portal-group", "transports"}
    assert third.searchable == {
        **third.attributes,
        "auth-name": ("iqn.x",),
        "auth-addr": ("any",),
        "auth-cred": ("u",),
    }
