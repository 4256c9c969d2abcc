"""The state of one logical unit that command handlers read and change; no tasks, no attentions, no media.

A handler gets the `Device` and may assign its public attributes. What a handler must not touch (the task set, the unit
attentions) is the logical unit's and not reachable from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from iscsi_target.scsi.nexus import Nexus, TargetPort
from iscsi_target.scsi.reservations.personality import STRICT, Personality, Quirk
from iscsi_target.scsi.reservations.reservations import Reservations, Spc2Reservation
from iscsi_target.scsi.state.buffers import Buffers
from iscsi_target.scsi.state.copy_log import CopyLog
from iscsi_target.scsi.state.copy_managers import CopyManagers
from iscsi_target.scsi.state.port_groups import PortGroup, PortGroups
from iscsi_target.scsi.state.rod_tokens import RodTokens
from iscsi_target.scsi.state.sanitization import Sanitization
from iscsi_target.scsi.state.task import UnitState
from iscsi_target.scsi.statistics import Statistics
from iscsi_target.scsi.status import CheckCondition, StatusError

if TYPE_CHECKING:  # mode_pages needs Geometry, so it imports this module
    from iscsi_target.scsi.layouts.mode_pages import ModePages


class Identity(NamedTuple):
    """Who a logical unit is, the same on every port and after every restart.

    vendor     at most 8 ASCII characters
    product    at most 16
    revision   at most 4
    serial     the unit serial number
    naa        the NAA designator, 8 or 16 bytes
    Source: SPC4r37 6.6.2, 7.8.6, 7.8.18
    """

    vendor: str
    product: str
    revision: str
    serial: str
    naa: bytes


class Geometry(NamedTuple):
    """How the medium is divided into blocks.

    block_length_bytes   512 or 4096
    physical_exponent    a physical block has 2 ** physical_exponent logical blocks, 0..15
    length_blocks        capacity, at least 1
    Source: SBC3r36 4.4, 4.6
    """

    block_length_bytes: int
    physical_exponent: int
    length_blocks: int

    @property
    def length_bytes(self) -> int:
        """The capacity in bytes."""
        return self.length_blocks * self.block_length_bytes


class TransferLimits(NamedTuple):
    """How much one command may ask for; each is advertised in VPD page B0h and enforced.

    max_transfer_blocks      of a read, write or verify
    max_caw_blocks           of COMPARE AND WRITE, 0..255; 0 when there is none. libiscsi's
                             CompareAndWrite.InvalidDataOutSize wants 1
    max_unmap_blocks         of all descriptors of an UNMAP together
    max_unmap_descriptors    of an UNMAP
    max_write_same_blocks    of WRITE SAME; 0 when there is none
    unmap_granularity        blocks that are deallocated together, at least 1
    max_atomic_blocks        of WRITE ATOMIC, a multiple of the granularity; 0 when there is none
    atomic_granularity       blocks that an atomic write begins at and has a multiple of, at least 1
    Source: SBC3r36 6.5.3
    """

    max_transfer_blocks: int
    max_caw_blocks: int
    max_unmap_blocks: int
    max_unmap_descriptors: int
    max_write_same_blocks: int
    unmap_granularity: int
    max_atomic_blocks: int = 0
    atomic_granularity: int = 1


class Features(NamedTuple):
    """What a logical unit is able to do.

    read_only       True when the medium cannot be written at all
    removable       True when START STOP UNIT may eject the medium
    thin            True for logical block provisioning: UNMAP and WRITE SAME with UNMAP
    unmaps_any_pattern   True when WRITE SAME with UNMAP deallocates whatever block came with it
    rotation_rate   MEDIUM ROTATION RATE of VPD page B1h; 1 is non-rotating
    explicit_access   True when SET TARGET PORT GROUPS may change states of target port groups
    standby_reads   True when what only reads is processed in the standby state too
    sanitize_s      how long a sanitize operation lasts at least, in seconds, so that a laboratory can see it
    Source: SBC3r36 4.7, 6.5.2
    """

    limits: TransferLimits
    read_only: bool = False
    removable: bool = False
    thin: bool = True
    unmaps_any_pattern: bool = False
    rotation_rate: int = 1
    explicit_access: bool = True
    standby_reads: bool = False
    sanitize_s: float = 0.0


class PortIdentity(NamedTuple):
    """The numbers of a target port in VPD page 83h.

    relative_identifier   RELATIVE TARGET PORT IDENTIFIER, 1..65535
    port_group            TARGET PORT GROUP (of SPC, not of iSCSI), 0..65535
    Source: SPC4r37 7.8.6.8, 7.8.6.9
    """

    relative_identifier: int
    port_group: int


@dataclass(slots=True)
class Device:
    """One logical unit as its command handlers see it.

    identity, geometry, features   as declared above; geometry changes only by LogicalUnit.resize
    modes         the mode pages: current, saved and default values
    ports         every target port that leads to the unit
    port_groups   the target port groups of those ports; none when access is symmetric
    medium        which one it has, the same text as long as it is the same; nothing for one that is always new
    loaded        False after the medium was ejected
    stopped       True after START STOP UNIT stopped the unit
    preventing    the nexuses that prevent the removal of the medium
    personality   how the unit treats reservations
    clock_ahead_ms     how far the unit's clock was set ahead of the host's, or None when it never was
    spc2_reservation   the SPC-2 reservation
    reservations  the persistent reservations
    sanitization  a sanitize operation that has not ended or has failed, or None
    identifying_information   INFORMATION TYPE -> what initiators have set
    faulted       the nexuses with whose commands an ACA condition began that is not cleared
    tokens        that represent data of the unit
    copy_managers the other units of the target, whose tokens it may be sent
    copies        how far copy operations are, as of statistics
    buffers       what initiators have put into the buffers, as of statistics
    tenures       the attached nexuses, each with what is another object after everything was ended that came of it
    statistics    what the unit has done; counting is no assignment, so the epoch stays
    epoch         another object after every assignment to any of these; what was found out in another may not hold
    Source: SAM5r21 4.5.19
    """

    identity: Identity
    geometry: Geometry
    features: Features
    modes: "ModePages"
    ports: Mapping[TargetPort, PortIdentity]
    port_groups: PortGroups = field(default_factory=dict)
    medium: str = ""
    loaded: bool = True
    stopped: bool = False
    preventing: set[Nexus] = field(default_factory=set)
    personality: Personality = STRICT
    clock_ahead_ms: int | None = None
    spc2_reservation: Spc2Reservation = field(default_factory=Spc2Reservation)
    reservations: Reservations = field(default_factory=Reservations)
    sanitization: Sanitization | None = None
    identifying_information: Mapping[int, bytes] = field(default_factory=dict)
    faulted: frozenset[Nexus] = frozenset()
    statistics: Statistics = field(default_factory=Statistics)
    tokens: RodTokens = field(default_factory=RodTokens)
    copy_managers: CopyManagers = field(default_factory=CopyManagers, repr=False, compare=False)
    copies: CopyLog = field(default_factory=CopyLog)
    buffers: Buffers = field(default_factory=Buffers)
    tenures: dict[Nexus, object] = field(default_factory=dict, repr=False, compare=False)
    epoch: object = field(default=None, init=False, repr=False, compare=False)

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        object.__setattr__(self, "epoch", object())

    def forget(self, nexus: Nexus) -> None:
        """Ends what a nexus has here that goes with it: prevention, SPC-2 reservation, ACA, copies, echo buffer.

        Source: SAM5r21 6.3.4, 5.9.5, SBC3r36 5.10, SPC4r37 5.17.5
        """
        self.relieve(nexus)
        self.preventing.discard(nexus)
        self.spc2_reservation = self.spc2_reservation.release(nexus)
        self.copies.leave(nexus)
        self.buffers.leave(nexus)

    def admit(self, nexus: Nexus) -> None:
        """Takes in a nexus that is attached."""
        self.tenures[nexus] = object()

    def leave(self, nexus: Nexus) -> None:
        """Lets a nexus go."""
        self.forget(nexus)
        del self.tenures[nexus]

    def end_visits(self, *nexuses: Nexus) -> None:
        """Lets copies that other units carry out on account of nexuses come no more, of all of them if none is named.

        Source: SPC4r37 5.13.11.2.6, 5.17.5
        """
        for nexus in nexuses or tuple(self.tenures):
            if nexus in self.tenures:
                self.tenures[nexus] = object()

    def reset(self, *, hard: bool) -> None:
        """Takes the state after a logical unit reset, or after a hard one, with which the clock is the host's again.

        Source: SAM5r21 6.3.2, 6.3.3, SBC3r36 5.10, SPC4r37 5.2
        """
        self.preventing.clear()
        self.end_visits()
        self.copies.clear()
        self.buffers.clear()
        self.spc2_reservation = Spc2Reservation()
        self.modes = self.modes.reset()
        self.faulted = frozenset()
        self.stopped = False
        if hard:
            self.clock_ahead_ms = None

    def relieve(self, *nexuses: Nexus) -> None:
        """Clears the ACA conditions of nexuses.

        Source: SAM5r21 5.9.5
        """
        if not self.faulted.isdisjoint(nexuses):
            self.faulted -= frozenset(nexuses)

    def blocks(self, nexus: Nexus) -> bool:
        """Returns True when an ACA condition is in effect in the task set of a nexus.

        Source: SAM5r21 5.9
        """
        return nexus in self.faulted if self.modes.separates_task_sets else bool(self.faulted)

    def path(self, nexus: Nexus) -> PortGroup | None:
        """Returns the target port group by which a nexus comes, or None when access is symmetric."""
        if not self.port_groups or nexus.target_port not in self.ports:
            return None
        return self.port_groups.get(self.ports[nexus.target_port].port_group)

    def task_set_owner(self, nexus: Nexus) -> Nexus | None:
        """Returns whose task set new tasks of a nexus enter, or None for the one that all nexuses share (TST).

        Source: SPC4r37 7.5.8
        """
        return nexus if self.modes.separates_task_sets else None

    def kept(
        self,
        *,
        modes: "ModePages | None" = None,
        reservations: Reservations | None = None,
        identifying_information: Mapping[int, bytes] | None = None,
    ) -> UnitState:
        """Returns what has to outlive the process when these values are adopted; without a value, the current one."""
        return UnitState(
            mode_pages=(modes or self.modes).saved,
            reservations=(reservations or self.reservations).stored,
            sanitization=self.sanitization,
            identifying_information=(
                self.identifying_information if identifying_information is None else identifying_information
            ),
        )

    def spc2_excludes(self, nexus: Nexus) -> bool:
        """Returns True when the SPC-2 reservation keeps a nexus from persistent reservations: its holder too, mostly.

        Source: SPC2r20 5.5.1
        """
        exempt = nexus if self.personality.has(Quirk.SPC2_HOLDER_EXEMPT) else None
        return self.spc2_reservation.holder not in (None, exempt)

    def sense_data(self, error: StatusError) -> bytes:
        """Returns the sense data of an error in the format that D_SENSE asks for; nothing when it has none.

        Source: SPC4r37 4.5, 7.5.8
        """
        if not isinstance(error, CheckCondition):
            return b""
        return error.sense.descriptor() if self.descriptor_sense else error.sense.fixed()

    @property
    def write_cache(self) -> bool:
        """True when a write may complete before it is on stable storage (WCE).

        Source: SBC3r36 6.4.5
        """
        return self.modes.write_cache

    @property
    def descriptor_sense(self) -> bool:
        """True when sense data goes out in descriptor format (D_SENSE).

        Source: SPC4r37 7.5.8
        """
        return self.modes.descriptor_sense

    @property
    def software_write_protect(self) -> bool:
        """True when the control mode page forbids writing (SWP).

        Source: SPC4r37 7.5.8
        """
        return self.modes.software_write_protect

    @property
    def task_aborted_status(self) -> bool:
        """True when a task that another nexus aborts ends with TASK ABORTED, False when in silence (TAS).

        Source: SPC4r37 7.5.8
        """
        return self.modes.task_aborted_status

    @property
    def qerr(self) -> int:
        """What happens to the other tasks after CHECK CONDITION: 0 nothing, 1 all are aborted, 3 those of the nexus.

        Source: SPC4r37 7.5.8
        """
        return self.modes.qerr
