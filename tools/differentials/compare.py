"""Compares what two targets made of a sequence, and says of every difference what kind it is.

States are compared by what a step did to them, so that a difference counts once, where it arises. Behind a step after
which the two are in different states nothing is compared: what follows from a difference is none of its own.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from iscsi_target.scsi.layouts.reservation_pages import CapabilitiesData, ReservationHeader
from iscsi_target.scsi.reservations.personality import InAction
from tools.differentials.side import Observation, Played, State, descriptors
from tools.differentials.steps import NEXUSES, Sequence, Step

HIDDEN_STATE = ("RESERVE(6)", "RELEASE(6)")  # what these change, the observer cannot see
PORT_NAME = ",i,0x"
PORTS = "target ports"
INITIATORS = "initiators"


class Kind(NamedTuple):
    """A kind of difference.

    command   of the step
    aspect    what differs
    ours      what our side does
    theirs    what LIO does
    """

    command: str
    aspect: str
    ours: str
    theirs: str


class Difference(NamedTuple):
    """A difference that was seen.

    step   the number of the step that shows it
    """

    kind: Kind
    step: int


Effects = dict[str, str]


def compare(sequence: Sequence, ours: Played, theirs: Played) -> Iterator[Difference]:
    """Returns the differences of a sequence in the order of its steps, as far as the states are the same."""
    before = ours.before, theirs.before
    for number, step in enumerate(sequence.steps):
        seen = ours.seen[number], theirs.seen[number]
        effects = [_effects(step, one, past) for one, past in zip(seen, before, strict=True)]
        if None in (seen[0].state.ports, seen[1].state.ports):
            effects = [{aspect: value for aspect, value in each.items() if aspect != PORTS} for each in effects]
        found = list(_differences(step, *effects))
        yield from (Difference(kind, number) for kind in found)
        if found and (not sequence.asks or _parted(step, *seen)):
            return
        before = seen[0].state, seen[1].state


def _parted(step: Step, ours: Observation, theirs: Observation) -> bool:
    """Tells whether the two may be in different states."""
    one, other = (seen.state._replace(generation=0, ports=()) for seen in (ours, theirs))
    ports = ours.state.ports, theirs.state.ports
    elsewhere = None not in ports and ports[0] != ports[1]
    answered_alike = (ours.answers[-1] == "GOOD") == (theirs.answers[-1] == "GOOD")
    return one != other or elsewhere or (step.command in HIDDEN_STATE and not answered_alike)


OF_THE_STATE = (
    "answer",
    "registrations",
    INITIATORS,
    PORTS,
    "reservation",
    "PTPL_A",
)  # the first that differs has led to the rest


def _differences(step: Step, ours: Effects, theirs: Effects) -> Iterator[Kind]:
    """Returns the kinds of difference that a step shows; values that are too many to be kinds are left out."""
    for aspect in dict.fromkeys((*ours, *theirs)):
        mine, its = ours.get(aspect, ""), theirs.get(aspect, "")
        if mine != its:
            yield Kind(step.command, aspect, *_abridged(aspect, ours=mine, theirs=its))
            if aspect in OF_THE_STATE:
                return


def _abridged(aspect: str, *, ours: str, theirs: str) -> tuple[str, str]:
    if aspect.startswith("data: ") or aspect in (INITIATORS, PORTS):
        return "", ""
    if ours.endswith(" new") and theirs.endswith(" new"):
        return "new", "more new" if int(theirs.split(maxsplit=1)[0]) > int(ours.split(maxsplit=1)[0]) else "fewer new"
    return ours, theirs


def _effects(step: Step, seen: Observation, before: State) -> Effects:
    """Returns what a step did, by aspects."""
    effects = {"answer": ", ".join(seen.answers)}
    if not seen.state.withheld and not before.withheld:
        counted = (seen.state.generation - before.generation) % (1 << 32)
        effects |= {
            "registrations": _registrations_effect(before, seen.state),
            INITIATORS: str(sorted((one.initiator, one.key) for one in seen.state.registrations)),
            PORTS: str(seen.state.ports),
            "reservation": _reservation_effect(before, seen.state),
            "PTPL_A": str(int(seen.state.aptpl)),
            "PRGENERATION": f"+{counted}" if counted < 2 else "+several",
        }
    elif seen.state.withheld:
        effects["reservation"] = "PERSISTENT RESERVE IN conflicts"
    for nexus, codes in seen.attentions.items():
        if codes:
            effects[f"told to {_role(nexus, step, before)}"] = " ".join(codes)
    return effects | _facts(step, seen.data)


def _role(nexus: str, step: Step, before: State) -> str:
    if nexus == step.nexus:
        return "the issuer"
    keys = {registered.initiator: registered for registered in before.registrations}
    mine = keys.get(NEXUSES[nexus].initiator.name)
    if mine is None:
        return "a stranger"
    return "a holder" if mine.holder else "a registrant"


def _registrations_effect(before: State, after: State) -> str:
    """Counts what came and went; a registration whose key alone changed is one that changed."""
    was = Counter((one.initiator, one.key) for one in before.registrations)
    now = Counter((one.initiator, one.key) for one in after.registrations)
    gone, new = was - now, now - was
    names_gone = Counter(name for name, _ in gone.elements())
    names_new = Counter(name for name, _ in new.elements())
    changed = (names_gone & names_new).total()
    counts = {"new": names_new.total() - changed, "gone": names_gone.total() - changed, "changed": changed}
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "as before"


def _reservation_effect(before: State, after: State) -> str:
    holders = [{one.initiator for one in state.registrations if one.holder} for state in (before, after)]
    was, now = (state.reservation[1] if state.reservation else 0 for state in (before, after))
    if was == now:
        same = holders[0] == holders[1] or not now
        return "as before" if same else "of others"
    if not now:
        return "released"
    return f"{'made' if not was else 'changed'}, type {now:X}h"


# The data of commands


def _facts(step: Step, data: bytes) -> Effects:
    """Returns what data says, for comparing; the state is compared elsewhere."""
    if len(data) < ReservationHeader.size or step.command not in map(str, InAction):
        return {}
    if step.command == str(InAction.REPORT_CAPABILITIES):
        return _capabilities(data)
    said = ReservationHeader.unpack(data).additional_length
    facts = {"data: length": str(len(data)), "data: ADDITIONAL LENGTH": str(said)}
    complete = said == len(data) - ReservationHeader.size
    return facts | (_full_status(data) if step.command == str(InAction.READ_FULL_STATUS) and complete else {})


CAPABILITIES = ("length", "rlr_c", "crh", "sip_c", "atp_c", "ptpl_c", "tmv", "allow_commands")
TYPE_BITS = ("wr_ex", "ex_ac", "wr_ex_ro", "ex_ac_ro", "wr_ex_ar", "ex_ac_ar")


def _capabilities(data: bytes) -> Effects:
    found = CapabilitiesData.unpack(data)
    return {name.upper(): str(int(getattr(found, name))) for name in (*CAPABILITIES, *TYPE_BITS)}


def _full_status(data: bytes) -> Effects:
    """Returns what the descriptors say besides key and holder, in an order that is no target's own."""
    found = sorted(
        (text.partition(PORT_NAME)[0], one.relative_target_port_identifier, text, one.all_tg_pt)
        for one, text in descriptors(data)
    )
    return {
        "data: RELATIVE TARGET PORT IDENTIFIER": str([each[1] for each in found]),
        "data: TransportIDs": str(sorted(each[2] for each in found)),
        "data: ALL_TG_PT": str([each[3] for each in found]),
    }
