"""The rows of third-party copy commands in the command table, and what copy managers ask of each other.

Reading by a token is granted as reading is, and writing by one as writing is; nobody is kept from asking how a copy
is. What may be copied from another unit by a token has been granted there when the token was made; a copy without one
is granted as reading and writing are, piece by piece.
"""

from collections.abc import Mapping

from iscsi_target.scsi.commands.command import Command, Row, command
from iscsi_target.scsi.commands.copy_results import (
    receive_copy_failure_details,
    receive_copy_operating_parameters,
    receive_copy_status,
)
from iscsi_target.scsi.commands.copy_status import (
    copy_operation_abort,
    receive_copy_status_lid4,
    receive_rod_token_information,
)
from iscsi_target.scsi.commands.extended_copy import extended_copy, extended_copy_lid4, wanted_by_extended_copy
from iscsi_target.scsi.commands.rows import ALWAYS, AS_READ, AS_WRITE, UNCONDITIONALLY, medium_row
from iscsi_target.scsi.commands.token_commands import (
    populate_token,
    wanted_by_populate_token,
    wanted_by_write_using_token,
    write_using_token,
)
from iscsi_target.scsi.commands.token_copy import fetch_rod
from iscsi_target.scsi.commands.unit_copy import read_for_copy, write_for_copy
from iscsi_target.scsi.layouts.copy_cdb import (
    ExtendedCopyLid1,
    ExtendedCopyLid4,
    ReadForCopy,
    ReceiveCopyFailureDetails,
    ReceiveCopyOperatingParameters,
    ReceiveCopyStatusLid1,
    WriteForCopy,
)
from iscsi_target.scsi.layouts.token_cdb import (
    CopyOperationAbort,
    FetchRod,
    PopulateToken,
    ReceiveCopyStatusLid4,
    ReceiveRodTokenInformation,
    WriteUsingToken,
)
from iscsi_target.wire.layout import Layout

COPY_ROWS: tuple[Command, ...] = (
    command(
        medium_row("EXTENDED COPY(LID1)", "SPC4r37 6.5", AS_WRITE),
        ExtendedCopyLid1,
        extended_copy,
        wanted_by_extended_copy,
    ),
    command(
        medium_row("EXTENDED COPY(LID4)", "SPC4r37 6.4", AS_WRITE),
        ExtendedCopyLid4,
        extended_copy_lid4,
        wanted_by_extended_copy,
    ),
    command(
        medium_row("POPULATE TOKEN", "SBC3r36 5.7", AS_READ),
        PopulateToken,
        populate_token,
        wanted_by_populate_token,
    ),
    command(
        medium_row("WRITE USING TOKEN", "SBC3r36 5.46", AS_WRITE),
        WriteUsingToken,
        write_using_token,
        wanted_by_write_using_token,
    ),
    command(
        Row(name="COPY OPERATION ABORT", access=AS_WRITE, clause="SPC4r37 6.3"),
        CopyOperationAbort,
        copy_operation_abort,
    ),
    command(
        Row(name="RECEIVE COPY STATUS(LID1)", access=ALWAYS, clause="SPC4r37 6.25"),
        ReceiveCopyStatusLid1,
        receive_copy_status,
    ),
    command(
        Row(name="RECEIVE COPY OPERATING PARAMETERS", access=ALWAYS, clause="SPC4r37 6.22"),
        ReceiveCopyOperatingParameters,
        receive_copy_operating_parameters,
    ),
    command(
        Row(name="RECEIVE COPY FAILURE DETAILS(LID1)", access=ALWAYS, clause="SPC4r37 6.23"),
        ReceiveCopyFailureDetails,
        receive_copy_failure_details,
    ),
    command(
        Row(name="RECEIVE COPY STATUS(LID4)", access=ALWAYS, clause="SPC4r37 6.24"),
        ReceiveCopyStatusLid4,
        receive_copy_status_lid4,
    ),
    command(
        Row(name="RECEIVE ROD TOKEN INFORMATION", access=ALWAYS, clause="SPC4r37 6.26"),
        ReceiveRodTokenInformation,
        receive_rod_token_information,
    ),
)

# What a copy manager is asked by another one, or by itself; no initiator can send it. Source: none, it is ours
ASKED: Mapping[type[Layout], Command] = {
    FetchRod: command(
        Row(
            name="read for a token",
            access=UNCONDITIONALLY,
            clause="SPC4r37 5.17.6.6",
            attention=False,
            medium_access=True,
        ),
        FetchRod,
        fetch_rod,
    ),
    ReadForCopy: command(
        medium_row("read for a copy", "SPC4r37 5.17.3", AS_READ)._replace(attention=False),
        ReadForCopy,
        read_for_copy,
    ),
    WriteForCopy: command(
        medium_row("write for a copy", "SPC4r37 5.17.3", AS_WRITE)._replace(attention=False),
        WriteForCopy,
        write_for_copy,
    ),
}
