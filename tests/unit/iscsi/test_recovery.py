import pytest

from iscsi_target.config.values import SERVED
from iscsi_target.iscsi import recovery
from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.recovery import LostConnections
from iscsi_target.scsi.layouts.block_cdb import Read10
from tests.initiator import Host, Lab
from tests.unit.scsi.unit_bench import BLOCK


@pytest.fixture
def lab() -> Lab:
    return Lab(preferences=SERVED._replace(error_recovery_level=2, default_time2retain=20))


@pytest.fixture
def a(lab: Lab) -> Host:
    return lab.session(offers=[("ErrorRecoveryLevel", "2"), ("MaxConnections", "4")])


def connection(host: Host) -> Connection:
    return host.lab.target._links[host.number].connection


def test_cid_is_found_until_it_is_logged_out(a: Host):
    lost, own = LostConnections(), connection(a)
    lost.add(own)
    assert lost.of_cid(a.cid) is own
    assert not lost.is_logged_out(own)
    lost.log_out(own)
    assert lost.of_cid(a.cid) is None
    assert lost.is_logged_out(own)
    lost.forget(own)
    assert not lost.is_logged_out(own)
    assert list(lost) == []


def test_data_of_lost_connections_is_limited_and_the_oldest_goes_first(a: Host, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recovery, "MAX_KEPT_BYTES", 4 * BLOCK + 1024)
    hosts = [a.join(cid) for cid in (1, 2)]
    kept = [connection(host).retention for host in hosts]
    for host in hosts:
        host.command(Read10(transfer_length=4), read=4 * BLOCK)
        host.cut()
    assert [each.kept_bytes > 0 for each in kept if each is not None] == [False, True]


def test_lost_connection_keeps_no_answers_to_pings(a: Host):
    second = a.join(1)
    kept = connection(second).retention
    second.ask([("X-com.example", "1")])
    second.read(0)
    second.cut()
    assert kept is not None
    assert len(kept._statuses) == 1
