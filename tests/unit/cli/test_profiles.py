"""`iscsi-target profiles`, as a person uses it."""

from iscsi_target.cli import main
from iscsi_target.scsi.profiles import PROFILES, Choices


def test_every_profile_is_printed_with_what_it_chooses_and_why(capsys):
    assert main(["profiles"]) == 0
    said = capsys.readouterr().out
    paragraphs = said.rstrip("\n").split("\n\n")
    assert [paragraph.partition(":")[0] for paragraph in paragraphs] == list(PROFILES)
    for paragraph, profile in zip(paragraphs, PROFILES.values(), strict=True):
        words = " ".join(paragraph.split())
        for choice in Choices._fields:
            assert (f"{choice} = " in words) == (choice in profile.reasons)
        assert all(reason in words for reason in profile.reasons.values())
    assert max(map(len, said.splitlines())) <= 100


def test_values_are_printed_as_the_configuration_has_them(capsys):
    main(["profiles"])
    said = capsys.readouterr().out
    assert '\n  abort_of_finished_task = "complete"\n' in said
    assert "\n  standby_reads = true\n" in said
