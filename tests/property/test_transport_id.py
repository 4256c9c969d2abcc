"""TransportIDs: what is written is read, and whatever is read is a TransportID or is not."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from iscsi_target.scsi.layouts.transport_id import (
    MAX_TRANSPORT_ID_BYTES,
    MIN_TRANSPORT_ID_BYTES,
    InvalidTransportId,
    pack_transport_id,
    transport_id_bytes,
    unpack_transport_id,
)
from iscsi_target.scsi.nexus import InitiatorPort
from iscsi_target.wire.names import InadmissibleValue, iscsi_name

HEX = st.sampled_from("0123456789abcdefABCDEF")
CHARACTERS = st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters=",=")
ISIDS = st.binary(min_size=6, max_size=6)


@st.composite
def names(draw: st.DrawFn) -> str:
    """An iSCSI name, normalised."""
    iqn = st.text(CHARACTERS, min_size=1, max_size=219).map("iqn.".__add__)
    eui = st.text(HEX, min_size=16, max_size=16).map("eui.".__add__)
    naa = st.text(HEX, min_size=32, max_size=32).map("naa.".__add__)
    try:
        return iscsi_name(draw(iqn | eui | naa))
    except InadmissibleValue:
        assume(False)
        raise


ports = st.builds(InitiatorPort, names(), ISIDS)


@st.composite
def almost(draw: st.DrawFn) -> bytes:
    """A TransportID in which some bytes are others, or missing, or too many."""
    found = bytearray(pack_transport_id(draw(ports)))
    for _ in range(draw(st.integers(0, 3))):
        found[draw(st.integers(0, len(found) - 1))] = draw(st.integers(0, 255))
    return bytes(found[: draw(st.integers(0, len(found)))]) + draw(st.binary(max_size=4))


@pytest.mark.clause("SPC4r37 7.6.4.6")
@given(ports, st.binary(max_size=9), st.binary(max_size=9))
def test_a_port_that_is_written_is_read_again(port, before, after):
    """Law: unpack of pack is the port, whatever is before and after it, and is as long as transport_id_bytes tells."""
    packed = pack_transport_id(port)
    assert transport_id_bytes(port) == len(packed)
    found = unpack_transport_id(before + packed + after, len(before))
    assert InitiatorPort(found.name, found.isid or b"") == port
    assert found.length_bytes == len(packed)
    assert MIN_TRANSPORT_ID_BYTES <= len(packed) <= MAX_TRANSPORT_ID_BYTES
    assert len(packed) % 4 == 0


@given(st.binary(max_size=300) | almost())
def test_any_bytes_are_a_transport_id_or_are_refused(buffer):
    """Law: unpack raises InvalidTransportId, or its result lies within the buffer and holds a normalised name."""
    try:
        found = unpack_transport_id(buffer)
    except InvalidTransportId:
        return
    assert MIN_TRANSPORT_ID_BYTES <= found.length_bytes <= min(len(buffer), MAX_TRANSPORT_ID_BYTES)
    assert iscsi_name(found.name) == found.name
    if found.isid is not None:
        port = InitiatorPort(found.name, found.isid)
        again = unpack_transport_id(pack_transport_id(port))
        assert (again.name, again.isid) == port


@given(ports, st.data())
def test_a_transport_id_that_is_cut_says_so(port, data):
    """Law: every proper prefix of a TransportID is refused as cut."""
    packed = pack_transport_id(port)
    with pytest.raises(InvalidTransportId) as caught:
        unpack_transport_id(packed[: data.draw(st.integers(0, len(packed) - 1))])
    assert caught.value.cut
