"""What goes into a transition of persistent reservations, and what comes out of it; values only."""

from typing import NamedTuple

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.reservations.reservations import LU_SCOPE, Cause, Reservations
from iscsi_target.scsi.reservations.rules import Rule


class Request(NamedTuple):
    """A PERSISTENT RESERVE OUT command, its parameter list understood.

    cause          the command itself
    scope, type    as in the CDB, whatever they are
    no_attention_on_release   NUAR of the control mode page
    siblings       with ALL_TG_PT: the nexuses of the same initiator port through the other target ports
    listed         with SPEC_I_PT: the nexuses of the listed initiator ports, none twice
    destination    with REGISTER AND MOVE: the nexus that is to hold the reservation
    unregister     UNREG
    Source: SPC4r37 6.16
    """

    action: OutAction
    cause: Cause
    reservation_key: int = 0
    service_action_reservation_key: int = 0
    scope: int = LU_SCOPE
    type: int = 0
    aptpl: bool = False
    spec_i_pt: bool = False
    no_attention_on_release: bool = False
    siblings: tuple[Nexus, ...] = ()
    listed: tuple[Nexus, ...] = ()
    destination: Nexus | None = None
    unregister: bool = False


class Told(NamedTuple):
    """A nexus is to be told by a unit attention, if it has a session."""

    nexus: Nexus
    code: AttentionCode


class ToldAll(NamedTuple):
    """Every nexus that has a session is to be told by a unit attention, registered or not, but one or none."""

    code: AttentionCode
    except_nexus: Nexus | None


class TasksAborted(NamedTuple):
    """The tasks of a nexus are to be aborted; its prevention of medium removal and its ACA condition end."""

    nexus: Nexus


class AllegiancesCleared(NamedTuple):
    """Every ACA condition ends, and the tasks with the ACA attribute are to be aborted."""


Consequence = Told | ToldAll | TasksAborted | AllegiancesCleared


class Transition(NamedTuple):
    """What a request leads to.

    rule           what was done
    consequences   in the order in which they are to be carried out
    removed        the nexuses that are not registered any more
    """

    state: Reservations
    rule: Rule
    consequences: tuple[Consequence, ...] = ()
    removed: tuple[Nexus, ...] = ()
