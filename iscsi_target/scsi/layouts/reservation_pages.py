"""Layouts of the parameter data of PERSISTENT RESERVE IN and the parameter lists of PERSISTENT RESERVE OUT."""

from iscsi_target.wire.layout import B2, B3, B4, B6, B7, U8, U16, U24, U32, U64, Bit, Layout


class ReservationHeader(Layout):
    """What READ KEYS, READ RESERVATION and READ FULL STATUS parameter data begin with.

    Source: SPC4r37 6.15.2, 6.15.3, 6.15.5
    """

    pr_generation: U32 = 0
    additional_length: U32 = 0


class ReservationKey(Layout):
    """A key in READ KEYS parameter data.

    Source: SPC4r37 6.15.2
    """

    reservation_key: U64 = 0


class ReservationDescriptor(Layout):
    """The reservation in READ RESERVATION parameter data.

    Source: SPC4r37 6.15.3
    """

    reservation_key: U64 = 0
    _1: U32 = 0
    _2: U8 = 0
    scope: B4 = 0
    type: B4 = 0
    _3: U16 = 0


class CapabilitiesData(Layout):
    """REPORT CAPABILITIES parameter data.

    Source: SPC4r37 6.15.4
    """

    length: U16 = 8
    rlr_c: Bit = False
    _1: B2 = 0
    crh: Bit = False
    sip_c: Bit = False
    atp_c: Bit = False
    _2: Bit = False
    ptpl_c: Bit = False
    tmv: Bit = True
    allow_commands: B3 = 0
    _3: B3 = 0
    ptpl_a: Bit = False
    wr_ex_ar: Bit = True
    ex_ac_ro: Bit = True
    wr_ex_ro: Bit = True
    _4: Bit = False
    ex_ac: Bit = True
    _5: Bit = False
    wr_ex: Bit = True
    _6: Bit = False
    _7: B7 = 0
    ex_ac_ar: Bit = True
    _8: U16 = 0


class FullStatusDescriptor(Layout):
    """A full status descriptor up to its TransportID.

    Source: SPC4r37 6.15.5
    """

    reservation_key: U64 = 0
    _1: U32 = 0
    _2: B6 = 0
    all_tg_pt: Bit = False
    r_holder: Bit = False
    scope: B4 = 0
    type: B4 = 0
    _3: U32 = 0
    relative_target_port_identifier: U16 = 0
    additional_descriptor_length: U32 = 0


class BasicParameterList(Layout):
    """The parameter list of every service action but REGISTER AND MOVE; TransportIDs may follow.

    Source: SPC4r37 6.16.3
    """

    reservation_key: U64 = 0
    service_action_reservation_key: U64 = 0
    _1: U32 = 0
    _2: B4 = 0
    spec_i_pt: Bit = False
    all_tg_pt: Bit = False
    _3: Bit = False
    aptpl: Bit = False
    _4: U24 = 0


class TransportIdList(Layout):
    """What is before the TransportIDs of SPEC_I_PT.

    Source: SPC4r37 6.16.3
    """

    transportid_parameter_data_length: U32 = 0


class MoveParameterList(Layout):
    """The parameter list of REGISTER AND MOVE up to its TransportID.

    Source: SPC4r37 6.16.4
    """

    reservation_key: U64 = 0
    service_action_reservation_key: U64 = 0
    _1: U8 = 0
    _2: B6 = 0
    unreg: Bit = False
    aptpl: Bit = False
    relative_target_port_identifier: U16 = 0
    transportid_length: U32 = 0


class TransportIdHeader(Layout):
    """What a TransportID begins with.

    Source: SPC4r37 7.6.4.1, 7.6.4.6
    """

    format_code: B2 = 0
    _1: B2 = 0
    protocol_identifier: B4 = 0
    _2: U8 = 0
    additional_length: U16 = 0
