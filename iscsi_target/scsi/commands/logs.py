"""LOG SENSE and LOG SELECT: what may be asked of the pages of `log_pages`, and what is reset in them.

No parameter can be set to a value, as SPC-4 has it for all that there are: they are counted here, or reset.
"""

from collections.abc import Container

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.cdb import LogSelect, LogSense
from iscsi_target.scsi.layouts.log_pages import (
    ALL_SUBPAGES,
    SUPPORTED_PAGES,
    LogPage,
    LogPageHeader,
    LogParameterHeader,
    PageKey,
    framed,
    lists_of,
    pages_of,
)
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Done
from iscsi_target.scsi.status import InvalidFieldInCdb, InvalidFieldInParameterList, ParameterListLengthError
from iscsi_target.wire.layout import Layout, LayoutError

CURRENT_CUMULATIVE, DEFAULT_CUMULATIVE = 0b01, 0b11  # PC. Source: SPC4r37 6.7.1
DEFAULTS = (0b10, 0b11)


def log_sense(device: Device, cdb: LogSense, call: Call) -> Done:
    """Answers LOG SENSE.

    raises   InvalidFieldInCdb for a page that there is not, for a pointer beyond its parameters, and for SP
    Source: SPC4r37 6.8
    """
    key = cdb.page_code, cdb.subpage_code
    if cdb.sp:
        raise InvalidFieldInCdb(LogSense, "sp")
    pages, lists = pages_of(device.statistics), lists_of(device.statistics)
    if key not in pages and key not in lists:
        raise _unsupported(device, LogSense, key)
    body = lists.get(key)
    if body is None:
        found = pages[key].parameters(device.statistics)
        wanted = [parameter for parameter in found if parameter.code >= cdb.parameter_pointer]
        body = b"".join(parameter.pack(cumulative=cdb.pc == CURRENT_CUMULATIVE) for parameter in wanted)
    if not body or (key in lists and cdb.parameter_pointer):
        raise InvalidFieldInCdb(LogSense, "parameter_pointer")
    return Done(framed(key, body)[: cdb.allocation_length])


def _unsupported(device: Device, layout: type[Layout], key: PageKey) -> InvalidFieldInCdb:
    known = {code for code, _ in (*pages_of(device.statistics), SUPPORTED_PAGES)}
    return InvalidFieldInCdb(layout, "subpage_code" if key[0] in known else "page_code")


def parameter_list_length(device: Device, cdb: LogSelect) -> int:
    """Returns the bytes of Data-Out that LOG SELECT asks for."""
    return cdb.parameter_list_length


def log_select(device: Device, cdb: LogSelect, call: Call) -> Done:
    """Answers LOG SELECT; the other nexuses learn that parameters were reset.

    raises   InvalidFieldInCdb for a page that there is not, for what is to be saved, and for PCR or a page code with
             parameters; InvalidFieldInParameterList for a list that is wrong or would change a parameter
    Source: SPC4r37 6.7, 7.3.2
    """
    if cdb.parameter_list_length:
        _check_list(device, cdb, call)
        return Done()
    if cdb.sp and cdb.pc not in DEFAULTS:
        raise InvalidFieldInCdb(LogSelect, "sp")
    names = tuple(name for page in _selected(device, cdb) for name in page.resettable)
    if not names or not (cdb.pcr or cdb.pc == DEFAULT_CUMULATIVE):
        return Done()
    device.statistics.reset(names)
    return Done(attention=AttentionCode.LOG_PARAMETERS_CHANGED)


def _selected(device: Device, cdb: LogSelect) -> list[LogPage]:
    """Returns the pages that LOG SELECT without parameters means.

    Source: SPC4r37 6.7.2 table 185
    """
    key = cdb.page_code, cdb.subpage_code
    pages = pages_of(device.statistics)
    if key == SUPPORTED_PAGES:
        return list(pages.values())
    every = cdb.subpage_code == ALL_SUBPAGES
    meant = [own for own in (*pages, *lists_of(device.statistics)) if own == key or (every and own[0] == cdb.page_code)]
    if not meant:
        raise _unsupported(device, LogSelect, key)
    return [pages[own] for own in meant if own in pages]


def _check_list(device: Device, cdb: LogSelect, call: Call) -> None:
    """Refuses a parameter list that is wrong, or that has a parameter at all; a page without any changes nothing."""
    if cdb.pcr:
        raise InvalidFieldInCdb(LogSelect, "pcr")
    for name in ("page_code", "subpage_code"):
        if getattr(cdb, name):
            raise InvalidFieldInCdb(LogSelect, name)
    parameters = bytes(call.data_out)
    if len(parameters) < cdb.parameter_list_length:
        raise ParameterListLengthError
    at, before = 0, SUPPORTED_PAGES
    while at < len(parameters):
        before = _check_page(cdb, parameters, at, before, pages_of(device.statistics))
        at += LogPageHeader.size


def _check_page(cdb: LogSelect, parameters: bytes, at: int, before: PageKey, pages: Container[PageKey]) -> PageKey:
    """Returns which page has its header there, which has to come after another and has no parameters."""
    try:
        header = LogPageHeader.unpack(parameters, at)
    except LayoutError:
        raise InvalidFieldInParameterList(at) from None
    key = header.page_code, header.subpage_code
    if key not in pages or header.spf != bool(header.subpage_code) or key <= before:
        raise InvalidFieldInParameterList(at)
    if cdb.sp and not header.ds:
        raise InvalidFieldInParameterList(at + LogPageHeader.location("ds").byte)
    if header.page_length:
        start = at + LogPageHeader.size
        is_cut = header.page_length < LogParameterHeader.size or start + header.page_length > len(parameters)
        # a parameter that is whole is unknown, or cannot be set
        raise InvalidFieldInParameterList(at + LogPageHeader.location("page_length").byte if is_cut else start)
    return key
