"""Carries out the sanitize operation of one logical unit, one step after the other.

It belongs to the unit and to no task: what becomes of the SANITIZE command does not matter to it. It begins when no
operation of a task is at the medium any more, and none comes to it then, since every command that would need the
medium is refused.

Before a step it may rest, so that all of them together take as long as the device says. Its own time is only how long
it rests, so it needs no clock. Now and then it stores how far it is, in turn with the commands that store something.

A unit whose medium is to be closed halts it. It then does nothing more, and what is stored goes on when the unit is
opened again.
"""

from collections.abc import Generator
from typing import NamedTuple

from iscsi_target.scsi.operations import MediumError, Outcome
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.sanitization import Sanitization
from iscsi_target.scsi.state.task import Perform, Persist, Rest, Ticket

CHECKPOINT_BYTES = 1 << 30  # after that much it is stored how far it is; what a crash has done twice at most
SHORTEST_REST_S = 0.05  # many short rests would take longer than is said


class Store(NamedTuple):
    """The sanitize operation that the state file is to have from now on, or None."""

    sanitization: Sanitization | None


Result = Outcome | MediumError
Wish = Perform | Store | Rest


class Sanitizer(Ticket):
    """Carries out what the device's `sanitization` says, and is the ticket of what it waits for.

    name     the unit's name
    device   whose sanitization it changes as it goes on
    """

    __slots__ = ("_course", "_device", "_halted", "_name", "_waits", "_wish", "stores")

    def __init__(self, name: str, device: Device) -> None:
        self._name = name
        self._device = device
        self._halted = False
        self.begin()

    def begin(self) -> None:
        """Takes up what the device says; what it was at before must be over."""
        self.stores = False  # True while it waits for the state file
        self._waits = False
        self._course = self._go()
        self._wish: Wish | None = next(self._course, None)

    def refit(self) -> None:
        """Takes in that the unit has got another capacity."""
        found, (block_bytes, _, blocks) = self._device.sanitization, self._device.geometry
        if found is not None:
            self._device.sanitization = found.fitted(blocks * block_bytes, block_bytes)

    def halt(self) -> None:
        """Lets it go no further; it still takes what it waits for."""
        self._halted = True

    def step(self, *, quiet: bool, storing: bool) -> Perform | Persist | Rest | None:
        """Returns what has to be done next, whose end is to be told to `finished`, or None when it has to wait.

        quiet     True when no operation of a task is at the medium
        storing   True when a task waits for the state file
        """
        wish = self._wish
        if self._waits or self._halted or wish is None or not quiet or self._device.features.read_only:
            return None
        if isinstance(wish, Store):
            if storing:
                return None
            self.stores = True
            wish_now: Perform | Persist | Rest = Persist(
                self, self._device.kept()._replace(sanitization=wish.sanitization), self._name
            )
        else:
            wish_now = wish
        self._waits = True
        return wish_now

    def finished(self, result: Result) -> None:
        """Takes in what became of a step; the device says then how far the operation is.

        A fault of the medium of a halted unit says nothing, as the medium may be closed.
        """
        assert self._waits
        self._waits = self.stores = False
        if self._halted and isinstance(self._wish, Perform):
            return
        try:
            self._wish = self._course.send(result)
        except StopIteration:
            self._wish = None

    def _go(self) -> Generator[Wish, Result, None]:
        """Yields what it needs, one after the other, and is sent what became of it."""
        device = self._device
        owed_s, unstored_bytes = 0.0, 0
        while (now := device.sanitization) is not None and not now.failed:
            if now.is_done:
                failed = yield Store(None)
                device.sanitization = now._replace(failed=True) if isinstance(failed, MediumError) else None
                return
            owed_s += device.features.sanitize_s * now.step_bytes / now.total_bytes
            after = now.advanced()
            rests = owed_s >= SHORTEST_REST_S or (owed_s > 0 and after.is_done)
            if rests:
                yield Rest(self, owed_s)
                owed_s = 0.0
            result = yield Perform(self, now.operation(deallocate=device.features.thin), self._name)
            if device.sanitization is not now:  # the unit has been resized meanwhile, so it begins anew
                continue
            if isinstance(result, MediumError):
                device.sanitization = now._replace(failed=True)
                yield Store(device.sanitization)
                return
            device.sanitization = after
            unstored_bytes += now.step_bytes
            if (rests or unstored_bytes >= CHECKPOINT_BYTES) and not after.is_done:
                yield Store(after)  # when that fails, more is done twice after a crash
                unstored_bytes = 0
