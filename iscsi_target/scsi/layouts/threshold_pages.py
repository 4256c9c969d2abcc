"""The mode pages that only a logical unit with provisioning thresholds has."""

from iscsi_target.wire.layout import B3, B6, B7, U8, U16, U24, U32, U64, Bit, Layout

DECREASING, INCREASING = 0b000, 0b001  # THRESHOLD ARMING. Source: SBC3r36 6.4.7
AVAILABLE, USED = 0x01, 0x02  # THRESHOLD RESOURCE, and the parameter codes of the log page. Source: SBC3r36 6.3.4


class ReadWriteErrorRecoveryPage(Layout):
    """The read-write error recovery mode page; nothing is recovered here, so only LBPERE means something.

    Source: SBC3r36 6.4.8
    """

    ps: Bit = True
    spf: Bit = False
    page_code: B6 = 0x01
    page_length: U8 = 0x0A
    awre: Bit = False
    arre: Bit = False
    tb: Bit = False
    rc: Bit = False
    eer: Bit = False
    per: Bit = False
    dte: Bit = False
    dcr: Bit = False
    read_retry_count: U8 = 0
    _1: U24 = 0
    lbpere: Bit = True
    _2: B7 = 0
    write_retry_count: U8 = 0
    _3: U8 = 0
    recovery_time_limit: U16 = 0


class LogicalBlockProvisioningPage(Layout):
    """The logical block provisioning mode page with a threshold descriptor for each of two resources.

    Each nexus is told (SITUA is zero): which one caused the event is not known when it is found out.
    Source: SBC3r36 6.4.7
    """

    ps: Bit = True
    spf: Bit = True
    page_code: B6 = 0x1C
    subpage_code: U8 = 0x02
    page_length: U16 = 0x1C
    _1: B7 = 0
    situa: Bit = False
    _2: U24 = 0
    _3: U64 = 0
    available_enabled: Bit = False
    _4: Bit = False
    available_threshold_type: B3 = 0
    available_threshold_arming: B3 = DECREASING
    available_threshold_resource: U8 = AVAILABLE
    _5: U16 = 0
    available_threshold_count: U32 = 0
    used_enabled: Bit = False
    _6: Bit = False
    used_threshold_type: B3 = 0
    used_threshold_arming: B3 = INCREASING
    used_threshold_resource: U8 = USED
    _7: U16 = 0
    used_threshold_count: U32 = 0
