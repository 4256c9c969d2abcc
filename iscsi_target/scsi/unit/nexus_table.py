"""The nexuses that a logical unit knows, the unit attentions of each and what it may do; no tasks, no reservations.

What a nexus may do is found out once and looked up until something changes, because it is asked before every command.
It is kept beside the attentions since each of them changes it; whatever else it depends on is an epoch here.
"""

from collections.abc import Iterator

from iscsi_target.scsi.attention import PREVIOUS_STATUS, AttentionCode, Attentions
from iscsi_target.scsi.commands.command import Command
from iscsi_target.scsi.commands.shortcut import Shortcut
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.profiles import STANDARD, Choices
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.status import Status

MAX_REMEMBERED = 4096  # detached nexuses; one that was forgotten is told of a power on again, which does no harm

# SAM5r21 5.14 allows the general code in place of POWER ON OCCURRED. `iscsi-ls -s` of libiscsi 1.19 and 1.20 tries
# again after this one only, and otherwise ends with "TESTUNITREADY failed".
POWER_ON = AttentionCode.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED


class Standing:
    """What a nexus is to be told, and which of the commands with a shortcut it may send in an epoch of the device.

    attentions   its unit attentions
    admitted     first byte of the CDB -> the shortcut
    epoch        the epoch in which they were admitted
    owner        whose task set the tasks of the nexus enter in that epoch, as `TaskSets.enter` wants it
    choices      how its initiator is treated where initiators disagree; of no effect on what has a shortcut
    """

    __slots__ = ("admitted", "attentions", "choices", "epoch", "owner")

    def __init__(self, attentions: Attentions, choices: Choices) -> None:
        self.attentions = attentions
        self.choices = choices
        self.admitted: dict[bytes, Shortcut] = {}
        self.epoch: object = None
        self.owner: Nexus | None = None

    def change(self, attentions: Attentions) -> None:
        """Takes other attentions; what was admitted before may not be any more."""
        self.attentions = attentions
        self.admitted.clear()


class NexusTable:
    """Who is attached to one logical unit, and who has been since it started.

    Source: SAM5r21 5.14, 6.2
    """

    def __init__(self) -> None:
        self._attached: dict[Nexus, Standing] = {}
        self._remembered: dict[Nexus, None] = {}

    def __contains__(self, nexus: object) -> bool:
        return nexus in self._attached

    def __iter__(self) -> Iterator[Nexus]:
        return iter(self._attached)

    def __len__(self) -> int:
        return len(self._attached)

    def attach(self, nexus: Nexus, choices: Choices = STANDARD.choices) -> None:
        """Takes in a nexus: it learns of the power on the first time, and later that it was lost in between.

        Source: SAM5r21 6.3.1, 6.3.4
        """
        assert nexus not in self._attached
        code = POWER_ON
        if nexus in self._remembered:
            del self._remembered[nexus]
            code = AttentionCode.I_T_NEXUS_LOSS_OCCURRED
        self._attached[nexus] = Standing(Attentions((code,)), choices)

    def detach(self, nexus: Nexus) -> None:
        """Lets a nexus go and its attentions with it.

        Source: SAM5r21 6.3.4
        """
        standing = self._attached.pop(nexus)
        if POWER_ON in standing.attentions.pending:
            return  # it has not been told yet, so it is as new as before
        self._remembered[nexus] = None
        if len(self._remembered) > MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]

    def establish(self, code: int, *, except_nexus: Nexus | None = None) -> None:
        """Makes a condition pending for every attached nexus but one.

        Source: SAM5r21 5.14
        """
        for nexus, standing in self._attached.items():
            if nexus != except_nexus:
                standing.change(standing.attentions.establish(code))

    def establish_for(self, nexus: Nexus, code: int) -> None:
        """Makes a condition pending for one attached nexus.

        Source: SAM5r21 5.14
        """
        standing = self._attached[nexus]
        standing.change(standing.attentions.establish(code))

    def first(self, nexus: Nexus) -> int | None:
        """Returns the condition that a nexus is told next, or None."""
        return self._attached[nexus].attentions.first

    def take(self, nexus: Nexus, *, interlocked: bool = False) -> int | None:
        """Returns the condition that a nexus is told by CHECK CONDITION now, or None.

        interlocked   False clears it; True leaves that to REQUEST SENSE
        Source: SAM5r21 5.14, SPC4r37 7.5.8 (UA_INTLCK_CTRL)
        """
        standing = self._attached[nexus]
        code = standing.attentions.first
        if code is not None and not interlocked:
            standing.change(standing.attentions.without(code))
        return code

    def establish_refused(self, nexus: Nexus, status: Status) -> None:
        """Makes it pending for an attached nexus that a command of it was not begun; once until REQUEST SENSE.

        status   other ones than those of PREVIOUS_STATUS do nothing
        Source: SPC4r37 7.5.8 (UA_INTLCK_CTRL = 11b)
        """
        code = PREVIOUS_STATUS.get(status)
        if code is not None and not set(self._attached[nexus].attentions.pending) & set(PREVIOUS_STATUS.values()):
            self.establish_for(nexus, code)

    def withdraw(self, nexus: Nexus, code: int) -> None:
        """Clears a condition that a nexus has learned of in another way.

        Source: SPC4r37 6.33, SAM5r21 5.14
        """
        standing = self._attached[nexus]
        standing.change(standing.attentions.without(code))

    def standing(self, nexus: Nexus) -> Standing:
        """Returns what is kept of an attached nexus, the same until it is detached."""
        return self._attached[nexus]

    def admit(self, nexus: Nexus, command: Command, device: Device) -> None:
        """Notes that a command of a nexus is admitted, until something changes; of one that is attached only.

        command   has a shortcut
        """
        standing = self._attached.get(nexus)
        if standing is None or command.shortcut is None:
            return
        if standing.epoch is not device.epoch:
            standing.epoch = device.epoch
            standing.owner = device.task_set_owner(nexus)
            standing.admitted.clear()
        if command.first_byte not in standing.admitted:
            standing.admitted[command.first_byte] = command.shortcut(device)
