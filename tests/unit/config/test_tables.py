"""Tables of a configuration file, each on its own."""

import pytest

from iscsi_target.config.tables import Document, Mistake, PortalGroupTable, SessionTable, TargetTable, UnitTable


@pytest.fixture
def document(tmp_path):
    """Returns the document of a text."""

    def read(text):
        path = tmp_path / "config.toml"
        path.write_text(text)
        return Document(path)

    return read


@pytest.mark.parametrize(
    "written, size_bytes",
    [('"512"', 512), ("512", 512), ('"512B"', 512), ('"1KiB"', 1024), ('"3 GiB"', 3 << 30), ('"2TiB"', 2 << 40)],
)
def test_size_is_bytes_or_a_text_with_a_binary_unit(document, written, size_bytes):
    found = document(f"[units.a]\nsize = {written}\n").named(UnitTable, "units")
    assert found["a"].size == size_bytes


@pytest.mark.parametrize("written", ['"1GB"', '"one"', "1.5", "-1", "true", '"-1GiB"', '""'])
def test_what_is_no_size_is_a_mistake(document, written):
    found = document(f"[units.a]\nsize = {written}\n")
    assert found.named(UnitTable, "units") == {}
    assert [mistake.key for mistake in found.mistakes] == [("units", "a", "size")]


@pytest.mark.parametrize("written", ["5000000000000001", "naa.6000000000000000000000000000000A", "0x3000000000000001"])
def test_naa_identifier_is_read_in_its_usual_forms(document, written):
    found = document(f'[units.a]\nnaa = "{written}"\n').named(UnitTable, "units")
    assert found["a"].naa.hex() == written.lower().removeprefix("naa.").removeprefix("0x")


@pytest.mark.parametrize("written", ["1000000000000001", "60000000", "50000000000000zz", ""])
def test_what_is_no_naa_identifier_is_a_mistake(document, written):
    found = document(f'[units.a]\nnaa = "{written}"\n')
    assert found.named(UnitTable, "units") == {}


@pytest.mark.parametrize("name", ["iqn.2026-11.org.example:A", "eui.0123456789ABCDEF", "naa.5000000000000001"])
def test_target_name_is_normalised(document, name):
    found = document(f'[[targets]]\nname = "{name}"\n').listed(TargetTable, "targets")
    assert found[0].name == name.lower()


@pytest.mark.parametrize("written, seconds", [("0", 0), ("12", 12), ("0.5", 0.5), ("86400", 86400)])
def test_sanitize_seconds_is_a_number(document, written, seconds):
    found = document(f"[units.a]\nsanitize_seconds = {written}\n").named(UnitTable, "units")
    assert found["a"].sanitize_seconds == seconds


@pytest.mark.parametrize("written", ["-1", "86401", '"12"', "true", "nan", "inf"])
def test_what_is_no_number_of_seconds_is_a_mistake(document, written):
    found = document(f"[units.a]\nsanitize_seconds = {written}\n")
    assert found.named(UnitTable, "units") == {}
    assert [mistake.key for mistake in found.mistakes] == [("units", "a", "sanitize_seconds")]


def test_table_that_is_wrong_does_not_hide_the_others(document):
    found = document("[units.a]\nram = 1\n[units.b]\nram = true\n")
    assert list(found.named(UnitTable, "units")) == ["b"]
    assert found.names("units") == {"a", "b"}


def test_unknown_key_at_the_top_is_a_mistake(document):
    assert document("target = 1\n").mistakes == [Mistake(("target",), "is unknown", "did you mean targets?")]


def test_unknown_key_without_a_likeness_names_the_known_ones(document):
    found = document("[portal_groups.1]\nlisten = ['::1']\nqqq = 1\n")
    found.named(PortalGroupTable, "portal_groups")
    assert "the keys here are advertise, listen" in found.mistakes[-1].remedy


def test_missing_table_has_its_defaults(document):
    assert document("").single(SessionTable, "session") == SessionTable()


@pytest.mark.parametrize("text", ["units = 1", "[[units]]", "units = 'a'"])
def test_units_that_are_no_tables_are_a_mistake(document, text):
    found = document(text)
    assert found.named(UnitTable, "units") == {}
    assert found.mistakes[0].what == "is not a table of tables"


def test_targets_that_are_no_array_are_a_mistake(document):
    found = document("[targets]\nname = 'a'\n")
    assert found.listed(TargetTable, "targets") == {}
    assert found.mistakes[0].remedy == "write [[targets]]"


def test_unit_answers_like_the_personality_that_it_names_and_is_called_like_it(document):
    found = document('[units.a]\n[units.b]\npersonality = "comstar"\nvendor = "ME"\n').named(UnitTable, "units")
    assert (found["a"].personality, found["a"].vendor) == ("strict", None)
    assert (found["b"].personality, found["b"].vendor, found["b"].product) == ("comstar", "ME", None)


@pytest.mark.parametrize(
    "written, what, remedy",
    [
        ('"Lio"', "'Lio' is no personality", "did you mean lio?"),
        ('"nexenta"', "'nexenta' is no personality", "write one of strict, lio, comstar, scst, tgt, spdk, openfiler"),
        ("1", "is not a text", "write one of strict, lio, comstar, scst, tgt, spdk, openfiler"),
    ],
)
def test_personality_that_there_is_not_is_a_mistake(document, written, what, remedy):
    found = document(f"[units.a]\npersonality = {written}\n")
    assert found.named(UnitTable, "units") == {}
    assert found.mistakes == [Mistake(("units", "a", "personality"), what, remedy)]


def test_commands_that_a_unit_may_do_without_are_there_by_default(document):
    text = "[units.a]\ncompare_and_write = false\nwrite_same = false\n[units.b]\n"
    found = document(text).named(UnitTable, "units")
    assert (found["a"].compare_and_write, found["a"].write_same) == (False, False)
    assert (found["b"].compare_and_write, found["b"].write_same) == (True, True)
