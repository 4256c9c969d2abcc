"""Commands of every kind, right ones and wrong ones, drawn from a seeded source; what they come to is not said here."""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from iscsi_target.scsi.commands.format_unit import FormatUnit, PatternDescriptor, ShortHeader
from iscsi_target.scsi.commands.sanitize import EXIT_FAILURE_MODE, OverwriteHeader, Sanitize
from iscsi_target.scsi.layouts import block_cdb as sbc
from iscsi_target.scsi.layouts import cdb as spc
from iscsi_target.scsi.layouts.mode_pages import CachingPage, ControlPage
from iscsi_target.scsi.layouts.pages import ModeHeader6, ModeHeader10, UnmapBlockDescriptor, UnmapHeader
from iscsi_target.scsi.nexus import InitiatorPort
from iscsi_target.scsi.reservations.personality import InAction, OutAction
from iscsi_target.scsi.state.sanitization import METHODS, Method
from iscsi_target.scsi.unit.allegiance import CODES_OF_A_GROUP, CONTROL_AT, asks_for_allegiance
from iscsi_target.wire.layout import Layout
from tests.conformance.reservations.world import TYPES
from tests.reservation_data import basic, moving
from tests.unit.scsi.unit_bench import BLOCK, BLOCKS

Kinds = Sequence[Callable[..., Layout]]

HOT_BLOCKS = 6  # so few that commands meet all the time
NACA = 0x04
KEYS = (0, 0xA1, 0xA1, 0xB2, 0xC3)
SIMPLE = (1, 1, 1, 1, 1, 0)
ATTRIBUTES = (*SIMPLE * 6, 2, 3, 4)
READS: Kinds = (sbc.Read10, sbc.Read12, sbc.Read16)
WRITES: Kinds = (sbc.Write10, sbc.Write12, sbc.Write16, sbc.Write16, sbc.OrWrite16)
WRITES_AND_VERIFIES: Kinds = (sbc.WriteAndVerify10, sbc.WriteAndVerify12, sbc.WriteAndVerify16)
VERIFIES: Kinds = (sbc.Verify10, sbc.Verify12, sbc.Verify16)


class Command(NamedTuple):
    """What an initiator sends.

    data        the Data-Out that it has
    immediate   how much of it comes with the command, where the session lets it
    read        how much Data-In it has room for
    flags       W and R, as in the command PDU
    short       True when it answers an R2T with less than it was asked for
    """

    cdb: bytes
    attribute: int
    data: bytes
    immediate: int
    read: int
    flags: tuple[bool, bool]
    short: bool


def packed(cdb: Layout) -> bytes:
    return cdb.pack().ljust(16, b"\0")


class Mix:
    """Draws commands.

    stored   returns the blocks that are on a unit, so that a comparison has a chance
    ports    of whom a registration may be moved to
    """

    def __init__(self, source: random.Random, stored: Callable[[int, int], bytes], ports: Sequence[InitiatorPort]):
        self.random = source
        self._stored = stored
        self._ports = ports
        self._favourites = [*source.sample(COMMON, 2), source.choice(COMMON + MEDIUM)]
        self._number = source.randrange(4)

    def any(self) -> Command:
        """Draws any command with any attribute; some come again and again, as lanes want it."""
        kinds = self._favourites if self.random.random() < 0.85 else [*MEDIUM, *OTHERS]
        cdb, data, read = self.random.choice(kinds)(self)
        return self._sent(cdb, data, read, ATTRIBUTES)

    def again(self, command: Command) -> Command:
        """Draws how the same command comes once more: as it is, or with other data or another attribute."""
        if self.random.random() < 0.5:
            return command
        return self._with(command._replace(attribute=self.random.choice(ATTRIBUTES)), wrong=0.2)

    def common(self) -> Command:
        """Draws a command that changes nothing but blocks and comes in the order of all others."""
        cdb, data, read = self.random.choice([*COMMON, *COMMON, *MEDIUM])(self)
        return self._sent(cdb, data, read, SIMPLE)

    def reserving(self) -> Command:
        """Draws a command about reservations."""
        cdb, data, read = self.random.choice([self._spc2, self._reserve_in, *[self._reserve_out] * 5])()
        return self._sent(cdb, data, read, SIMPLE)

    def taking(self, key: int) -> list[Command]:
        """Draws the commands with which a node registers and reserves, as it is meant to be."""
        register = spc.PersistentReserveOut(service_action=OutAction.REGISTER_AND_IGNORE_EXISTING_KEY)
        reserve = spc.PersistentReserveOut(service_action=OutAction.RESERVE, type=self.random.choice(TYPES))
        lists = (basic(0, key), basic(key))
        return [
            Command(packed(cdb.replace(parameter_list_length=len(data))), 1, data, len(data), 0, (True, False), False)
            for cdb, data in zip((register, reserve), lists, strict=True)
        ]

    def _sent(self, cdb: Layout, data: bytes, read: int, attributes: Iterable[int]) -> Command:
        sent = bytearray(packed(cdb))
        if self.random.random() < 0.04:
            sent[self.random.randrange(16)] ^= 1 << self.random.randrange(8)
        alone = attributes is not SIMPLE  # when an ACA condition begins among others depends on their order
        if asks_for_allegiance(bytes(sent)) != (alone and self.random.random() < 0.02):
            place = CONTROL_AT.get(sent[0] // CODES_OF_A_GROUP)
            if place is not None:
                sent[place] ^= NACA
        immediate = len(data) if self.random.random() < 0.7 else self.random.randrange(len(data) + 1)
        attribute = self.random.choice(list(attributes))
        flags, short = (bool(data), bool(read)), self.random.random() < 0.05
        return self._with(Command(bytes(sent), attribute, data, immediate, read, flags, short), wrong=0.05)

    def _with(self, command: Command, wrong: float) -> Command:
        """Draws other lengths and flags for a command, each as often as `wrong` says."""
        chance, data, read = self.random.random, command.data, command.read
        if chance() < wrong:
            data = self.random.choice((b"", b"", data[:-1], data[:BLOCK], data + bytes(BLOCK), bytes(24)))
        if chance() < wrong:
            read = self.random.choice((0, 1, 20, BLOCK, 2 * BLOCK, 300))
        flags = (bool(data), bool(read))
        if chance() < wrong / 2:
            flags = (chance() < 0.5, chance() < 0.5)
        return command._replace(data=data, immediate=min(command.immediate, len(data)), read=read, flags=flags)

    def _one(self, kinds: Kinds) -> Callable[..., Layout]:
        """Draws a layout, mostly the same one again."""
        return kinds[self._number % len(kinds)] if self.random.random() < 0.9 else self.random.choice(kinds)

    # The medium

    def _lba(self) -> int:
        if self.random.random() < 0.9:
            return self.random.randrange(HOT_BLOCKS)
        return self.random.choice((BLOCKS // 2 - 1, BLOCKS - 2, BLOCKS - 1, BLOCKS, 2**20))

    def _blocks(self) -> int:
        return self.random.choice((1, 1, 1, 2, 3, 3, 0) if self.random.random() < 0.98 else (256, 257))

    def _payload(self, blocks: int) -> bytes:
        length = min(blocks, 4) * BLOCK
        return self.random.randbytes(8).ljust(length, bytes([self.random.randrange(3)]))[:length]

    def _bits(self, *names: str) -> dict[str, bool]:
        return {name: True for name in names if self.random.random() < 0.2}

    def _rare_bits(self, *names: str) -> dict[str, bool]:
        return self._bits(*names) if self.random.random() < 0.2 else {}

    def _read(self) -> tuple[Layout, bytes, int]:
        lba, blocks = self._lba(), self._blocks()
        if self.random.random() < 0.1:
            return sbc.Read6(lba=lba, transfer_length=min(blocks, 3)), b"", blocks * BLOCK
        kind = self._one(READS)
        return kind(lba=lba, transfer_length=blocks, **self._rare_bits("fua", "dpo")), b"", blocks * BLOCK

    def _write(self) -> tuple[Layout, bytes, int]:
        lba, blocks = self._lba(), self._blocks()
        data = self._payload(blocks)
        if self.random.random() < 0.1:
            return sbc.Write6(lba=lba, transfer_length=min(blocks, 3)), data, 0
        kind = self._one(WRITES)
        return kind(lba=lba, transfer_length=blocks, **self._rare_bits("fua", "dpo")), data, 0

    def _write_and_verify(self) -> tuple[Layout, bytes, int]:
        kind, blocks = self._one(WRITES_AND_VERIFIES), self._blocks()
        cdb = kind(lba=self._lba(), transfer_length=blocks, bytchk=self.random.randrange(3))
        return cdb, self._payload(blocks), 0

    def _verify(self) -> tuple[Layout, bytes, int]:
        kind, lba, blocks, bytchk = self._one(VERIFIES), self._lba(), self._blocks(), self.random.randrange(4)
        compared = {1: blocks, 3: 1}.get(bytchk, 0)
        data = self._stored(lba, compared) if self.random.random() < 0.6 else self._payload(compared)
        return kind(lba=lba, verification_length=blocks, bytchk=bytchk), data, 0

    def _compare_and_write(self) -> tuple[Layout, bytes, int]:
        lba, blocks = self._lba(), self.random.choice((1, 1, 1, 1, 0, 2))
        compare = self._stored(lba, blocks) if self.random.random() < 0.6 else self._payload(blocks)
        cdb = sbc.CompareAndWrite(lba=lba, number_of_logical_blocks=blocks, **self._bits("fua"))
        return cdb, compare + self._payload(blocks), 0

    def _write_same(self) -> tuple[Layout, bytes, int]:
        lba, blocks = self._lba(), self.random.choice((1, 2, 3, 3, 0))
        block = bytes(BLOCK) if self.random.random() < 0.3 else self._payload(1)
        if self.random.random() < 0.5:
            return sbc.WriteSame10(lba=lba, number_of_logical_blocks=blocks, **self._bits("unmap")), block, 0
        bits = self._bits("unmap", "ndob")
        data = b"" if "ndob" in bits else block
        return sbc.WriteSame16(lba=lba, number_of_logical_blocks=blocks, **bits), data, 0

    def _unmap(self) -> tuple[Layout, bytes, int]:
        count = self.random.randrange(4)
        ranges = [UnmapBlockDescriptor(lba=self._lba(), number_of_logical_blocks=self._blocks()) for _ in range(count)]
        body = b"".join(each.pack() for each in ranges)
        header = UnmapHeader(unmap_data_length=len(body) + 6, unmap_block_descriptor_data_length=len(body))
        data = header.pack() + body
        return sbc.Unmap(parameter_list_length=len(data)), data, 0

    def _synchronize(self) -> tuple[Layout, bytes, int]:
        kind = self.random.choice((sbc.SynchronizeCache10, sbc.SynchronizeCache16))
        return kind(lba=self._lba(), number_of_logical_blocks=self._blocks()), b"", 0

    def _pre_fetch(self) -> tuple[Layout, bytes, int]:
        kind = self.random.choice((sbc.PreFetch10, sbc.PreFetch16))
        return kind(lba=self._lba(), prefetch_length=self._blocks(), **self._bits("immed")), b"", 0

    def _capacity(self) -> tuple[Layout, bytes, int]:
        ten, sixteen = sbc.ReadCapacity10(lba=self.random.randrange(2)), sbc.ReadCapacity16(allocation_length=32)
        return self.random.choice((ten, sixteen)), b"", 32

    # Everything else

    def _allocation(self) -> tuple[Layout, bytes, int]:
        """Not a common one: what is allocated depends on the neighbours of the blocks that are asked for."""
        return sbc.GetLbaStatus(lba=self._lba(), allocation_length=64), b"", 64

    def _ready(self) -> tuple[Layout, bytes, int]:
        return spc.TestUnitReady(), b"", 0

    def _inquiry(self) -> tuple[Layout, bytes, int]:
        evpd = self.random.random() < 0.5
        page = self.random.choice((0, 0x80, 0x83, 0xB0, 0xB1, 0xB2, 0x55)) if evpd else 0
        return spc.Inquiry(evpd=evpd, page_code=page, allocation_length=96), b"", 96

    def _luns(self) -> tuple[Layout, bytes, int]:
        return spc.ReportLuns(select_report=self.random.choice((0, 2, 1, 9)), allocation_length=64), b"", 64

    def _sense(self) -> tuple[Layout, bytes, int]:
        return spc.RequestSense(allocation_length=96, **self._bits("desc")), b"", 96

    def _supported(self) -> tuple[Layout, bytes, int]:
        options = self.random.randrange(4)
        asked = spc.ReportSupportedOperationCodes(reporting_options=options, requested_operation_code=0x28)
        return asked.replace(allocation_length=200), b"", 200

    def _mode_sense(self) -> tuple[Layout, bytes, int]:
        page, control = self.random.choice((0x3F, 0x0A, 0x08, 0x33)), self.random.randrange(4)
        if self.random.random() < 0.5:
            return spc.ModeSense6(page_control=control, page_code=page, allocation_length=192), b"", 192
        return spc.ModeSense10(page_control=control, page_code=page, allocation_length=192), b"", 192

    def _mode_select(self) -> tuple[Layout, bytes, int]:
        qerr, tst = self.random.choice((0, 0, 0, 1, 3)), self.random.choice((0, 0, 1))
        control = ControlPage(ps=False, qerr=qerr, tst=tst, **self._bits("d_sense", "swp", "tas", "tmf_only"))
        page = self.random.choice((control, CachingPage(ps=False, wce=self.random.random() < 0.5))).pack()
        save = self.random.random() < 0.5
        if self.random.random() < 0.5:
            data = ModeHeader6().pack() + page
            return spc.ModeSelect6(pf=True, sp=save, parameter_list_length=len(data)), data, 0
        data = ModeHeader10().pack() + page
        return spc.ModeSelect10(pf=True, sp=save, parameter_list_length=len(data)), data, 0

    def _log_sense(self) -> tuple[Layout, bytes, int]:
        """Asks for what does not depend on how quick the medium is."""
        page = self.random.choice((0x00, 0x02, 0x03, 0x05, 0x0E, 0x3E))
        return spc.LogSense(page_code=page, pc=self.random.choice((1, 1, 1, 3)), allocation_length=192), b"", 192

    def _log_select(self) -> tuple[Layout, bytes, int]:
        return spc.LogSelect(page_code=self.random.choice((0x00, 0x03, 0x3E)), **self._bits("pcr")), b"", 0

    def _sanitize(self) -> tuple[Layout, bytes, int]:
        if self.random.random() < 0.3:
            header = ShortHeader(ip=True, **self._bits("immed", "fov", "dcrt")).pack()
            pattern = PatternDescriptor(initialization_pattern_type=1, initialization_pattern_length=3).pack() + b"abc"
            fmtdata = self.random.random() < 0.5
            return FormatUnit(fmtdata=fmtdata), header + pattern if fmtdata else b"", 0
        action = self.random.choice((*METHODS, EXIT_FAILURE_MODE))
        data = b""
        if action == Method.OVERWRITE:
            data = OverwriteHeader(overwrite_count=1, initialization_pattern_length=3).pack() + b"abc"
        return Sanitize(service_action=action, parameter_list_length=len(data), **self._bits("immed", "ause")), data, 0

    def _start_stop(self) -> tuple[Layout, bytes, int]:
        start = self.random.random() < 0.8
        return sbc.StartStopUnit(start=start, **self._bits("loej", "no_flush", "immed")), b"", 0

    def _prevent(self) -> tuple[Layout, bytes, int]:
        return sbc.PreventAllowMediumRemoval(prevent=self.random.choice((0, 0, 1))), b"", 0

    def _spc2(self) -> tuple[Layout, bytes, int]:
        return self.random.choice((spc.Reserve6, spc.Reserve10, spc.Release6, spc.Release10))(), b"", 0

    def _reserve_in(self) -> tuple[Layout, bytes, int]:
        action = self.random.choice(list(InAction))
        return spc.PersistentReserveIn(service_action=action, allocation_length=512), b"", 512

    def _reserve_out(self) -> tuple[Layout, bytes, int]:
        action = self.random.choice((*OutAction, OutAction.REGISTER_AND_IGNORE_EXISTING_KEY, OutAction.RESERVE))
        key, new = self.random.choice(KEYS), self.random.choice(KEYS)
        if action is OutAction.REGISTER_AND_MOVE:
            data = moving(key, new, self.random.choice(self._ports), port=self.random.randrange(1, 3))
        else:
            data = basic(key, new, **self._bits("aptpl", "all_tg_pt"))
        kind = self.random.choice(TYPES)
        return spc.PersistentReserveOut(service_action=action, type=kind, parameter_list_length=len(data)), data, 0


COMMON = (Mix._read, Mix._read, Mix._write, Mix._write)
MEDIUM = (
    Mix._write_and_verify,
    Mix._verify,
    Mix._compare_and_write,
    Mix._compare_and_write,
    Mix._write_same,
    Mix._unmap,
    Mix._synchronize,
    Mix._pre_fetch,
    Mix._capacity,
    Mix._ready,
)
OTHERS = (
    Mix._allocation,
    Mix._inquiry,
    Mix._luns,
    Mix._sense,
    Mix._supported,
    Mix._mode_sense,
    Mix._mode_select,
    Mix._log_sense,
    Mix._log_select,
    Mix._sanitize,
    Mix._start_stop,
    Mix._start_stop,
    Mix._prevent,
    Mix._spc2,
    Mix._reserve_in,
    Mix._reserve_out,
    Mix._reserve_out,
)
