"""Sense data in both formats, and the conditions that have a name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi.layouts.block_cdb import Read16
from iscsi_target.scsi.status import (
    CheckCondition,
    InternalTargetFailure,
    InvalidFieldInCdb,
    InvalidFieldInParameterList,
    InvalidOperationCode,
    InvalidTaskAttribute,
    LbaOutOfRange,
    LogicalUnitNotSupported,
    ManualInterventionRequired,
    MediumNotPresent,
    MediumReadFailed,
    MediumRemovalPrevented,
    MediumWriteFailed,
    Miscompare,
    NotReadyInitialisingRequired,
    ParameterListLengthError,
    ReservationConflict,
    ReservedBitInCdb,
    Sense,
    SenseKey,
    SoftwareWriteProtected,
    SpaceExhausted,
    Status,
    TaskSetFull,
    UnitAttention,
    WriteProtected,
)
from iscsi_target.wire.layout import FieldPointer


@pytest.mark.clause("SPC4r37 4.5.3")
def test_fixed_sense_data_has_18_bytes():
    assert Sense(SenseKey.ILLEGAL_REQUEST, 0x2400).fixed() == bytes.fromhex(
        "70 00 05 00000000 0a 00000000 24 00 00 000000"
    )


@pytest.mark.clause("SPC4r37 4.5.3")
def test_fixed_information_is_valid_when_it_fits_in_32_bits():
    assert LbaOutOfRange(0xFFFFFFFF).sense.fixed()[:7] == bytes.fromhex("f0 00 05 ffffffff")


@pytest.mark.clause("SPC4r37 4.5.3")
def test_fixed_information_of_more_than_32_bits_is_not_valid():
    assert LbaOutOfRange(1 << 32).sense.fixed()[:7] == bytes.fromhex("70 00 05 00000000")


@pytest.mark.clause("SPC4r37 4.5.2.4.2")
def test_field_pointer_names_byte_and_bit_of_the_cdb():
    assert InvalidFieldInCdb(Read16, "transfer_length").sense.fixed()[15:] == bytes.fromhex("cf 000a")


@pytest.mark.clause("SPC4r37 4.5.2.4.2")
def test_field_pointer_into_the_parameter_list_clears_command_data():
    assert InvalidFieldInParameterList(0x0102, 6).sense.fixed()[15:] == bytes.fromhex("8e 0102")


@pytest.mark.clause("SPC4r37 4.5.2.4.2")
def test_field_pointer_to_a_whole_byte_has_no_bit_pointer():
    assert InvalidFieldInParameterList(4).sense.fixed()[15:] == bytes.fromhex("80 0004")
    assert InvalidOperationCode().sense.fixed()[15:] == bytes.fromhex("c0 0000")


def test_field_pointer_beyond_16_bits_is_clipped():
    assert InvalidFieldInParameterList(0x12345).sense.fixed()[15:] == bytes.fromhex("80 ffff")


@pytest.mark.clause("SPC4r37 4.5.2.4.4")
def test_progress_indication_sets_sksv_only():
    assert Sense(SenseKey.NOT_READY, 0x0404, progress=0x8000).fixed()[15:] == bytes.fromhex("80 8000")


@pytest.mark.clause("SPC4r37 4.5.2")
@pytest.mark.clause("SPC4r37 4.5.2.1")
def test_descriptor_sense_without_descriptors_is_a_header():
    assert UnitAttention(0x2901).sense.descriptor() == bytes.fromhex("72 06 29 01 000000 00")


@pytest.mark.clause("SPC4r37 4.5.2.2")
def test_descriptor_information_has_64_bits():
    sense = LbaOutOfRange(1 << 40).sense.descriptor()
    assert sense == bytes.fromhex("72 05 21 00 000000 0c  00 0a 80 00 0000010000000000")


@pytest.mark.clause("SPC4r37 4.5.2.3")
def test_descriptors_come_in_order_and_count_in_the_length():
    sense = Sense(
        SenseKey.ILLEGAL_REQUEST, 0x2400, information=1, command_specific=2, field=FieldPointer(2, 3)
    ).descriptor()
    assert sense[7] == len(sense) - 8 == 32
    assert sense[8:] == bytes.fromhex(
        "00 0a 80 00 0000000000000001  01 0a 00 00 0000000000000002  02 06 0000 cb 0002 00"
    )


def test_miscompare_carries_the_offset_of_the_first_difference():
    assert Miscompare(7).sense.fixed()[:7] == bytes.fromhex("f0 00 0e 00000007")


def test_every_condition_says_its_status():
    assert ReservationConflict().status is Status.RESERVATION_CONFLICT
    assert TaskSetFull().status is Status.TASK_SET_FULL
    assert ReservedBitInCdb(FieldPointer(1, 0)).status is Status.CHECK_CONDITION
    assert str(SpaceExhausted()) == "DATA_PROTECT 27/07"


@pytest.mark.clause("SPC4r37 4.5.6")
@pytest.mark.parametrize(
    "condition, text",
    [
        (InvalidOperationCode(), "ILLEGAL_REQUEST 20/00"),
        (InvalidFieldInCdb(Read16, "lba"), "ILLEGAL_REQUEST 24/00"),
        (ReservedBitInCdb(FieldPointer(1, 2)), "ILLEGAL_REQUEST 24/00"),
        (InvalidFieldInParameterList(0), "ILLEGAL_REQUEST 26/00"),
        (ParameterListLengthError(), "ILLEGAL_REQUEST 1A/00"),
        (LbaOutOfRange(0), "ILLEGAL_REQUEST 21/00"),
        (LogicalUnitNotSupported(), "ILLEGAL_REQUEST 25/00"),
        (InvalidTaskAttribute(), "ILLEGAL_REQUEST 49/00"),
        (MediumRemovalPrevented(), "ILLEGAL_REQUEST 53/02"),
        (MediumNotPresent(), "NOT_READY 3A/00"),
        (NotReadyInitialisingRequired(), "NOT_READY 04/02"),
        (ManualInterventionRequired(), "NOT_READY 04/03"),
        (WriteProtected(), "DATA_PROTECT 27/00"),
        (SoftwareWriteProtected(), "DATA_PROTECT 27/02"),
        (SpaceExhausted(), "DATA_PROTECT 27/07"),
        (MediumReadFailed(), "MEDIUM_ERROR 11/00"),
        (MediumWriteFailed(1), "MEDIUM_ERROR 0C/00"),
        (InternalTargetFailure(), "HARDWARE_ERROR 44/00"),
        (Miscompare(0), "MISCOMPARE 1D/00"),
        (UnitAttention(0x2901), "UNIT_ATTENTION 29/01"),
    ],
)
def test_every_named_condition_has_the_code_of_the_standard(condition: CheckCondition, text: str):
    assert str(condition) == text
    assert condition.sense.fixed()[2] == condition.sense.descriptor()[1] == condition.sense.key


@given(
    st.builds(
        Sense,
        st.sampled_from(SenseKey),
        st.integers(0, 0xFFFF),
        information=st.none() | st.integers(0, 2**64 - 1),
        command_specific=st.none() | st.integers(0, 2**64 - 1),
        progress=st.none() | st.integers(0, 0xFFFF),
        field=st.none() | st.builds(FieldPointer, st.integers(0, 0xFFFF), st.integers(0, 7)),
    )
)
def test_both_formats_say_the_same_key_and_code(sense: Sense):
    """Law: key and additional sense code are the same in both formats, and lengths are what they claim."""
    fixed, descriptor = sense.fixed(), sense.descriptor()
    assert fixed[2] & 0xF == descriptor[1]
    assert fixed[12:14] == descriptor[2:4]
    assert len(fixed) == fixed[7] + 8
    assert len(descriptor) == descriptor[7] + 8
