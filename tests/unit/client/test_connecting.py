"""Logging in over sockets: what a URL and options make of it, refusals, redirections."""

import socket

import pytest

import iscsi_target
from iscsi_target.client import (
    ChapAccount,
    Credentials,
    NotLoggedIn,
    Options,
    Preferences,
    SessionEnded,
    connect,
    discover,
    parse_url,
)
from iscsi_target.client.connecting import MAX_REDIRECTIONS
from iscsi_target.config.address import Address
from iscsi_target.config.values import Backing, Configuration, PortalGroup, TargetEntry, Unit
from iscsi_target.iscsi.chap import Authentication
from tests.unit.client.fake_target import fake_target, refusal, success

NODE = "iqn.2026-11.org.example:node"
ALICE, VAULT = ChapAccount("alice", b"a secret of alice"), ChapAccount("vault", b"a secret of vault")


@pytest.fixture
async def server():
    async with iscsi_target.serve(ram=1 << 20) as serving:
        yield serving


@pytest.fixture
async def guarded(tmp_path):
    """The URL of a unit that wants CHAP and proves itself, without user."""
    authentication = Authentication((ALICE,), VAULT)
    configuration = Configuration(
        state=tmp_path,
        portal_groups=(PortalGroup(1, (Address("127.0.0.1", 0),)),),
        units=(Unit("a", Backing.RAM, None, 1 << 20),),
        targets=(TargetEntry(NODE, {0: "a"}, authentication=authentication),),
        discovery=authentication,
    )
    async with iscsi_target.serve(configuration) as serving:
        yield serving.url("a")


def with_user(url: str, secret: str = "a secret of alice", target: str = "") -> str:
    return url.replace("iscsi://", f"iscsi://alice%{secret}@") + target


async def test_session_is_there_inside_the_block_and_gone_after_it(server):
    async with connect(server.url("disk0"), initiator_name="iqn.2026-11.org.example:me") as session:
        [served] = server.sessions
        assert "iqn.2026-11.org.example:me" in repr(served)
        assert session.tsih
    assert session.ended == "logged out"
    assert not server.sessions


async def test_package_offers_both_functions(server):
    [found] = await iscsi_target.discover(server.url("disk0"))
    assert found.addresses == (f"127.0.0.1:{server.portals[0].port},1",)
    async with iscsi_target.connect(server.url("disk0")) as session:
        assert await session.ping(b"x") == b"x"
    with pytest.raises(AttributeError):
        iscsi_target.nothing  # noqa: B018  # it is the access that fails


@pytest.mark.clause("RFC7143 11.12.5")
async def test_sessions_do_not_replace_each_other_unless_they_are_told_to(server):
    url = server.url("disk0")
    async with connect(url) as first, connect(url) as second:
        assert first.tsih != second.tsih
        assert len(server.sessions) == 2
    isid = bytes.fromhex("800000000001")
    async with connect(url, isid=isid) as first, connect(url, isid=isid) as second:
        with pytest.raises(SessionEnded):
            await first.message()
        assert await second.ping() == b""


async def test_options_decide_what_is_negotiated(server):
    preferences = Preferences(initial_r2t=True, immediate_data=False, max_burst_length=4096, first_burst_length=512)
    options = Options(preferences, {"X-com.example": "1"}, "an alias", local_address="127.0.0.9")
    async with connect(server.url("disk0") + "?header_digest=crc32c", options=options) as session:
        negotiated = session.parameters
        assert (negotiated.initial_r2t, negotiated.immediate_data, negotiated.max_burst_length) == (True, False, 4096)
        assert (negotiated.header_digest, negotiated.data_digest) == (True, False)
        assert session.answers["X-com.example"] == "NotUnderstood"


async def test_portal_alone_makes_a_discovery_session(server):
    port = server.portals[0].port
    async with connect(f"iscsi://127.0.0.1:{port}") as session:
        assert [target.name for target in await session.send_targets()] == ["iqn.2026-11.org.iscsi-target:disk0"]


async def test_url_has_the_secrets_of_both_sides(guarded: str):
    target = "?target_user=vault&target_password=a secret of vault"
    async with connect(with_user(guarded, target=target)) as session:
        assert await session.ping() == b""
    [found] = await discover(with_user(guarded))
    assert found.name == NODE


async def test_credentials_may_be_given_instead(guarded: str):
    async with connect(guarded, chap=Credentials(ALICE, VAULT)) as session:
        assert await session.ping() == b""


async def test_wrong_or_no_secret_is_refused_by_the_target(guarded: str):
    for url in (guarded, with_user(guarded, "of somebody else")):
        with pytest.raises(NotLoggedIn) as refused:
            async with connect(url):
                pass
        assert refused.value.status == 0x0201


async def test_target_that_is_not_the_one_is_left(guarded: str):
    with pytest.raises(NotLoggedIn, match="not the one") as left:
        async with connect(guarded, chap=Credentials(ALICE, VAULT._replace(secret=b"of another vault"))):
            pass
    assert left.value.status == 0


async def test_what_cannot_be_right_is_refused_before_anybody_is_asked():
    url = f"iscsi://127.0.0.1/{NODE}/0"
    with pytest.raises(ValueError, match="ISID"):
        async with connect(url, isid=b"short"):
            pass
    with pytest.raises(ValueError, match="secret"):
        async with connect(url, chap=Credentials(ALICE, ALICE)):
            pass


@pytest.mark.parametrize(
    ("name", "options"), [("a\0b", Options()), (NODE, Options(offers={"X-a": "\0"})), (NODE, Options(first_cmd_sn=-1))]
)
async def test_what_cannot_be_sent_leaves_no_connection(name: str, options: Options):
    async with fake_target(success) as portal:  # which waits until everybody has gone
        with pytest.raises(ValueError):  # of whatever cannot be written
            async with connect(f"iscsi://{portal}/{NODE}/0", initiator_name=name, options=options):
                pass


async def test_nobody_at_the_portal_is_an_os_error():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            async with connect(f"iscsi://127.0.0.1:{unused.getsockname()[1]}/{NODE}/0"):
                pass


async def test_target_that_says_nothing_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = Options(login_timeout_s=0)
        with pytest.raises(TimeoutError):
            async with connect(f"iscsi://127.0.0.1:{silent.getsockname()[1]}/{NODE}/0", options=options):
                pass


async def test_target_that_closes_during_the_login_is_told():
    async with fake_target(lambda request: (success(request)[0].replace(transit=False), b""), then_closes=True) as at:
        with pytest.raises(NotLoggedIn, match="closed"):
            async with connect(f"iscsi://{at}/{NODE}/0"):
                pass


@pytest.mark.clause("RFC7143 11.13.5")
@pytest.mark.clause("RFC7143 13.8")
async def test_redirection_is_followed(server):
    port = server.portals[0].port
    moved = refusal(0x0101, f"TargetAddress=127.0.0.1:{port},1\0".encode())
    async with fake_target(moved) as at:
        place = parse_url(server.url("disk0"))
        async with connect(place._replace(port=int(at.rpartition(":")[2]))) as session:
            assert await session.ping() == b""


async def test_redirections_in_a_circle_end():
    address: list[str] = []
    logins: list[object] = []

    def moved(request):
        logins.append(request)
        return refusal(0x0101, f"TargetAddress={address[0]}\0".encode())(request)

    async with fake_target(moved) as at:
        address.append(at)
        with pytest.raises(NotLoggedIn) as ended:
            async with connect(f"iscsi://{at}/{NODE}/0"):
                pass
    assert ended.value.status == 0x0101
    assert len(logins) == MAX_REDIRECTIONS + 1


@pytest.mark.parametrize("address", [b":x", b"a..b", b"a" * 64])
async def test_redirection_to_nowhere_is_told(address: bytes):
    async with fake_target(refusal(0x0102, b"TargetAddress=" + address + b"\0")) as at:
        with pytest.raises(NotLoggedIn, match="no address"):
            async with connect(f"iscsi://{at}/{NODE}/0"):
                pass


async def test_body_that_fails_ends_the_session_without_a_logout(server):
    with pytest.raises(ZeroDivisionError):
        async with connect(server.url("disk0")) as session:
            raise ZeroDivisionError
    assert session.ended
    async with connect(server.url("disk0")):  # whose login is behind the end of the other
        assert len(server.sessions) == 1
