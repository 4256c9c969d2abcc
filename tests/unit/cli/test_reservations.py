"""`iscsi-target reservations` against answers of the test; running servers are in tests/endtoend."""

import json
import re
from pathlib import Path

import pytest

from iscsi_target.cli import main
from iscsi_target.cli import reservations as command
from iscsi_target.cli.control_client import EXIT_INTERRUPTED, EXIT_UNDECIDED, unanswered
from iscsi_target.cli.reservations import Options, run
from iscsi_target.config.values import ConfigError
from iscsi_target.scsi.layouts.reservation_pages import CapabilitiesData
from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.personality import ReservationType
from iscsi_target.scsi.reservations.reservation_record import nexus_record, to_record
from iscsi_target.scsi.reservations.reservations import Cause, Reservation, Reservations

A = Nexus(InitiatorPort("iqn.2026-01.org.example:a", bytes(6)), TargetPort("iqn.2026-01.org.example:t", 1))
HELD = Reservations({A: 0xA}, Reservation(ReservationType.WRITE_EXCLUSIVE, A, Cause("RESERVE", A, 0.0)), generation=2)
UNIT = {
    "unit": "disk0",
    "identity": {"vendor": "ISCSITGT", "product": "Virtual disk", "revision": "0001"},
    "personality": "strict",
    "has_persistent_reservations": True,
    "capabilities": {name: getattr(CapabilitiesData(), name) for name in CapabilitiesData.fields},
    "ports": [{"target": A.target_port.name, "portal_group_tag": 1, "relative_identifier": 5}],
    "spc2_holder": None,
    "reservations": to_record(HELD),
}
ENTRY = {"number": 1, "time": 1000.5, "times": 1, "text": "RESERVE from iqn.a: GOOD: the nexus holds the reservation"}
INQUIRY = "  ISCSITGT  Virtual disk      0001\n  Peripheral device type: disk\n"


@pytest.fixture
def server(monkeypatch):
    """A list of what the server answers before it ends; exceptions in it are raised. Requests are in `server.asked`."""

    class Answers(list):
        asked: list[tuple[Path, dict]] = []

    answers = Answers()
    answers.asked = []

    def ask(state, request):
        answers.asked.append((state, request))
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            yield answer

    def ask_once(state, request):
        for answer in ask(state, request):
            return answer
        raise unanswered(state)

    monkeypatch.setattr(command, "ask", ask)
    monkeypatch.setattr(command, "ask_once", ask_once)
    return answers


# show


def test_show_prints_keys_and_reservation_after_the_inquiry_data(server, capsys):
    server.append(UNIT)
    assert main(["reservations", "show", "disk0", "--state", "/s"]) == 0
    assert capsys.readouterr() == (
        INQUIRY + "  PR generation=0x2, 1 registered reservation key follows:\n    0xa\n"
        "  PR generation=0x2, Reservation follows:\n    Key=0xa\n    scope: LU_SCOPE,  type: Write Exclusive\n",
        "",
    )
    assert server.asked == [(Path("/s"), {"request": "reservations", "unit": "disk0"})]


def test_show_full_status_prints_who_is_registered_by_which_port(server, capsys):
    server.append(UNIT)
    assert main(["reservations", "show", "--full-status", "disk0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "      Relative port address: 0x5" in lines
    assert f"        iSCSI world wide unique port id: {A.initiator_port}" in lines


def test_show_capabilities_prints_them(server, capsys):
    server.append(UNIT)
    assert main(["reservations", "show", "--capabilities", "disk0"]) == 0
    assert capsys.readouterr().out.startswith(INQUIRY + "Report capabilities response:\n")


def test_show_json_prints_the_whole_answer(server, capsys):
    server.append(UNIT)
    assert main(["reservations", "show", "--json", "disk0"]) == 0
    assert json.loads(capsys.readouterr().out) == UNIT


@pytest.mark.parametrize(
    "change, said",
    [
        ({"spc2_holder": nexus_record(A)}, f"unit disk0 is reserved with RESERVE by {A.initiator_port}"),
        ({"has_persistent_reservations": False, "personality": "openfiler"}, "its personality is openfiler"),
    ],
)
def test_show_prints_no_page_that_an_initiator_would_not_get(server, capsys, change, said):
    server.append(UNIT | change)
    assert main(["reservations", "show", "disk0"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert shown.err.endswith("--json tells what the unit knows\n")


@pytest.mark.parametrize("page", [[], ["--full-status"], ["--capabilities"]])
def test_show_tells_no_reservations_when_they_are_lost_but_what_to_do(server, capsys, page):
    server.append(UNIT | {"reservations": to_record(Reservations(lost=True))})
    assert main(["reservations", "show", "disk0", *page, "--state", "/s"]) == 2
    assert capsys.readouterr() == (
        "",
        "iscsi-target: state /s: unit disk0: the stored reservations are lost, so nobody knows what they were; "
        "`iscsi-target reservations clear disk0` ends that, and so does REPLACE LOST RESERVATION by an initiator\n",
    )
    assert main(["reservations", "show", "disk0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reservations"]["lost"] is True


@pytest.mark.parametrize("change", [{"identity": None}, {"reservations": {}}, {"capabilities": {"new": 1}}])
def test_answer_of_another_version_is_a_mistake(server, capsys, change):
    server.append(UNIT | change)
    assert main(["reservations", "show", "disk0", "--state", "/s"]) == 2
    assert "iscsi-target: state /s: its server speaks otherwise" in capsys.readouterr().err


# log and watch


def test_log_prints_a_line_for_each_entry(server, capsys):
    server += [ENTRY, ENTRY | {"times": 3}, {"entries": 2}]
    assert main(["reservations", "log", "disk0"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    at, _, text = first.partition(" ")
    assert re.fullmatch(r"19\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.500[+-]\d\d:\d\d", at)
    assert text == ENTRY["text"]
    assert second == f"{first} (3 times)"


def test_log_that_is_cut_is_a_mistake(server, capsys):
    server.append(ENTRY)
    assert main(["reservations", "log", "disk0"]) == 2
    assert "the server ended before it had answered" in capsys.readouterr().err


def test_log_is_read_to_its_end_before_a_line_is_printed(server):
    server += [ENTRY, ENTRY, {"entries": 2}]
    lines = command._lines(Options("log", "disk0"), Path("/s"))
    first = next(lines)
    server.clear()  # whoever would read now finds that it has ended
    assert list(lines) == [first]


def test_log_json_prints_an_object_for_each_entry(server, capsys):
    server += [ENTRY, {"entries": 1}]
    assert main(["reservations", "log", "--json", "disk0"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [ENTRY]


@pytest.mark.parametrize("end", [[], [unanswered(Path("/s"))]], ids=["between two lines", "within a line"])
def test_watch_prints_entries_until_the_server_ends_and_says_that_it_ended(server, capsys, end):
    server += [{"watching": "disk0"}, ENTRY, {"left_out": 7}, *end]
    assert main(["reservations", "watch", "disk0", "--state", "/s"]) == 2
    printed = capsys.readouterr()
    first, second = printed.out.splitlines()
    assert first.endswith(ENTRY["text"])
    assert second == "7 entries are missing here: they were not read fast enough"
    assert printed.err == (
        "iscsi-target: state /s: the server ended, or cut the connection; start it and watch again\n"
    )


def test_refusal_to_let_somebody_watch_is_not_the_end_of_the_server(server, capsys):
    server.append(ConfigError("state /s", "there is no unit 'x'", remedy="units: disk0"))
    assert main(["reservations", "watch", "x"]) == 2
    assert capsys.readouterr().err == "iscsi-target: state /s: there is no unit 'x'; units: disk0\n"


def test_interrupt_ends_watching_with_status_0(server, capsys):
    server += [{"watching": "disk0"}, KeyboardInterrupt()]
    assert main(["reservations", "watch", "disk0"]) == 0
    assert capsys.readouterr() == ("", "")


def test_interrupt_of_what_only_asks_says_nothing(server, capsys):
    server.append(KeyboardInterrupt())
    assert main(["reservations", "show", "disk0"]) == EXIT_INTERRUPTED
    assert capsys.readouterr() == ("", "")


# clear and preempt


@pytest.mark.parametrize(
    "words, request_",
    [
        (["clear", "disk0"], {"request": "clear", "unit": "disk0"}),
        (["preempt", "disk0", "0xA"], {"request": "preempt", "unit": "disk0", "key": "0xA"}),
        (["preempt", "disk0", "a", "--abort"], {"request": "preempt_and_abort", "unit": "disk0", "key": "a"}),
    ],
)
def test_order_is_given_and_what_it_did_is_printed(server, capsys, words, request_):
    done = {
        "unit": "disk0",
        "status": "GOOD",
        "entry": ENTRY,
        "removed": [(nexus_record(A) or {}) | {"key": "0xa"}],
        "released": True,
    }
    server.append(done)
    assert main(["reservations", *words, "--state", "/s"]) == 0
    assert server.asked == [(Path("/s"), request_)]
    assert capsys.readouterr().out.splitlines() == [
        f"unit disk0: {ENTRY['text']}",
        f"removed: key 0xa of {A.initiator_port} at {A.target_port}",
        "the reservation is released",
    ]
    main(["reservations", *words, "--json"])
    assert json.loads(capsys.readouterr().out) == done


@pytest.mark.parametrize("words", [["clear", "disk0"], ["preempt", "disk0", "a"], ["preempt", "disk0", "a", "--abort"]])
def test_order_that_nobody_answered_may_be_done_or_not(server, capsys, words):
    assert main(["reservations", *words, "--state", "/s"]) == EXIT_UNDECIDED == 3
    assert capsys.readouterr() == (
        "",
        "iscsi-target: state /s: the server ended before it had answered; it may be done or not; "
        "see `iscsi-target reservations show disk0` after a restart\n",
    )


def test_order_that_is_refused_was_not_carried_out(server):
    server.append(ConfigError("state /s", "no nexus is registered with the key 0xa"))
    assert main(["reservations", "preempt", "disk0", "a"]) == 2


@pytest.mark.parametrize("words", [["clear", "disk0"], ["preempt", "disk0", "a", "--abort"]])
def test_interrupt_of_an_order_says_that_it_goes_on(server, capsys, words):
    server.append(KeyboardInterrupt())
    assert main(["reservations", *words]) == EXIT_INTERRUPTED == 130
    assert capsys.readouterr() == (
        "",
        "iscsi-target: interrupted; the order goes on if it was given:"
        " `iscsi-target reservations log disk0` shows it\n",
    )


# Where the server is


def test_refusal_is_one_line_and_exit_status_2(server, capsys):
    server.append(ConfigError("state /s", "there is no unit 'x'", remedy="units: disk0"))
    assert main(["reservations", "show", "x"]) == 2
    assert capsys.readouterr().err == "iscsi-target: state /s: there is no unit 'x'; units: disk0\n"


def test_state_directory_is_that_of_serve_without_options(server, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/x")
    server.append(UNIT)
    run(Options("show", "disk0"))
    assert server.asked[0][0] == Path("/var/lib/x")


def test_state_directory_can_be_taken_from_a_configuration(server, tmp_path):
    path = tmp_path / "config.toml"
    target = '[[targets]]\nname = "iqn.2026-01.org.example:t"\nluns = { 0 = "disk0" }\n'
    path.write_text('state = "there"\n[units.disk0]\nram = true\nsize = "1MiB"\n' + target)
    server.append(UNIT)
    assert main(["reservations", "show", "disk0", "--config", str(path)]) == 0
    assert server.asked[0][0] == tmp_path / "there"


def test_server_is_found_by_a_configuration_that_has_mistakes_by_now(server, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('state = "there"\nsessions = 1\n[units.disk0]\nrom = 1\n')
    server.append(UNIT)
    assert main(["reservations", "show", "disk0", "--config", str(path)]) == 0
    assert server.asked[0][0] == tmp_path / "there"


@pytest.mark.parametrize(
    "text, said",
    [
        ("stat = 1\n", ":1: stat is unknown; did you mean state?, or use --state DIR"),
        ("state =\n", ": is not TOML: "),
    ],
)
def test_configuration_that_may_name_the_server_otherwise_is_told(server, tmp_path, capsys, text, said):
    path = tmp_path / "config.toml"
    path.write_text(text)
    assert main(["reservations", "show", "disk0", "--config", str(path)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"iscsi-target: {path}{said}")
    assert line.endswith(", or use --state DIR")


def test_reader_that_has_seen_enough_is_no_error(server, monkeypatch, tmp_path):
    server += [ENTRY, {"entries": 1}]

    def broken(*words, **how):
        raise BrokenPipeError

    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("builtins.print", broken)
        assert run(Options("log", "disk0")) == 0
