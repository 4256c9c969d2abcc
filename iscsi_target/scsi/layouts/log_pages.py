"""The log pages of a logical unit: which there are, their parameters, and the form in which LOG SENSE returns them.

Knows pages, not LOG SENSE or LOG SELECT. All nexuses share one set of parameters. None is saved, and none has a
threshold: they begin at zero when the server starts. What cannot be found out is said to be so: the temperature.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import NamedTuple

from iscsi_target.scsi.layouts.threshold_pages import AVAILABLE, USED
from iscsi_target.scsi.statistics import Statistics
from iscsi_target.wire.layout import B2, B6, U8, U16, U24, U32, U64, Bit, Layout

PageKey = tuple[int, int]  # page code, subpage code

SUPPORTED_PAGES: PageKey = (0x00, 0x00)
ALL_SUBPAGES = 0xFF
SUPPORTED_SUBPAGES: PageKey = (0x00, ALL_SUBPAGES)
DEDICATED, NOT_DEDICATED = 0b01, 0b10  # SCOPE: to the unit alone, or to no unit. Source: SBC3r36 6.3.4
TEMPERATURE_UNKNOWN = 0xFF  # SPC4r37 7.3.8, 7.3.21
MAX_CYCLES = 0xFFFF_FFFF  # that fit into their parameter


class Format(IntEnum):
    """FORMAT AND LINKING: what kind of parameter it is.

    Source: SPC4r37 7.3.2.2.2
    """

    COUNTER = 0b00
    BINARY_LIST = 0b11


class LogPageHeader(Layout):
    """What every log page begins with.

    Source: SPC4r37 7.3.2.1
    """

    ds: Bit = True
    spf: Bit = False
    page_code: B6 = 0
    subpage_code: U8 = 0
    page_length: U16 = 0


class LogParameterHeader(Layout):
    """What every log parameter begins with.

    Source: SPC4r37 7.3.2.2
    """

    parameter_code: U16 = 0
    du: Bit = False
    _1: Bit = False
    tsd: Bit = True
    etc: Bit = False
    tmc: B2 = 0
    format_and_linking: B2 = 0
    parameter_length: U8 = 0


class PageCode(Layout):
    """One page in the list of supported log pages.

    Source: SPC4r37 7.3.18
    """

    _1: B2 = 0
    page_code: B6 = 0


class PageAndSubpageCode(Layout):
    """One page in the list of supported log pages and subpages.

    Source: SPC4r37 7.3.19
    """

    _1: B2 = 0
    page_code: B6 = 0
    subpage_code: U8 = 0


class Counter(Layout):
    """The value of a bounded data counter."""

    value: U64 = 0


class Cycles(Layout):
    """A count of cycles. Source: SPC4r37 7.3.17.5, 7.3.17.7"""

    value: U32 = 0


class ResourceCount(Layout):
    """How many threshold sets there are. Source: SBC3r36 6.3.4"""

    resource_count: U32 = 0
    _1: B6 = 0
    scope: B2 = 0
    _2: U24 = 0


class Temperature(Layout):
    """A temperature, degrees Celsius. Source: SPC4r37 7.3.21"""

    _1: U8 = 0
    temperature: U8 = TEMPERATURE_UNKNOWN


class InformationalExceptions(Layout):
    """What was found out about a failure to come; nothing. Source: SPC4r37 7.3.8.2"""

    additional_sense_code: U8 = 0
    additional_sense_code_qualifier: U8 = 0
    most_recent_temperature_reading: U8 = TEMPERATURE_UNKNOWN
    vendor_specific: U8 = 0


class Parameter(NamedTuple):
    """One log parameter.

    code     PARAMETER CODE
    value    what it is now
    """

    code: int
    value: Layout

    @property
    def format(self) -> Format:
        """Its kind."""
        return Format.COUNTER if isinstance(self.value, Counter) else Format.BINARY_LIST

    def pack(self, *, cumulative: bool) -> bytes:
        """Returns the parameter in the form of LOG SENSE.

        cumulative   False for default and threshold values of counters, which are zero
        """
        value = self.value if cumulative or self.format is not Format.COUNTER else Counter()
        header = LogParameterHeader(
            parameter_code=self.code, format_and_linking=self.format, parameter_length=value.size
        )
        return header.pack() + value.pack()


class LogPage(NamedTuple):
    """One log page.

    parameters   what makes its parameters, ascending by code
    resettable   the counters that LOG SELECT may set to zero
    """

    parameters: Callable[[Statistics], tuple[Parameter, ...]]
    resettable: tuple[str, ...] = ()


def _counters(values: Mapping[int, int]) -> tuple[Parameter, ...]:
    return tuple(Parameter(code, Counter(value=value)) for code, value in values.items())


def _error_counters(processed: str, failed: str) -> LogPage:
    """The page of the errors of one kind of command; nothing is corrected or tried again here, so most are zero.

    Source: SPC4r37 7.3.14, 7.3.22, 7.3.23
    """

    def parameters(statistics: Statistics) -> tuple[Parameter, ...]:
        corrected = dict.fromkeys(range(5), 0)
        return _counters(corrected | {5: getattr(statistics, processed), 6: getattr(statistics, failed)})

    return LogPage(parameters, (processed, failed))


def _cache(statistics: Statistics) -> tuple[Parameter, ...]:
    """The counters of the cache. Source: SPC4r37 7.3.5"""
    hits, misses = statistics.read_hits, statistics.read_misses
    return _counters({1: hits, 2: misses, 3: statistics.write_hits, 4: statistics.flushes})


def _cycles(statistics: Statistics) -> tuple[Parameter, ...]:
    counted = {4: statistics.stops, 6: statistics.unloads}
    return tuple(Parameter(code, Cycles(value=min(count, MAX_CYCLES))) for code, count in counted.items())


def _provisioning(statistics: Statistics) -> tuple[Parameter, ...]:
    resources = statistics.resources
    assert resources is not None
    return (
        Parameter(AVAILABLE, ResourceCount(resource_count=resources.available, scope=NOT_DEDICATED)),
        Parameter(USED, ResourceCount(resource_count=resources.used, scope=DEDICATED)),
    )


PAGES: Mapping[PageKey, LogPage] = {
    (0x02, 0x00): _error_counters("written_bytes", "failed_writes"),
    (0x03, 0x00): _error_counters("read_bytes", "failed_reads"),
    (0x05, 0x00): _error_counters("verified_bytes", "failed_verifies"),
    (0x0D, 0x00): LogPage(lambda _: (Parameter(0, Temperature()),)),
    (0x0E, 0x00): LogPage(_cycles),
    (0x19, 0x20): LogPage(_cache, ("read_hits", "read_misses", "write_hits", "flushes")),
    (0x2F, 0x00): LogPage(lambda _: (Parameter(0, InformationalExceptions()),)),
}

RESETTABLE = tuple(name for page in PAGES.values() for name in page.resettable)

_PROVISIONED = dict(sorted((*PAGES.items(), ((0x0C, 0x00), LogPage(_provisioning)))))


def _lists(pages: Mapping[PageKey, LogPage]) -> Mapping[PageKey, bytes]:
    listed = sorted([SUPPORTED_PAGES, SUPPORTED_SUBPAGES, *pages])
    return {
        SUPPORTED_PAGES: b"".join(PageCode(page_code=code).pack() for code, subpage in listed if not subpage),
        SUPPORTED_SUBPAGES: b"".join(
            PageAndSubpageCode(page_code=code, subpage_code=subpage).pack() for code, subpage in listed
        ),
    }


LISTS = _lists(PAGES)
_PROVISIONED_LISTS = _lists(_PROVISIONED)


def pages_of(statistics: Statistics) -> Mapping[PageKey, LogPage]:
    """Returns the log pages of a unit; one with thresholds has PAGES and that of logical block provisioning.

    Source: SBC3r36 6.3.4
    """
    return PAGES if statistics.resources is None else _PROVISIONED


def lists_of(statistics: Statistics) -> Mapping[PageKey, bytes]:
    """Returns the lists of these pages."""
    return LISTS if statistics.resources is None else _PROVISIONED_LISTS


def framed(key: PageKey, body: bytes) -> bytes:
    """Returns a whole log page."""
    code, subpage = key
    header = LogPageHeader(spf=bool(subpage), page_code=code, subpage_code=subpage, page_length=len(body))
    return header.pack() + body
