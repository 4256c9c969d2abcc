"""Who is told when the room of a thin unit passes a threshold of its mode page.

An event is the passing, not the state: it comes again only after the count has been on the other side, or the threshold
was set anew.
"""

from iscsi_target.scsi.attention import AttentionCode, with_information
from iscsi_target.scsi.device import Device
from iscsi_target.scsi.nexus_table import NexusTable
from iscsi_target.scsi.threshold_pages import LogicalBlockProvisioningPage

AVAILABLE_AT = LogicalBlockProvisioningPage.location("available_enabled").byte
USED_AT = LogicalBlockProvisioningPage.location("used_enabled").byte


class ThresholdWatch:
    """Tells the nexuses of one unit that has resources when one of them passes its threshold.

    device, nexuses   of the unit
    """

    def __init__(self, device: Device, nexuses: NexusTable) -> None:
        self._device = device
        self._nexuses = nexuses
        self._reached: frozenset[tuple[int, int]] = frozenset()  # descriptor and count

    def provisioned(self, *, used_bytes: int, available_bytes: int) -> None:
        """Takes in how much the unit has allocated, and how much it can still allocate; it has resources.

        Source: SBC3r36 4.7.3.7
        """
        resources = self._device.statistics.resources
        assert resources is not None
        resources.used, resources.available = resources.sets(used_bytes), resources.sets(available_bytes)
        self.look()

    def look(self) -> None:
        """Establishes a unit attention for every threshold that is reached and was not before.

        INFORMATION is where its descriptor stands in the mode page.
        Source: SBC3r36 4.7.3.7, 6.4.7
        """
        now = frozenset(self._reached_now())
        for offset, _ in sorted(now - self._reached):
            code = with_information(AttentionCode.THIN_PROVISIONING_SOFT_THRESHOLD_REACHED, offset)
            self._nexuses.establish(code)
        self._reached = now

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
