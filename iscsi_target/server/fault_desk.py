"""What the control socket can be asked about the rules by which the target misbehaves."""

import logging

from iscsi_target.faults.reading import RuleError
from iscsi_target.faults.rulebook import BookError
from iscsi_target.scsi.reservations.reservation_record import Record
from iscsi_target.server.faults import Faults
from iscsi_target.server.refused import Refused

log = logging.getLogger(__name__)

REQUESTS = ("faults", "add_fault", "remove_faults", "clear_faults")


def carry_out(faults: Faults, wanted: str, request: Record) -> Record:
    """Carries a request out and returns what is answered.

    wanted    one of REQUESTS
    raises    Refused
    """
    match wanted:
        case "add_fault":
            return {"added": _add(faults, request)}
        case "remove_faults":
            _remove(faults, request)
        case "clear_faults":
            log.info("the operator removes all faults")
            faults.clear()
    return {
        "faults": [
            {"name": name, "rule": rule.text, "matched": matched, "fired": fired}
            for name, rule, matched, fired in faults.rules
        ]
    }


def _add(faults: Faults, request: Record) -> str:
    rule, name = request.get("rule"), request.get("name", "")
    if not isinstance(rule, str) or not isinstance(name, str):
        raise Refused("there is no rule, or its name is no text", 'send "rule": "on in: drop"')
    try:
        added = faults.add(rule, name)
    except RuleError as error:
        raise Refused(f"the rule is wrong: {error.where} {error.what}", error.remedy) from error
    except BookError as error:
        raise Refused(error.what, error.remedy) from error
    log.info("the operator adds fault %s: %s", added, rule)
    return added


def _remove(faults: Faults, request: Record) -> None:
    names = request.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Refused("names is no list of names", 'send "names": ["1"]')
    try:
        faults.remove(*names)
    except BookError as error:
        raise Refused(error.what, error.remedy) from error
    log.info("the operator removes faults %s", ", ".join(names))
