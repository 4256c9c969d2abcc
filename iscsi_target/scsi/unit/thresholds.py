"""Who is told when the room of a thin unit passes a threshold of its mode page.

An event is the passing, not the state: it comes again only after the count has been on the other side, or the threshold
was set anew. A count that goes to and fro is no news each time: of one threshold initiators are told once in five
minutes, and of what came about meanwhile then, if it is still so.
"""

from iscsi_target.scsi.attention import AttentionCode, with_information
from iscsi_target.scsi.layouts.threshold_pages import LogicalBlockProvisioningPage
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.unit.nexus_table import NexusTable

QUIET_S = 300.0  # after a threshold was told, until it may be told again. Source: SBC3r36 4.7.3.7
NEVER_S = float("-inf")
AVAILABLE_AT = LogicalBlockProvisioningPage.location("available_enabled").byte
USED_AT = LogicalBlockProvisioningPage.location("used_enabled").byte


class ThresholdWatch:
    """Tells the nexuses of one unit that has resources when one of them passes its threshold.

    device, nexuses   of the unit

    now_s             what time it is, in seconds since the epoch, as far as anybody has said
    """

    def __init__(self, device: Device, nexuses: NexusTable) -> None:
        self._device = device
        self._nexuses = nexuses
        self.now_s = 0.0
        self._reached: frozenset[tuple[int, int]] = frozenset()  # descriptor and count, of what was told
        self._told_last: dict[int, tuple[int, float]] = {}  # count and time, by descriptor

    def provisioned(self, *, used_bytes: int, available_bytes: int, now_s: float) -> None:
        """Takes in how much the unit has allocated, and how much it can still allocate; it has resources.

        Source: SBC3r36 4.7.3.7
        """
        resources = self._device.statistics.resources
        assert resources is not None
        self.now_s = now_s
        resources.used, resources.available = resources.sets(used_bytes), resources.sets(available_bytes)
        self.look()

    def look(self) -> None:
        """Establishes a unit attention for every threshold that is reached and was not before, if it may be told.

        INFORMATION is where its descriptor stands in the mode page.
        Source: SBC3r36 4.7.3.7, 6.4.7
        """
        reached = frozenset(self._reached_now())
        told = reached & self._reached
        for offset, count in sorted(reached - told):
            last_count, last_s = self._told_last.get(offset, (count, NEVER_S))
            if count == last_count and self.now_s - last_s < QUIET_S:
                continue
            code = with_information(AttentionCode.THIN_PROVISIONING_SOFT_THRESHOLD_REACHED, offset)
            self._nexuses.establish(code)
            self._told_last[offset] = (count, self.now_s)
            told |= {(offset, count)}
        self._reached = told

    def _reached_now(self) -> list[tuple[int, int]]:
        resources, page = self._device.statistics.resources, self._device.modes.thresholds
        found: list[tuple[int, int]] = []
        if resources is None or page is None:
            return found
        if page.available_enabled and resources.available <= page.available_threshold_count:
            found.append((AVAILABLE_AT, page.available_threshold_count))
        if page.used_enabled and resources.used >= page.used_threshold_count:
            found.append((USED_AT, page.used_threshold_count))
        return found
