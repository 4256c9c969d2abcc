"""What a target's table says of initiator profiles: which choices hold for which initiators."""

from collections.abc import Iterator

from iscsi_target.config.tables import Key, Mistake, TargetTable
from iscsi_target.scsi.profiles import PROFILES, AbortOfFinished, Choices, Chosen, WrongDirection
from iscsi_target.wire.names import MAX_NAME_BYTES, InadmissibleValue, iscsi_name

NAME_TYPES = ("iqn.", "eui.", "naa.")


def chosen(table: TargetTable) -> Chosen:
    """Returns the choices of a target; what the table says of one of them goes before all profiles."""
    patterns = {_normal(pattern): _choices(name, table) for pattern, name in table.profiles.items()}
    return Chosen(_choices(table.profile, table), patterns)


def mistakes(key: Key, table: TargetTable) -> Iterator[Mistake]:
    """Finds patterns that no initiator's name can fit, and such as are the same."""
    seen: dict[str, str] = {}
    for pattern in table.profiles:
        where = (*key, "profiles", pattern)
        if not _is_pattern(pattern):
            remedy = 'write a name, or how names begin and *, such as "iqn.1998-01.com.vmware:*"'
            yield Mistake(where, "fits no name of an initiator", remedy)
        elif seen.setdefault(_normal(pattern), pattern) != pattern:
            yield Mistake(where, f"is the same as {seen[_normal(pattern)]}", "drop one of them")


def _choices(profile: str, table: TargetTable) -> Choices:
    choices = PROFILES[profile].choices
    if table.abort_of_finished_task is not None:
        choices = choices._replace(abort_of_finished_task=AbortOfFinished(table.abort_of_finished_task))
    if table.wrong_direction is not None:
        choices = choices._replace(wrong_direction=WrongDirection(table.wrong_direction))
    return choices


def _is_pattern(text: str) -> bool:
    if text.endswith("*"):
        beginning = text[:-1]
        return beginning.lower().startswith(NAME_TYPES) and "*" not in beginning and len(text) <= MAX_NAME_BYTES
    try:
        iscsi_name(text)
    except InadmissibleValue:
        return False
    return True


def _normal(pattern: str) -> str:
    return pattern.casefold()
