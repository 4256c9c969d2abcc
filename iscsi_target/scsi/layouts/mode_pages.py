"""The mode pages of a logical unit as a frozen value: current, changeable, default and saved.

Knows pages, not MODE SENSE or MODE SELECT: headers and block descriptors are the business of `modes`. A
page is supported when it is in `DEFAULTS`, a field of it can be changed when it is in `CHANGEABLE_FIELDS`.
One copy of every page serves all nexuses, as VPD page 87h says.

What cannot be changed is honest: no bus to disconnect from, no informational exceptions, no log pages to
save, SIMPLE tasks in any order unless they overlap.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from iscsi_target.scsi.layouts.threshold_pages import LogicalBlockProvisioningPage, ReadWriteErrorRecoveryPage
from iscsi_target.scsi.status import InvalidFieldInParameterList, ParameterListLengthError
from iscsi_target.wire.layout import B2, B3, B4, B5, B6, U8, U16, U32, U64, Bit, Layout, LayoutError

PageKey = tuple[int, int]  # page code, subpage code

ALL_PAGES = 0x3F
ALL_SUBPAGES = 0xFF
BUSY_TIMEOUT_PERIOD = 100  # of 100 ms: how long BUSY may last; no medium is expected to stall for longer
SEPARATE_TASK_SETS = 1  # TST = 001b. Source: SPC4r37 7.5.8
RESERVED = {  # values of fields. Source: SPC4r37 7.5.8
    ("qerr", 2),
    ("ua_intlck_ctrl", 1),
    *(("tst", value) for value in range(SEPARATE_TASK_SETS + 1, 8)),
}
CLEARED_BY_REPORT, REFUSALS_TOO = 0b00, 0b11  # UA_INTLCK_CTRL. Source: SPC4r37 7.5.8


class PageControl(IntEnum):
    """Which values of a page MODE SENSE returns.

    Source: SPC4r37 6.13.1
    """

    CURRENT = 0
    CHANGEABLE = 1
    DEFAULT = 2
    SAVED = 3


class PageHeader(Layout):
    """What every mode page begins with; SPF says that a subpage header is meant.

    Source: SPC4r37 7.5.6
    """

    ps: Bit = False
    spf: Bit = False
    page_code: B6 = 0
    page_length: U8 = 0


class SubpageHeader(Layout):
    """What a mode page with a subpage code begins with.

    Source: SPC4r37 7.5.6
    """

    ps: Bit = False
    spf: Bit = True
    page_code: B6 = 0
    subpage_code: U8 = 0
    page_length: U16 = 0


class DisconnectReconnectPage(Layout):
    """The disconnect-reconnect mode page; iSCSI negotiates bursts by text keys, so all of it is zero.

    Source: SPC4r37 7.5.10, RFC7143 13.13
    """

    ps: Bit = False
    spf: Bit = False
    page_code: B6 = 0x02
    page_length: U8 = 0x0E
    buffer_full_ratio: U8 = 0
    buffer_empty_ratio: U8 = 0
    bus_inactivity_limit: U16 = 0
    disconnect_time_limit: U16 = 0
    connect_time_limit: U16 = 0
    maximum_burst_size: U16 = 0
    emdp: Bit = False
    fair_arbitration: B3 = 0
    dimm: Bit = False
    dtdc: B3 = 0
    _1: U8 = 0
    first_burst_size: U16 = 0


class CachingPage(Layout):
    """The caching mode page.

    Source: SBC3r36 6.4.5
    """

    ps: Bit = True
    spf: Bit = False
    page_code: B6 = 0x08
    page_length: U8 = 0x12
    ic: Bit = False
    abpf: Bit = False
    cap: Bit = False
    disc: Bit = False
    size_enable: Bit = False
    wce: Bit = True
    mf: Bit = False
    rcd: Bit = False
    demand_read_retention_priority: B4 = 0
    write_retention_priority: B4 = 0
    disable_prefetch_transfer_length: U16 = 0
    minimum_prefetch: U16 = 0
    maximum_prefetch: U16 = 0
    maximum_prefetch_ceiling: U16 = 0
    fsw: Bit = False
    lbcss: Bit = False
    dra: Bit = False
    vendor_specific: B2 = 0
    sync_prog: B2 = 0
    nv_dis: Bit = False
    number_of_cache_segments: U8 = 0
    cache_segment_size: U16 = 0
    _1: U32 = 0


class ControlPage(Layout):
    """The control mode page.

    Source: SPC4r37 7.5.8
    """

    ps: Bit = True
    spf: Bit = False
    page_code: B6 = 0x0A
    page_length: U8 = 0x0A
    tst: B3 = 0
    tmf_only: Bit = False
    dpicz: Bit = False
    d_sense: Bit = False
    gltsd: Bit = True
    rlec: Bit = False
    queue_algorithm_modifier: B4 = 1
    nuar: Bit = False
    qerr: B2 = 0
    _1: Bit = False
    vs: Bit = False
    rac: Bit = False
    ua_intlck_ctrl: B2 = 0
    swp: Bit = False
    _2: B3 = 0
    ato: Bit = False
    tas: Bit = False
    atmpe: Bit = False
    rwwp: Bit = False
    _3: Bit = False
    autoload_mode: B3 = 0
    _4: U16 = 0
    busy_timeout_period: U16 = BUSY_TIMEOUT_PERIOD
    extended_self_test_completion_time: U16 = 0


class ControlExtensionPage(Layout):
    """The control extension mode page.

    Source: SPC4r37 7.5.9
    """

    ps: Bit = False
    spf: Bit = True
    page_code: B6 = 0x0A
    subpage_code: U8 = 0x01
    page_length: U16 = 0x1C
    _1: B5 = 0
    tcmos: Bit = True
    scsip: Bit = True
    ialuae: Bit = False
    _2: B4 = 0
    initial_command_priority: B4 = 0
    maximum_sense_data_length: U8 = 0
    _3: U8 = 0
    _4: U64 = 0
    _5: U64 = 0
    _6: U64 = 0


class InformationalExceptionsPage(Layout):
    """The informational exceptions control mode page; there is nothing to predict, so DEXCPT is one.

    Source: SBC3r36 6.4.6
    """

    ps: Bit = False
    spf: Bit = False
    page_code: B6 = 0x1C
    page_length: U8 = 0x0A
    perf: Bit = False
    _1: Bit = False
    ebf: Bit = False
    ewasc: Bit = False
    dexcpt: Bit = True
    test: Bit = False
    ebackerr: Bit = False
    logerr: Bit = False
    _2: B4 = 0
    mrie: B4 = 0
    interval_timer: U32 = 0
    report_count: U32 = 0


READ_WRITE_ERROR_RECOVERY: PageKey = (0x01, 0x00)
DISCONNECT_RECONNECT: PageKey = (0x02, 0x00)
CACHING: PageKey = (0x08, 0x00)
CONTROL: PageKey = (0x0A, 0x00)
CONTROL_EXTENSION: PageKey = (0x0A, 0x01)
INFORMATIONAL_EXCEPTIONS: PageKey = (0x1C, 0x00)
LOGICAL_BLOCK_PROVISIONING: PageKey = (0x1C, 0x02)

DEFAULTS: Mapping[PageKey, Layout] = {  # in the order in which MODE SENSE returns them
    DISCONNECT_RECONNECT: DisconnectReconnectPage.of_defaults(),
    CACHING: CachingPage.of_defaults(),
    CONTROL: ControlPage.of_defaults(),
    CONTROL_EXTENSION: ControlExtensionPage.of_defaults(),
    INFORMATIONAL_EXCEPTIONS: InformationalExceptionsPage.of_defaults(),
}

THRESHOLD_DEFAULTS: Mapping[PageKey, Layout] = {  # of a unit with provisioning thresholds
    READ_WRITE_ERROR_RECOVERY: ReadWriteErrorRecoveryPage.of_defaults(),
    **DEFAULTS,
    LOGICAL_BLOCK_PROVISIONING: LogicalBlockProvisioningPage.of_defaults(),
}

CHANGEABLE_FIELDS: Mapping[PageKey, Mapping[str, int]] = {  # with all ones; a page that has some can be saved
    CACHING: {"wce": 1},
    CONTROL: {
        "tst": SEPARATE_TASK_SETS,
        "tmf_only": 1,
        "d_sense": 1,
        "nuar": 1,
        "qerr": 3,
        "swp": 1,
        "tas": 1,
        "ua_intlck_ctrl": 3,
    },
    READ_WRITE_ERROR_RECOVERY: {"lbpere": 1},
    LOGICAL_BLOCK_PROVISIONING: {
        "available_enabled": 1,
        "available_threshold_count": 0xFFFF_FFFF,
        "used_enabled": 1,
        "used_threshold_count": 0xFFFF_FFFF,
    },
}

HEADER_FIELDS = frozenset((*PageHeader.fields, *SubpageHeader.fields))


def _changeable(key: PageKey, page: Layout) -> Layout:
    """Returns a page with its header as it is, ones where it can be changed and zeros elsewhere."""
    zeros = dict.fromkeys((name for name in page.fields if name not in HEADER_FIELDS), 0)
    return page.replace(**(zeros | dict(CHANGEABLE_FIELDS.get(key, {}))))


CHANGEABLE: Mapping[PageKey, Layout] = {key: _changeable(key, page) for key, page in THRESHOLD_DEFAULTS.items()}


class ModePages(NamedTuple):
    """The mode pages of one logical unit.

    current   what holds now
    stored    what holds again after a reset or a restart
    defaults  what holds when nothing else was ever said; its pages are those that the unit has
    Source: SPC4r37 7.5, SBC3r36 6.4
    """

    current: Mapping[PageKey, Layout] = DEFAULTS
    stored: Mapping[PageKey, Layout] = DEFAULTS
    defaults: Mapping[PageKey, Layout] = DEFAULTS

    @classmethod
    def restore(cls, saved: Mapping[PageKey, bytes], defaults: Mapping[PageKey, Layout] = DEFAULTS) -> "ModePages":
        """Returns the mode pages of a unit with these saved pages; a page that is not valid has its default.

        saved      as in `saved`, from the state file
        defaults   as declared above
        """
        pages = cls(defaults, defaults, defaults)
        for content in saved.values():
            try:
                pages = pages.select(content, offset=0)
            except (InvalidFieldInParameterList, ParameterListLengthError):
                continue
        return pages.save()

    @property
    def saved(self) -> dict[PageKey, bytes]:
        """The pages that have saved values, for the state file: key -> whole page."""
        return {key: self.stored[key].pack() for key in CHANGEABLE_FIELDS if key in self.stored}

    @property
    def write_cache(self) -> bool:
        """WCE of the caching page. Source: SBC3r36 6.4.5"""
        return self._caching.wce

    @property
    def descriptor_sense(self) -> bool:
        """D_SENSE of the control page. Source: SPC4r37 7.5.8"""
        return self._control.d_sense

    @property
    def software_write_protect(self) -> bool:
        """SWP of the control page. Source: SPC4r37 7.5.8"""
        return self._control.swp

    @property
    def task_aborted_status(self) -> bool:
        """TAS of the control page. Source: SPC4r37 7.5.8"""
        return self._control.tas

    @property
    def no_attention_on_release(self) -> bool:
        """NUAR of the control page. Source: SPC4r37 7.5.8"""
        return self._control.nuar

    @property
    def qerr(self) -> int:
        """QERR of the control page: 0, 1 or 3. Source: SPC4r37 7.5.8"""
        return self._control.qerr

    @property
    def separates_task_sets(self) -> bool:
        """True when every nexus has a task set of its own (TST). Source: SPC4r37 7.5.8"""
        return self._control.tst == SEPARATE_TASK_SETS

    @property
    def management_only(self) -> bool:
        """True when no command of a faulted nexus is processed until its ACA is cleared (TMF_ONLY).

        Source: SPC4r37 7.5.8
        """
        return self._control.tmf_only

    @property
    def interlocks_attentions(self) -> bool:
        """True when a unit attention that was reported stays until REQUEST SENSE clears it (UA_INTLCK_CTRL).

        Source: SPC4r37 7.5.8
        """
        return self._control.ua_intlck_ctrl != CLEARED_BY_REPORT

    @property
    def attends_to_refusals(self) -> bool:
        """True when BUSY, TASK SET FULL and RESERVATION CONFLICT establish a unit attention (UA_INTLCK_CTRL).

        Source: SPC4r37 7.5.8
        """
        return self._control.ua_intlck_ctrl == REFUSALS_TOO

    @property
    def thresholds(self) -> LogicalBlockProvisioningPage | None:
        """The thresholds of which somebody wants to be told, or None (LBPERE). Source: SBC3r36 6.4.7, 6.4.8"""
        recovery, page = self.current.get(READ_WRITE_ERROR_RECOVERY), self.current.get(LOGICAL_BLOCK_PROVISIONING)
        wanted = isinstance(recovery, ReadWriteErrorRecoveryPage) and recovery.lbpere
        return page if wanted and isinstance(page, LogicalBlockProvisioningPage) else None

    def supports(self, page_code: int) -> bool:
        """Returns True when the page code means some page, so that only the subpage code can be wrong."""
        return page_code == ALL_PAGES or any(page_code == code for code, _ in self.defaults)

    def redefined(self, key: PageKey, default: Layout) -> "ModePages":
        """Returns the mode pages with another default of a page, which holds wherever the old one did."""
        old = self.defaults[key]
        return ModePages(*({**pages, key: default} if pages[key] == old else pages for pages in self))

    @property
    def _caching(self) -> CachingPage:
        page = self.current[CACHING]
        assert isinstance(page, CachingPage)
        return page

    @property
    def _control(self) -> ControlPage:
        page = self.current[CONTROL]
        assert isinstance(page, ControlPage)
        return page

    def sense(self, page_control: PageControl, page_code: int, subpage_code: int) -> bytes | None:
        """Returns the pages that MODE SENSE asks for, without header and block descriptors.

        page_control   which values
        page_code      0..3Fh, 3Fh for all
        subpage_code   0..FFh, FFh for all of the page
        returns        None when there is no such page or subpage
        Source: SPC4r37 6.13.1
        """
        pages = {
            PageControl.CURRENT: self.current,
            PageControl.CHANGEABLE: {key: CHANGEABLE[key] for key in self.defaults},
            PageControl.DEFAULT: self.defaults,
            PageControl.SAVED: self.stored,
        }[page_control]
        wanted = [page.pack() for key, page in pages.items() if _matches(key, page_code, subpage_code)]
        return b"".join(wanted) or None

    def select(self, pages: bytes, offset: int) -> "ModePages":
        """Returns the mode pages with the values of a MODE SELECT as current ones.

        pages     the parameter list after its block descriptors
        offset    where in the parameter list it starts, for field pointers
        raises    ParameterListLengthError when it ends within a page; InvalidFieldInParameterList for an
                  unknown page, a wrong length, and a bit that cannot be changed
        Source: SPC4r37 6.11, 7.5.6
        """
        current = dict(self.current)
        position = 0
        while position < len(pages):
            key = _page_key(self.defaults, pages, position, offset)
            current[key] = _parse(key, current[key], pages[position:], offset + position)
            position += current[key].size
        return self._replace(current=current)

    def save(self) -> "ModePages":
        """Returns the mode pages with the current values saved.

        Source: SPC4r37 6.11 (SP)
        """
        return self._replace(stored=self.current)

    def reset(self) -> "ModePages":
        """Returns the mode pages after a logical unit reset: the saved values are the current ones.

        Source: SPC4r37 7.5.2, SAM5r21 6.3.3
        """
        return self._replace(current=self.stored)


def _matches(key: PageKey, page_code: int, subpage_code: int) -> bool:
    """Returns True for a page that is asked for; all pages come without subpages or with all of them.

    Source: SPC4r37 6.13.1
    """
    code, subcode = key
    if page_code == ALL_PAGES:
        return subpage_code == ALL_SUBPAGES or subpage_code == subcode == 0
    return page_code == code and subpage_code in (subcode, ALL_SUBPAGES)


def _page_key(known: Mapping[PageKey, Layout], pages: bytes, position: int, offset: int) -> PageKey:
    """Returns which of the known pages starts at position; its header is whole and its length right."""
    try:
        header = PageHeader.unpack(pages, position)
        subpage = SubpageHeader.unpack(pages, position) if header.spf else None
    except LayoutError:
        raise ParameterListLengthError from None
    key = (header.page_code, subpage.subpage_code if subpage else 0)
    at = offset + position
    if key not in known or (subpage and not key[1]):
        raise InvalidFieldInParameterList(at, PageHeader.location("page_code").bit)
    layout, length = (SubpageHeader, subpage.page_length) if subpage else (PageHeader, header.page_length)
    if length != known[key].size - layout.size:
        raise InvalidFieldInParameterList(at + layout.location("page_length").byte)
    return key


def _parse(key: PageKey, before: Layout, pages: bytes, at: int) -> Layout:
    """Returns the new value of the first page; PS is ignored, as initiators send back what they read.

    at   where the page starts in the parameter list
    """
    layout = type(before)
    if len(pages) < layout.size:
        raise ParameterListLengthError
    wrong = layout.reserved_bit(pages)
    after = layout.unpack(pages)
    changed = {}
    for name, old, new in zip(layout.fields, before, after, strict=True):
        if name == "ps" or old == new:
            continue
        changed[name] = new
        if name not in CHANGEABLE_FIELDS.get(key, {}) or (name, new) in RESERVED:
            wrong = wrong or layout.location(name)
    if wrong:
        raise InvalidFieldInParameterList(at + wrong.byte, wrong.bit)
    return before.replace(**changed)
