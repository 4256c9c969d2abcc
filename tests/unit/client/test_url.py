"""libiscsi's URLs."""

import pytest

from iscsi_target.client.url import IscsiUrl, parse_portal, parse_url
from iscsi_target.initiator.proof import Credentials
from iscsi_target.iscsi.chap import ChapAccount

NODE = "iqn.2026-11.org.example:disks"


def test_url_names_portal_target_and_lun():
    assert parse_url(f"iscsi://10.0.0.1:3261/{NODE}/7") == IscsiUrl("10.0.0.1", 3261, NODE, 7)


def test_port_is_3260_unless_it_is_said():
    assert parse_url(f"iscsi://storage.example/{NODE}/0") == IscsiUrl("storage.example", 3260, NODE, 0)


@pytest.mark.parametrize("url", ["iscsi://10.0.0.1", "iscsi://10.0.0.1/", "iscsi://10.0.0.1:3260"])
def test_url_may_name_only_a_portal(url: str):
    assert parse_url(url) == IscsiUrl("10.0.0.1")


def test_ipv6_address_is_in_brackets():
    assert parse_url(f"iscsi://[fd00::1]/{NODE}/0")[:2] == ("fd00::1", 3260)
    assert parse_portal("[::1]:860") == ("::1", 860)


@pytest.mark.parametrize(("user", "secret"), [("alice%a%41:b", b"a%41:b"), ("alice:a:b", b"a:b")])
def test_secret_follows_the_user_as_it_is(user: str, secret: bytes):
    place = parse_url(f"iscsi://{user}@10.0.0.1/{NODE}/0")
    assert place.credentials == Credentials(ChapAccount("alice", secret))


def test_target_is_to_prove_itself():
    place = parse_url(f"iscsi://alice%secret@10.0.0.1/{NODE}/0?target_user=vault&target_password=other")
    assert place.credentials == Credentials(ChapAccount("alice", b"secret"), ChapAccount("vault", b"other"))


def test_digests_may_be_chosen():
    place = parse_url(f"iscsi://10.0.0.1/{NODE}/0?header_digest=crc32c&data_digest=none")
    assert (place.header_digest, place.data_digest) == (("CRC32C",), ("None",))


def test_name_of_the_target_is_decoded_and_normalised():
    assert parse_url("iscsi://10.0.0.1/IQN.2026-11.org.example%3Adisks/0").target == NODE


@pytest.mark.parametrize(
    "url",
    [
        f"iser://10.0.0.1/{NODE}/0",
        f"iscsi://10.0.0.1/{NODE}",
        f"iscsi://10.0.0.1/{NODE}/x",
        f"iscsi://10.0.0.1/{NODE}/16384",
        f"iscsi://10.0.0.1/{NODE}/0/1",
        "iscsi://10.0.0.1/disks/0",
        f"iscsi://:3260/{NODE}/0",
        f"iscsi://a..b/{NODE}/0",
        f"iscsi://{'a' * 64}/{NODE}/0",
        f"iscsi://10.0.0.1:0/{NODE}/0",
        f"iscsi://10.0.0.1:65536/{NODE}/0",
        f"iscsi://alice%a-secret@10.0.0.1:x/{NODE}/0",
        f"iscsi://fd00::1/{NODE}/0",
        f"iscsi://[fd00::1/{NODE}/0",
        f"iscsi://alice@10.0.0.1/{NODE}/0",
        f"iscsi://@10.0.0.1/{NODE}/0",
        f"iscsi://alice%a-secret@10.0.0.1/{NODE}/0?target_user=vault",
        f"iscsi://10.0.0.1/{NODE}/0?header_digest=md5",
        f"iscsi://10.0.0.1/{NODE}/0?unknown=1",
    ],
)
def test_wrong_url_is_refused_without_a_word_of_the_secret(url: str):
    with pytest.raises(ValueError) as refused:
        parse_url(url)
    assert "a-secret" not in str(refused.value)
