"""Random sequences of everything that has to do with reservations, against the laws of `reservation_laws`.

The world is that of the conformance cases: five nexuses over the ports P and Q and one unit. Saves may be held on their
way to the state file and may fail, operations may be left at the medium, nexuses come and go, and power is lost.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from iscsi_target.scsi.layouts.block_cdb import Read10, Write10
from iscsi_target.scsi.layouts.cdb import ModeSelect10, PersistentReserveOut, Release6, Release10, Reserve6, Reserve10
from iscsi_target.scsi.layouts.cdb import TestUnitReady as UnitReady
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.layouts.pages import ModeHeader10
from iscsi_target.scsi.layouts.reservation_pages import ReservationHeader
from iscsi_target.scsi.layouts.transport_id import pack_transport_id
from iscsi_target.scsi.nexus import OPERATOR, Nexus
from iscsi_target.scsi.operations import Fault
from iscsi_target.scsi.reservations.personality import InAction, OutAction
from iscsi_target.scsi.reservations.reservation_record import from_record, to_record
from iscsi_target.scsi.reservations.reservation_request import Request
from iscsi_target.scsi.reservations.reservations import Cause, Reservations
from iscsi_target.scsi.state.task import Function, UnitState
from tests.conformance.reservations import world as drawing
from tests.conformance.reservations.world import BLOCK, K1, K2, K3, N4, G, P, Q
from tests.property.reservation_laws import (
    CONFLICT,
    GOOD,
    LOST,
    PREEMPTS,
    REGISTERS,
    frozen,
    permits,
    state_is_sound,
    state_survives,
)
from tests.property.reservation_world import NEXUSES, Ask, Move, ObservedWorld, Sent, answer_of, written

PORTS = tuple(dict.fromkeys(nexus.initiator_port for nexus in (*NEXUSES, N4)))
RESERVATION_CODES = {drawing.PREEMPTED, drawing.RELEASED, drawing.REGISTRATIONS_PREEMPTED}
NOT_STORED = {"5/55/02", "5/55/04", "4/44/00"}
STEPS = 60  # of one sequence

nexuses = st.sampled_from(NEXUSES)
new_keys = st.sampled_from((K1, K2, K3))
keys = st.just(0) | new_keys
legal_types = st.sampled_from((1, 3, 5, 6, 7, 8))
types = legal_types | st.sampled_from((0, 2, 15))
rarely = st.sampled_from((False, False, False, True))
often = st.sampled_from((True, True, True, False))
blocks = st.integers(0, 3)
functions = st.sampled_from([each for each in Function if each is not Function.ABORT_TASK])
faults = st.sampled_from((*[None] * 5, Fault.NO_SPACE, Fault.READ_ONLY))


asks = st.builds(
    Ask,
    action=st.sampled_from([action for action in OutAction if action is not OutAction.REGISTER_AND_MOVE]),
    key=keys,
    new=keys,
    type=types,
    all_tg_pt=st.booleans(),
    spec_i_pt=rarely,
    aptpl=st.booleans(),
    wrong=st.sampled_from((*[""] * 9, "scope", "long", "short")),
    ports=st.lists(st.sampled_from(PORTS), max_size=3),
)
moves = st.builds(
    Move,
    key=keys,
    new=keys,
    to=st.sampled_from((*NEXUSES, N4)),
    unregister=st.booleans(),
    aptpl=often,
    cut=rarely,
)


class ReservationMachine(RuleBasedStateMachine):
    """Nodes that do what they like with the reservations of one unit."""

    def __init__(self) -> None:
        super().__init__()
        self.world = ObservedWorld(UnitState())

    # What the laws need to know

    @property
    def busy(self) -> bool:
        """True while commands wait for a save, so that what they meet is not yet known."""
        return bool(self.world.at_state_file) or any(tag not in self.world.ended for tag in self.world.unseen)

    def request(self, nexus: Nexus, action: OutAction, key: int, new: int, **more) -> Request:
        cause = Cause(f"PERSISTENT RESERVE OUT, {action}", nexus, self.world.now_s + (nexus != OPERATOR))
        nuar = nexus != OPERATOR and self.world.unit.device.modes.no_attention_on_release
        return Request(action, cause, key, new, no_attention_on_release=nuar, **more)

    def own_key(self, nexus: Nexus) -> int:
        return self.world.state.registrations.get(nexus, 0)

    def issue_out(self, sent: Sent, parameters: bytes, length: int | None = None) -> None:
        """Law: a request is answered as the standard says; what is refused changes nothing, and tells nobody."""
        world, request = self.world, sent.request
        assert request is not None
        attention, busy = world.pending(sent.nexus), self.busy
        spc2 = world.unit.device.spc2_reservation.holder
        before, pending = frozen(world.state), world.pending_of_all()
        cdb = PersistentReserveOut(
            service_action=request.action,
            scope=request.scope,
            type=request.type,
            parameter_list_length=len(parameters) if length is None else length,
        )
        tag = world.issue(sent, cdb, parameters)
        if busy or tag not in world.ended:
            return
        said = written(world.ended[tag])
        if said != GOOD:
            assert world.state == before
            assert tag not in world.changed
        if attention:
            assert said is not None
            assert said.startswith("6/") or said == CONFLICT
            return
        if said != GOOD:
            assert world.pending_of_all() == pending
        if spc2 is not None:
            assert said == CONFLICT or not sent.valid
        elif not sent.is_valid(before):
            assert said != GOOD
        elif said in NOT_STORED:
            assert world.disk_fault is not None
            assert answer_of(before, sent.nexus, request) == GOOD
        else:
            assert said == answer_of(before, sent.nexus, request)

    # PERSISTENT RESERVE OUT as nodes send it: with the right key, and mostly with success

    def send(self, nexus: Nexus, action: OutAction, new: int = 0, kind: int = 0, *, aptpl: bool = False) -> None:
        request = self.request(nexus, action, self.own_key(nexus), new, type=kind, aptpl=aptpl)
        self.issue_out(Sent(nexus, request), drawing.basic(request.reservation_key, new, aptpl=aptpl))

    @initialize(registrants=st.lists(st.tuples(nexuses, new_keys)), kind=legal_types, aptpl=st.booleans())
    def set_up(self, registrants, kind, aptpl):
        for nexus, key in registrants:
            self.send(nexus, OutAction.REGISTER, key, aptpl=aptpl)
        for nexus, _ in registrants[:1]:
            self.send(nexus, OutAction.RESERVE, kind=kind)

    @rule(nexus=nexuses, action=st.sampled_from(sorted(REGISTERS)), new=new_keys, leaves=rarely, aptpl=often)
    def register(self, nexus, action, new, leaves, aptpl):
        self.send(nexus, action, 0 if leaves else new, aptpl=aptpl)

    @rule(nexus=nexuses, new=new_keys, kind=legal_types, aptpl=often)
    def register_and_reserve(self, nexus, new, kind, aptpl):
        self.send(nexus, OutAction.REGISTER, new, aptpl=aptpl)
        self.send(nexus, OutAction.RESERVE, kind=kind)

    @rule(nexus=nexuses, kind=types, right=often)
    def release(self, nexus, kind, right):
        state = self.world.state
        if right and state.reservation is not None:
            nexus, kind = next(filter(state.holds, NEXUSES), nexus), state.reservation.type
        self.send(nexus, OutAction.RELEASE, kind=kind)

    @rule(
        nexus=nexuses,
        action=st.sampled_from(sorted(PREEMPTS)),
        victim=st.sampled_from((*NEXUSES, N4)),
        kind=legal_types,
        everybody=rarely,
    )
    def preempt(self, nexus, action, victim, kind, everybody):
        nexus = nexus if nexus in self.world.state.registrations else self.registrant(nexus)
        self.send(nexus, action, 0 if everybody else self.own_key(victim), kind)

    def registrant(self, nexus: Nexus) -> Nexus:
        return next((each for each in NEXUSES if each in self.world.state.registrations), nexus)

    @rule(nexus=nexuses, really=rarely)
    def clear(self, nexus, really):
        if really:
            self.send(self.registrant(nexus), OutAction.CLEAR)

    @rule(nexus=nexuses, move=moves, right=often)
    def move(self, nexus, move, right):
        nexus = next(filter(self.world.state.holds, NEXUSES), nexus) if right else nexus
        self.send_move(nexus, move._replace(key=self.own_key(nexus)))

    def send_move(self, nexus: Nexus, move: Move) -> None:
        request = self.request(
            nexus,
            OutAction.REGISTER_AND_MOVE,
            move.key,
            move.new,
            destination=move.to,
            unregister=move.unregister,
            aptpl=move.aptpl,
        )
        parameters = drawing.moving(move.key, move.new, move.to, unreg=move.unregister, aptpl=move.aptpl)
        self.issue_out(Sent(nexus, request, not move.cut), parameters[:-4] if move.cut else parameters)

    # PERSISTENT RESERVE OUT with anything in it

    @rule(nexus=nexuses, ask=asks, own=often)
    def ask(self, nexus, ask, own):
        ask = ask._replace(key=self.own_key(nexus)) if own else ask
        flags = {"spec_i_pt": ask.spec_i_pt, "all_tg_pt": ask.all_tg_pt, "aptpl": ask.aptpl}
        parameters = drawing.basic(ask.key, ask.new, **flags)
        if ask.spec_i_pt:
            parameters += drawing.listed(b"".join(map(pack_transport_id, ask.ports)))
        whole = ask.wrong not in ("long", "short")
        listing = whole and len(set(ask.ports)) == len(ask.ports)
        sent = Sent(
            nexus,
            self.understood(nexus, ask),
            valid=ask.action is OutAction.REGISTER if ask.spec_i_pt else whole,
            listing=listing or not ask.spec_i_pt,
        )
        self.issue_out(sent, {"long": parameters + b"\0", "short": parameters[:-1]}.get(ask.wrong, parameters))

    def understood(self, nexus: Nexus, ask: Ask) -> Request:
        """Returns what a parameter list asks for.

        Source: SPC4r37 6.16.3, 5.13.7 table 69
        """
        targets = [nexus.target_port]
        if ask.all_tg_pt and ask.action in REGISTERS:
            targets.append(Q if nexus.target_port == P else P)
        others = [port for port in ask.ports if ask.spec_i_pt and port != nexus.initiator_port]
        return self.request(
            nexus,
            ask.action,
            ask.key,
            ask.new,
            scope=1 if ask.wrong == "scope" else 0,
            type=ask.type,
            aptpl=ask.aptpl,
            spec_i_pt=ask.spec_i_pt,
            siblings=tuple(Nexus(nexus.initiator_port, port) for port in targets[1:]),
            listed=tuple(Nexus(each, port) for each in others for port in targets),
        )

    @rule(nexus=nexuses, move=moves)
    def ask_to_move(self, nexus, move):
        self.send_move(nexus, move)

    @rule(action=st.sampled_from((OutAction.CLEAR, *sorted(PREEMPTS))), victim=nexuses, wrong=rarely)
    def order(self, action, victim, wrong):
        """Law: an order of the operator is refused only for want of a victim, and what is refused changes nothing."""
        world, busy, before = self.world, self.busy, frozen(self.world.state)
        request = self.request(OPERATOR, action, 0, drawing.K9 if wrong else self.own_key(victim))
        tag = world.order(request)
        if busy or tag not in world.ended:
            return
        said = written(world.ended[tag])
        assert said == answer_of(before, OPERATOR, request) or (world.disk_fault is not None and said in NOT_STORED)
        assert said == GOOD or world.state == before

    # SPC-2 reservations

    @rule(nexus=nexuses, cdb=st.sampled_from((Reserve6(), Reserve10(), Release6(), Release10())))
    def use_spc2(self, nexus, cdb):
        """Law: RESERVE and RELEASE change no persistent reservation, and conflict while anybody is registered.

        Source: SPC2r20 5.5.1, SPC4r37 5.13.3
        """
        world, busy, attention = self.world, self.busy, self.world.pending(nexus)
        before, holder = frozen(world.state), world.unit.device.spc2_reservation.holder
        tag = world.issue(Sent(nexus), cdb)
        if busy or attention or before.lost:
            return
        said = written(world.ended[tag])
        reserves = isinstance(cdb, Reserve6 | Reserve10)
        after = world.unit.device.spc2_reservation.holder
        if before.registrations:
            assert said == (GOOD if before.exempts(nexus) else CONFLICT)
            assert after is None
        else:
            assert said == (CONFLICT if reserves and holder not in (None, nexus) else GOOD)
            assert after == (holder or nexus if reserves else None if holder == nexus else holder)

    # The medium

    @rule(nexus=nexuses, lba=blocks, writes=st.booleans(), fill=st.integers(1, 255))
    def access(self, nexus, lba, writes, fill):
        """Law: a nexus that table 65 does not permit gets RESERVATION CONFLICT and changes nothing.

        Source: SPC4r37 5.13.1
        """
        world, busy, attention = self.world, self.busy, self.world.pending(nexus)
        before, block = frozen(world.state), world.block(lba)
        spc2 = world.unit.device.spc2_reservation.holder
        cdb = Write10(lba=lba, transfer_length=1) if writes else Read10(lba=lba, transfer_length=1)
        tag = world.issue(Sent(nexus), cdb, bytes([fill]) * BLOCK if writes else b"")
        assert world.state == before
        permitted = permits(before, nexus, writes=writes) and spc2 in (None, nexus)
        if tag not in world.ended:
            assert busy or (permitted and world.at_medium)
        elif not world.slow and not busy:
            said = written(world.ended[tag])
            assert world.block(lba) == (bytes([fill]) * BLOCK if writes and said == GOOD else block)
            if not attention:
                assert said == (CONFLICT if not permitted else LOST if before.lost else GOOD)

    @rule(choice=st.integers(0, 99))
    @precondition(lambda self: self.world.at_medium or self.world.at_state_file)
    def answer(self, choice):
        """The medium finishes one of its operations, or the state file the save that is on its way."""
        tickets = [*self.world.at_medium, *self.world.at_state_file]
        ticket = tickets[choice % len(tickets)]
        if ticket in self.world.at_medium:
            self.world.finish(ticket)
        else:
            self.world.finish_save()

    @rule(slow=rarely, holds=rarely, fault=faults)
    def give_trouble(self, slow, holds, fault):
        """The medium becomes slow or quick again, saves are held or not any more, and the state file fails or not."""
        self.world.slow, self.world.disk_fault = slow, fault
        if not slow:
            self.world.finish_all()
        if not holds:
            self.finish_saves()
        self.world.hold_saves = holds

    def finish_saves(self) -> None:
        self.world.hold_saves = False
        while self.world.at_state_file:
            self.world.finish_save()

    # Everything else

    @rule(nexus=st.none() | nexuses)
    def poll(self, nexus):
        for each in NEXUSES if nexus is None else [nexus]:
            for _ in self.world.pending(each):
                self.world.issue(Sent(each), UnitReady())

    @rule(nexus=nexuses, tas=st.booleans(), nuar=st.booleans(), save=st.booleans())
    def select_modes(self, nexus, tas, nuar, save):
        page = ControlPage(ps=False, tas=tas, nuar=nuar).pack()
        parameters = ModeHeader10().pack() + page
        cdb = ModeSelect10(pf=True, sp=save, parameter_list_length=len(parameters))
        self.world.issue(Sent(nexus), cdb, parameters)

    @rule(nexus=nexuses, function=functions)
    def manage(self, nexus, function):
        """Law: no task management function changes a persistent reservation, and resets end an SPC-2 reservation.

        Source: SPC4r37 5.13.1, SPC2r20 5.5.1
        """
        before = frozen(self.world.state)
        self.world.manage(nexus, function)
        assert self.world.state == before
        if function in (Function.LOGICAL_UNIT_RESET, Function.TARGET_RESET):
            assert self.world.unit.device.spc2_reservation.holder is None
            for each, codes in self.world.told.items():
                codes &= set(self.world.pending(each))
        if function is Function.NEXUS_RESET and nexus in self.world.told:
            self.world.told[nexus] &= set(self.world.pending(nexus))

    @rule(nexus=nexuses, new=new_keys, by=nexuses, function=functions, fault=faults)
    def interrupt_a_save(self, nexus, new, by, function, fault):
        """A function comes while a registration is on its way to the state file."""
        self.poll(None)
        self.world.hold_saves = True
        self.send(nexus, OutAction.REGISTER_AND_IGNORE_EXISTING_KEY, new, aptpl=True)
        self.manage(by, function)
        self.world.disk_fault = fault
        self.finish_saves()
        self.world.disk_fault = None

    @rule(nexus=nexuses, by=nexuses, function=functions)
    def reserve_afresh(self, nexus, by, function):
        """The operator clears everything, a nexus uses RESERVE(6), and a function comes."""
        self.order(OutAction.CLEAR, nexus, False)
        self.poll(None)
        self.use_spc2(nexus, Reserve6())
        self.manage(by, function)

    @rule(nexus=nexuses)
    def log_in_again(self, nexus):
        """Law: registrations and reservations outlive sessions, an SPC-2 reservation does not."""
        self.world.manage(nexus, Function.NEXUS_LOSS)
        self.finish_saves()
        self.world.finish_all()
        self.settle()
        before = frozen(self.world.state)
        self.world.go(nexus)
        self.world.come(nexus)
        assert self.world.state == before
        assert self.world.unit.device.spc2_reservation.holder != nexus

    @rule(happens=rarely, corrupt=rarely)
    def power_cycle(self, happens, corrupt):
        """Law: what a power cycle leaves is what the last APTPL says, and PRGENERATION is zero."""
        if not happens:
            return
        stored, before = self.world.stored, self.world.state_known
        found = Reservations(lost=True) if corrupt else stored.reservations
        kept = None if found is None else from_record(to_record(found))
        assert corrupt or kept == before.stored
        self.world = ObservedWorld(UnitState(stored.mode_pages, kept))
        assert self.world.generation == 0
        assert self.world.state == (kept or Reservations())

    # Invariants

    @invariant()
    def settle(self):
        """Law: what ended GOOD has changed the state, what ended with another status has not."""
        world = self.world
        for tag in sorted(world.unseen & world.ended.keys()):
            world.unseen.remove(tag)
            sent, told = world.sent[tag], world.ended[tag]
            if sent.request is not None and told is not None and told != drawing.ABORTED:
                assert (tag in world.changed) is (told == G)
            if told is not None and told.sense is not None and told.sense[0] == 6:
                world.told[sent.nexus].discard(told.sense[1])

    @invariant()
    def the_state_is_as_the_last_change_left_it(self):
        assert self.world.state == self.world.state_known
        state_is_sound(self.world.state)
        state_survives(self.world.state)

    @invariant()
    def attentions_go_to_whom_the_standard_names(self):
        self.settle()
        for nexus, codes in self.world.told.items():
            assert RESERVATION_CODES & set(self.world.pending(nexus)) == codes

    @invariant()
    def persistent_and_spc2_reservations_exclude_each_other(self):
        if self.world.unit.device.spc2_reservation.holder is not None:
            assert not self.world.state.registrations
            assert self.world.state.reservation is None

    @invariant()
    def what_is_stored_is_what_is_in_memory(self):
        """Law: with APTPL the state file has everything but the generation, and without it nothing."""
        assert self.world.stored.reservations == self.world.state.stored

    @invariant()
    def reports_agree(self):
        """Law: READ KEYS, READ RESERVATION and READ FULL STATUS tell of one state.

        Source: SPC4r37 5.13.6
        """
        world, state = self.world, self.world.state
        if state.lost or world.unit.device.spc2_reservation.holder is not None:
            return
        for nexus in [each for each in NEXUSES if not world.pending(each)][:1]:
            found = world.full_status(nexus)
            assert world.keys(nexus) == [each.key for each in found] == list(state.registrations.values())
            holding = world.holding(nexus)
            held = [each for each in found if each.holder]
            assert bool(held) is (holding is not None)
            if holding is not None:
                assert {each.scope_and_type for each in held} == {(0, holding.type)}
                assert len(held) == (1 if holding.key else len(found))
                assert not holding.key or held[0].key == holding.key
            for action in (InAction.READ_KEYS, InAction.READ_RESERVATION, InAction.READ_FULL_STATUS):
                header = ReservationHeader.unpack(world.read(nexus, action))
                assert header.pr_generation == state.generation

    def teardown(self):
        """Law: when everything has answered, everything has ended."""
        self.world.disk_fault = None
        self.finish_saves()
        self.world.finish_all()
        self.settle()
        assert self.world.unit.open_tasks == 0
        assert not self.world.unseen


TestReservations = ReservationMachine.TestCase
TestReservations.settings = settings(stateful_step_count=STEPS)
