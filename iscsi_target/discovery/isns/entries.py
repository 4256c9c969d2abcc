"""What discovery domains and sets of them have in common: numbered entries with a name, and how they are asked for."""

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple, Protocol

from iscsi_target.discovery.isns.attributes import Attribute, Tag, number, read_number
from iscsi_target.discovery.isns.faults import Refused, Status
from iscsi_target.discovery.isns.forms import normalised
from iscsi_target.discovery.isns.messages import Answer, Request


class Entry(Protocol):
    """A domain or a set."""

    @property
    def identifier(self) -> int:
        """Its number."""

    @property
    def name(self) -> str:
        """Its symbolic name."""

    @property
    def attributes(self) -> Iterator[Attribute]:
        """Its attributes as they are sent."""


class EntryKind(NamedTuple):
    """What entries are of.

    what          how messages call one
    identifier    the tag of its number
    tags          of all its attributes
    most          how many there may be
    """

    what: str
    identifier: Tag
    tags: frozenset[Tag]
    most: int

    def query(self, entries: Iterable[Entry], request: Request) -> Answer:
        """Returns those of some entries that have all attributes of the message key.

        Source: RFC4171 5.6.5.2
        """
        key = {attribute for attribute in normalised(request.key) if attribute.value}
        found = [each for each in entries if key <= set(each.attributes)]
        wanted = {tag for tag, _ in request.operating} or self.tags
        shown = [each for one in found for each in one.attributes if each.tag in wanted | {self.identifier}]
        return Answer(Status.SUCCESSFUL, request.key, tuple(shown))

    def following(self, entries: Iterable[Entry], request: Request) -> Answer:
        """Returns the entry with the next higher number than that of the message key.

        entries   in the order of their numbers
        raises    Refused when there is none
        Source: RFC4171 5.6.5.3
        """
        key = normalised(request.key)
        if len(key) != 1 or key[0].tag != self.identifier:
            raise Refused(Status.INVALID_QUERY, f"no identifier of a {self.what}")
        behind = read_number(key[0].value) if key[0].value else -1
        for entry in entries:
            if entry.identifier > behind:
                wanted = {tag for tag, _ in request.operating} or self.tags
                shown = tuple(each for each in entry.attributes if each.tag in wanted)
                return Answer(Status.SUCCESSFUL, (number(self.identifier, entry.identifier),), shown)
        raise Refused(Status.NO_SUCH_ENTRY, f"no further {self.what}")

    def new_identifier(self, taken: Collection[int], given: tuple[int, ...]) -> int:
        """Returns the number of a new entry: the one that is given, or the next.

        raises    Refused when it is taken, or there are too many entries
        """
        if len(taken) >= self.most:
            raise Refused(Status.BUSY, f"there are {self.most} {self.what}s")
        identifier = given[0] if given else max(taken, default=0) % 0xFFFFFFFF + 1
        if not identifier or identifier in taken:
            raise Refused(Status.INVALID_REGISTRATION, f"{self.what} {identifier} is taken")
        return identifier

    def check_name(self, entries: Iterable[Entry], name: str, identifier: int) -> None:
        """Raises Refused when another entry has a name already."""
        if any(each.name == name and each.identifier != identifier for each in entries):
            raise Refused(Status.INVALID_REGISTRATION, f"a {self.what} is named {name!r} already")

    def read(self, attributes: tuple[Attribute, ...]) -> list[Attribute]:
        """Returns the attributes that have a value; raises Refused for one that an entry does not have."""
        found = [attribute for attribute in normalised(attributes) if attribute.value]
        if other := [tag for tag, _ in found if tag not in self.tags]:
            raise Refused(Status.ATTRIBUTE_NOT_IMPLEMENTED, f"attribute {other[0]} of a {self.what}")
        return found
