"""The comparison with LIO: sequences, what counts as a difference, and the report. tests/guest has the real LIO."""

import asyncio
from collections.abc import Mapping

import pytest

from iscsi_target.scsi.reservations.personality import InAction, OutAction, ReservationType
from tools.differentials.cases import cases, held, own, registered, write
from tools.differentials.collection import Collected, Seen, collect, shortened
from tools.differentials.compare import Kind, compare
from tools.differentials.judgements import RULINGS, UNCOVERED, ruling, uncovered
from tools.differentials.report import Compared, document
from tools.differentials.seeded import seeded
from tools.differentials.side import Observation, Played, Registered, State
from tools.differentials.steps import Flags, Sequence, change, look

A_KEY = 0xA1
NAME = "iqn.2026-11.org.example:a"
NOTHING = State()
ONE = (Registered(NAME, A_KEY, False, (0, 0)),)
REGISTER_A = Sequence("x", registered("A"))


def seen(
    *answers: str, state: State = NOTHING, data: bytes = b"", told: Mapping[str, tuple[str, ...]] | None = None
) -> Observation:
    return Observation(answers or ("GOOD",), data, told or {}, state)


def played(*observations: Observation) -> Played:
    return Played(State(), observations)


def kinds(sequence: Sequence, ours: Played, theirs: Played) -> list[Kind]:
    return [found.kind for found in compare(sequence, ours, theirs)]


# The sequences


def test_a_seed_is_always_the_same_sequence() -> None:
    assert seeded(7) == seeded(7)
    assert seeded(7).steps != seeded(8).steps


def test_seeds_have_every_service_action_and_type() -> None:
    steps = [step for seed in range(200) for step in seeded(seed).steps]
    commands = {step.command for step in steps}
    actions = {str(action) for action in (*OutAction, *InAction)} - {str(OutAction.REPLACE_LOST_RESERVATION)}
    assert actions | {"RESERVE(6)", "RELEASE(6)", "WRITE(10)", "READ(10)", "TEST UNIT READY"} <= commands
    assert {"REGISTER with SPEC_I_PT", "REGISTER with ALL_TG_PT", "REGISTER with SPEC_I_PT and ALL_TG_PT"} <= commands
    details = {f"{step.command} {step.detail}" for step in steps}
    for kind in ReservationType:
        assert any(each.startswith("RESERVE ") and f"type {int(kind)}h" in each for each in details)
    assert any("APTPL" in each for each in details)
    assert any("UNREG" in each for each in details)


def test_cases_are_many_and_every_step_can_be_read() -> None:
    found = list(cases())
    assert len(found) > 200
    assert all(sequence.steps and all(map(str, sequence.steps)) for sequence in found)


def test_a_step_tells_what_it_does() -> None:
    flags = Flags(aptpl=True, all_tg_pt=True, listed=())
    assert str(change("B", OutAction.REGISTER, (0, 0xB1), flags=flags)) == (
        "B: REGISTER 0h, B1h, APTPL, ALL_TG_PT, SPEC_I_PT with a list that is wrong"
    )
    assert str(look("C", InAction.READ_KEYS, 8)) == "C: READ KEYS allocation length 8"


# Differences


def test_the_same_is_no_difference() -> None:
    one = played(seen(state=State(1, ONE)))
    assert kinds(REGISTER_A, one, one) == []


def test_numbers_are_compared_by_what_a_step_adds() -> None:
    ours = Played(State(5), (seen(state=State(6, ONE)),))
    theirs = Played(State(9), (seen(state=State(10, ONE)),))
    assert kinds(REGISTER_A, ours, theirs) == []
    more = Played(State(9), (seen(state=State(12, ONE)),))
    assert kinds(REGISTER_A, ours, more) == [Kind("REGISTER", "PRGENERATION", "+1", "+several")]


def test_what_follows_from_an_answer_is_no_difference_of_its_own() -> None:
    ours = played(seen(state=State(1, ONE)))
    theirs = played(seen("5/26/00"))
    assert kinds(REGISTER_A, ours, theirs) == [Kind("REGISTER", "answer", "GOOD", "5/26/00")]


def test_nothing_is_compared_when_the_states_have_parted() -> None:
    sequence = Sequence("x", (*registered("A"), write("A")))
    ours = played(seen(state=State(1, ONE)), seen(state=State(1, ONE)))
    theirs = played(seen("5/26/00"), seen("RESERVATION CONFLICT"))
    assert len(kinds(sequence, ours, theirs)) == 1
    same = played(seen("5/24/00", state=State(1, ONE)), seen("RESERVATION CONFLICT", state=State(1, ONE)))
    assert [kind.command for kind in kinds(sequence, ours, same)] == ["REGISTER", "WRITE(10)"]


def test_nothing_is_compared_behind_a_unit_attention_that_one_of_them_has_left() -> None:
    sequence = Sequence("x", (write("A"), write("A")), asks=False)
    ours = played(seen("RESERVATION CONFLICT"), seen("RESERVATION CONFLICT"))
    theirs = played(seen("6/2A/05", "RESERVATION CONFLICT"), seen("GOOD"))
    assert len(kinds(sequence, ours, theirs)) == 1


def test_an_unseen_reservation_ends_the_comparison() -> None:
    sequence = next(each for each in cases() if each.name == "S2-04")
    conflict = seen("RESERVATION CONFLICT", state=State(1, ONE))
    ours = played(seen(state=State(1, ONE)), conflict)
    theirs = played(seen(state=State(1, ONE)), seen(state=State(withheld=True)))
    assert kinds(sequence, ours, theirs) == [Kind("RESERVE(6)", "answer", "RESERVATION CONFLICT", "GOOD")]


def test_as_many_new_registrations_may_be_those_of_others() -> None:
    two = tuple(Registered(f"iqn.2026-11.org.example:{letter}", A_KEY, False, (0, 0)) for letter in "ab")
    sequence = Sequence("x", (own("A", OutAction.REGISTER, new=A_KEY), write("B")))
    ours = played(seen(state=State(1, two[:1], ports=None)), seen(state=State(1, two[:1], ports=None)))
    theirs = played(seen(state=State(1, two[1:])), seen("BUSY", state=State(1, two[1:])))
    assert kinds(sequence, ours, theirs) == [Kind("REGISTER", "initiators", "", "")]


def test_attentions_are_told_by_whom_they_reach() -> None:
    two = (*ONE, Registered("iqn.2026-11.org.example:b", 0xB1, True, (0, 5)))
    before = State(2, two, (0xB1, 5))
    sequence = Sequence("x", (own("A", OutAction.RELEASE, 5),))
    ours = Played(before, (seen(state=before, told={"B": ("2A/04",), "C": ()}),))
    theirs = Played(before, (seen(state=before, told={"C": ("2A/04",)}),))
    assert set(kinds(sequence, ours, theirs)) == {
        Kind("RELEASE", "told to a holder", "2A/04", ""),
        Kind("RELEASE", "told to a stranger", "", "2A/04"),
    }


@pytest.mark.parametrize(
    ("after", "effect"),
    [
        (State(1, ONE, (A_KEY, 3)), "made, type 3h"),
        (State(1, ONE), "as before"),
    ],
)
def test_a_reservation_is_told_by_what_becomes_of_it(after: State, effect: str) -> None:
    sequence = Sequence("x", (own("A", OutAction.RESERVE, 3),))
    other = Played(State(1, ONE), (seen(state=State(1, ONE, (A_KEY, 8))),))
    (kind,) = kinds(sequence, Played(State(1, ONE), (seen(state=after),)), other)
    assert kind == Kind("RESERVE", "reservation", effect, "made, type 8h")


# Collecting


class Target:
    """Plays a target that refuses a write behind a RESERVE, or does not."""

    def __init__(self, refuses: bool) -> None:
        self.refuses = refuses

    async def play(self, sequence: Sequence) -> Played:
        reserved = any(step.command == "RESERVE" for step in sequence.steps)
        refused = "RESERVATION CONFLICT" if reserved and self.refuses else "GOOD"
        return played(*(seen(refused if step.command == "WRITE(10)" else "GOOD") for step in sequence.steps))


WRITES = Kind("WRITE(10)", "answer", "RESERVATION CONFLICT", "GOOD")


def test_a_sequence_is_cut_behind_the_difference_and_then_made_smaller() -> None:
    long = Sequence("x", (*held(3, "B", "C"), write("A"), write("B"), write("C"), *registered("A")))
    ours, theirs = Target(refuses=True), Target(refuses=False)
    found: Collected = {}
    collect(found, long, asyncio.run(ours.play(long)), asyncio.run(theirs.play(long)))
    assert found[WRITES].times == 3
    assert len(found[WRITES].sequence.steps) == 5
    small = asyncio.run(shortened(long, WRITES, ours, theirs))  # type: ignore[arg-type]  # no sessions here
    assert [step.command for step in small.steps][-1] == "REGISTER"
    cut = asyncio.run(shortened(found[WRITES].sequence, WRITES, ours, theirs))  # type: ignore[arg-type]  # likewise
    assert [step.command for step in cut.steps][-2:] == ["RESERVE", "WRITE(10)"]
    assert len(cut.steps) == 4


# Judging and reporting


def compared(**found: Collected) -> Compared:
    return Compared(9, found.get("strict", {}), found.get("imitation", {}), "6.1")


def shown() -> Seen:
    return Seen(2, Sequence("seed 3", (write("A"),)))


def test_what_is_judged_is_told_with_its_clause() -> None:
    kind = Kind("RESERVE", "answer", "RESERVATION CONFLICT", "2/08/00")
    text = document(compared(strict={kind: shown()}))
    assert "SPC4r37 5.13.7 | this target" in text
    assert "| 2 | seed 3: `A: WRITE(10)` |" in text
    assert "nobody has judged" not in text


def test_what_is_not_judged_is_an_error() -> None:
    kind = Kind("READ KEYS", "answer", "GOOD", "BUSY")
    found = compared(strict={kind: shown()}, imitation={kind: shown()})
    assert found.unknown == [kind, kind]
    assert "## What nobody has judged\n\n- READ KEYS / answer / GOOD / BUSY; 2 times" in document(found)


def test_kinds_of_which_the_same_is_said_are_one_row() -> None:
    conflicts = [Kind(name, "answer", "RESERVATION CONFLICT", "2/08/00") for name in ("RESERVE", "CLEAR")]
    text = document(compared(strict=dict.fromkeys(conflicts, shown())))
    assert "CLEAR, RESERVE: answer RESERVATION CONFLICT here, 2/08/00 there | 4 |" in text


def test_no_judgement_hides_another() -> None:
    """Each judgement decides the kind that has its own patterns as names, so none stands behind one that is wider."""
    for each in RULINGS:
        one = each.judgement
        assert ruling(Kind(one.commands[0], *one[1:4])) is each
    for one in UNCOVERED:
        assert uncovered(Kind(one.commands[0], *one[1:4])) is one
