"""The tables of what personalities do differently."""

import pytest

from iscsi_target.scsi.reservations.personalities import PERSONALITIES
from iscsi_target.scsi.reservations.personality import Quirk
from tools import personality_table
from tools.personality_table import access, answers, capabilities, document, names, not_imitated, notices, quirks


def cells(table: str, name: str) -> dict[str, str]:
    """The cells of a row, by the head of their column; a name that is no row's is the beginning of one."""
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
    found = [row for row in rows if row[0] == name] or [row for row in rows if row[0].startswith(name)]
    assert len(found) == 1
    return dict(zip(head, found[0], strict=True))


def test_columns_are_the_personalities():
    for table in (names(), capabilities(), answers(), notices(), quirks(), access()):
        assert table.splitlines()[0].split(" | ")[1:] == [*list(PERSONALITIES)[:-1], "openfiler |"]


def test_cell_is_empty_where_a_target_is_as_strict():
    row = cells(answers(), "the nexus is not registered (SPC4r37 5.13.7), with RELEASE")
    assert row["strict"] == "RESERVATION CONFLICT"
    assert (row["lio"], row["spdk"], row["scst"]) == ("2/08/00", "2/00/00", "")


def test_every_kind_of_difference_is_told():
    assert cells(names(), "product")["lio"] == "(the unit's name)"
    assert cells(capabilities(), "CRH") | {"Capability or service action": ""} == {
        "Capability or service action": "",
        "strict": "yes",
        "lio": "",
        "comstar": "no",
        "scst": "",
        "tgt": "no",
        "spdk": "no",
        "openfiler": "no",
    }
    assert cells(capabilities(), "READ FULL STATUS, least")["spdk"] == "8"
    assert [line.split(" | ")[0] for line in capabilities().splitlines()].count("| REGISTER AND MOVE") == 1
    assert cells(notices(), "CLEAR")["comstar"] == "2A/03 to every nexus, registered or not"
    assert cells(notices(), "RELEASE")["tgt"] == "2A/04 to those that the standard names, types 1, 3"
    assert cells(notices(), "RELEASE")["spdk"] == "nobody"
    assert cells(quirks(), Quirk.ALL_REGISTRANTS_KEPT.value)["spdk"] == "yes"
    assert cells(access(), "MODE SELECT(6)")["spdk"] == "REGISTERED REGISTRANT"
    assert cells(access(), "COMPARE AND WRITE")["spdk"] == "HOLDER"


def test_every_answer_quirk_and_command_of_the_data_has_a_row():
    for one in PERSONALITIES.values():
        for quirk in one.quirks:
            assert cells(quirks(), quirk.value)[one.name] == "yes"
        for name in one.access:
            assert cells(access(), name)[one.name]
        assert all(reason in not_imitated() for reason in one.not_imitated)


def test_tool_prints_all_of_it(capsys: pytest.CaptureFixture[str]):
    assert personality_table.main([]) == 0
    assert capsys.readouterr().out == document() + "\n"
    assert document().count("\n## ") == 6


def test_tool_takes_no_arguments(capsys: pytest.CaptureFixture[str]):
    assert personality_table.main(["--help"]) == 0
    assert "usage" in capsys.readouterr().out
    assert personality_table.main(["lio"]) == 2
    assert "usage" in capsys.readouterr().err
