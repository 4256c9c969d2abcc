"""The form of the log pages, byte by byte."""

import pytest

from iscsi_target.scsi.layouts.log_pages import (
    LISTS,
    PAGES,
    SUPPORTED_PAGES,
    SUPPORTED_SUBPAGES,
    Counter,
    Parameter,
    framed,
)
from iscsi_target.scsi.statistics import Statistics


def packed(key, statistics: Statistics, *, cumulative: bool = True) -> list[str]:
    return [parameter.pack(cumulative=cumulative).hex() for parameter in PAGES[key].parameters(statistics)]


@pytest.mark.clause("SPC4r37 7.3.2.2")
@pytest.mark.clause("SPC4r37 7.3.2.2.2")
def test_a_counter_is_a_bounded_data_counter_of_eight_bytes():
    assert Parameter(5, Counter(value=0x1234)).pack(cumulative=True).hex() == "0005" + "20" + "08" + "0000000000001234"


def test_default_and_threshold_values_of_a_counter_are_zero():
    assert Parameter(5, Counter(value=7)).pack(cumulative=False).hex() == "00052008" + "00" * 8


@pytest.mark.clause("SPC4r37 7.3.14")
def test_error_counters_have_bytes_and_failures_and_nothing_that_was_corrected():
    parameters = packed((0x03, 0), Statistics(read_bytes=512, failed_reads=2))
    assert parameters[:5] == [f"{code:04x}2008" + "00" * 8 for code in range(5)]
    assert parameters[5:] == ["000520080000000000000200", "000620080000000000000002"]


@pytest.mark.clause("SPC4r37 7.3.22")
@pytest.mark.clause("SPC4r37 7.3.23")
def test_each_kind_of_command_has_its_own_error_counters():
    statistics = Statistics(written_bytes=1, verified_bytes=2, failed_writes=3, failed_verifies=4)
    assert [value[-2:] for value in packed((0x02, 0), statistics)[5:]] == ["01", "03"]
    assert [value[-2:] for value in packed((0x05, 0), statistics)[5:]] == ["02", "04"]


@pytest.mark.clause("SPC4r37 7.3.17.5")
@pytest.mark.clause("SPC4r37 7.3.17.7")
def test_lists_are_the_same_whatever_values_are_asked_for():
    statistics = Statistics(stops=3, unloads=2**40)
    cycles = ["0004230400000003", "00062304ffffffff"]
    assert packed((0x0E, 0), statistics) == packed((0x0E, 0), statistics, cumulative=False) == cycles


@pytest.mark.clause("SPC4r37 7.3.21")
@pytest.mark.clause("SPC4r37 7.3.8.2")
def test_temperature_is_not_known():
    assert packed((0x0D, 0), Statistics()) == ["0000230200ff"]
    assert packed((0x2F, 0), Statistics()) == ["000023040000ff00"]


@pytest.mark.clause("SPC4r37 7.3.5")
def test_cache_memory_statistics():
    parameters = packed((0x19, 0x20), Statistics(read_hits=1, read_misses=2, write_hits=3, flushes=4))
    assert parameters == [f"{code:04x}2008{code:016x}" for code in range(1, 5)]


@pytest.mark.clause("SPC4r37 7.3.18")
@pytest.mark.clause("SPC4r37 7.3.19")
def test_lists_of_pages_name_every_page_in_order():
    assert LISTS[SUPPORTED_PAGES].hex() == "000203050d0e2f"
    assert LISTS[SUPPORTED_SUBPAGES].hex() == "000000ff0200030005000d000e0019202f00"


@pytest.mark.clause("SPC4r37 7.3.2.1")
def test_a_subpage_has_spf():
    assert framed((0x19, 0x20), b"ab").hex() == "d9200002" + b"ab".hex()
    assert framed((0x03, 0x00), b"").hex() == "83000000"
