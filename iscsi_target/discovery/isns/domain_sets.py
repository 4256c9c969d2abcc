"""Discovery domain sets: which discovery domains are active.

A domain that is in sets is active when one of them is enabled. One that is in no set is active too: the standard has
it inactive, but most who make domains make no sets for them.

Source: RFC4171 2.2.2, 6.11.1
"""

from collections.abc import Container, Iterator
from typing import Final, NamedTuple

from iscsi_target.discovery.isns.attributes import Attribute, Tag, number, read_number, read_text, text
from iscsi_target.discovery.isns.entries import EntryKind
from iscsi_target.discovery.isns.faults import Refused, Status
from iscsi_target.discovery.isns.messages import Answer, Request

MAX_SETS: Final = 256
MAX_DOMAINS: Final = 256  # of a set
ENABLED: Final = 1  # in the status of a set. Source: RFC4171 6.11.1.3
OWN_TAGS: Final = frozenset({Tag.DDS_ID, Tag.DDS_SYMBOLIC_NAME, Tag.DDS_STATUS})
SET_TAGS: Final = OWN_TAGS | {Tag.DD_ID}
SETS: Final = EntryKind("discovery domain set", Tag.DDS_ID, SET_TAGS, MAX_SETS)


class DomainSet(NamedTuple):
    """A discovery domain set.

    domains    identifiers of its discovery domains
    Source: RFC4171 6.11.1
    """

    identifier: int
    name: str
    status: int = 0
    domains: frozenset[int] = frozenset()

    @property
    def attributes(self) -> Iterator[Attribute]:
        """Its attributes as they are sent."""
        yield number(Tag.DDS_ID, self.identifier)
        yield text(Tag.DDS_SYMBOLIC_NAME, self.name)
        yield number(Tag.DDS_STATUS, self.status)
        yield from (number(Tag.DD_ID, domain) for domain in sorted(self.domains))


class DomainSets:
    """The discovery domain sets of a server."""

    def __init__(self) -> None:
        self._sets: dict[int, DomainSet] = {}
        self._inactive: frozenset[int] = frozenset()  # domains; as of the sets

    def is_active(self, domain: int) -> bool:
        """Says whether the members of a domain see each other by it."""
        return domain not in self._inactive

    def _adopt(self, sets: dict[int, DomainSet]) -> None:
        """Takes other sets."""
        self._sets = sets
        active = [each.domains for each in sets.values() if each.status & ENABLED]
        self._inactive = frozenset().union(*(each.domains for each in sets.values())).difference(*active)

    def register(self, request: Request, domains: Container[int]) -> Answer:
        """Makes a set, or gives one another name, status and further domains.

        domains   the identifiers of those that there are
        raises    Refused
        Source: RFC4171 5.6.5.11
        """
        wanted, given = _read(request.key), _read(request.operating)
        if wanted.identifiers and wanted.identifiers[0] not in self._sets:
            raise Refused(Status.INVALID_REGISTRATION, f"no discovery domain set {wanted.identifiers[0]}")
        if missing := [each for each in given.domains if each not in domains]:
            raise Refused(Status.INVALID_REGISTRATION, f"no discovery domain {missing[0]}")
        found = self._sets[wanted.identifiers[0]] if wanted.identifiers else self._new(given)
        name = given.names[0] if given.names else found.name
        SETS.check_name(self._sets.values(), name, found.identifier)
        status = given.statuses[0] if given.statuses else found.status
        changed = found._replace(name=name, status=status, domains=found.domains | given.domains)
        if len(changed.domains) > MAX_DOMAINS:
            raise Refused(Status.INVALID_REGISTRATION, f"more than {MAX_DOMAINS} domains")
        self._adopt(self._sets | {changed.identifier: changed})
        return Answer(Status.SUCCESSFUL, (number(Tag.DDS_ID, changed.identifier),), tuple(changed.attributes))

    def deregister(self, request: Request) -> Answer:
        """Takes domains out of a set, or removes it when none is named; what is not there is no error.

        raises    Refused
        Source: RFC4171 5.6.5.12
        """
        wanted = _read(request.key)
        if len(wanted.identifiers) != 1:
            raise Refused(Status.INVALID_DEREGISTRATION, "no identifier of a discovery domain set")
        domains = _read(request.operating).domains
        kept = {identifier: each for identifier, each in self._sets.items() if identifier != wanted.identifiers[0]}
        if domains and (found := self._sets.get(wanted.identifiers[0])) is not None:
            kept[found.identifier] = found._replace(domains=found.domains - domains)
        self._adopt(kept)
        return Answer(Status.SUCCESSFUL)

    def forget(self, domain: int) -> None:
        """Takes a domain that is gone out of all sets."""
        kept = {identifier: each._replace(domains=each.domains - {domain}) for identifier, each in self._sets.items()}
        self._adopt(kept)

    def query(self, request: Request) -> Answer:
        """Returns the sets that have all attributes of the message key."""
        return SETS.query(self._sorted, request)

    def next_set(self, request: Request) -> Answer:
        """Returns the set with the next higher identifier; raises Refused when there is none."""
        return SETS.following(self._sorted, request)

    @property
    def _sorted(self) -> list[DomainSet]:
        return [self._sets[identifier] for identifier in sorted(self._sets)]

    def _new(self, given: "_Given") -> DomainSet:
        identifier = SETS.new_identifier(self._sets, given.identifiers)
        return DomainSet(identifier, f"set {identifier}")


class _Given(NamedTuple):
    """What attributes of a request say of a set."""

    identifiers: tuple[int, ...]
    names: tuple[str, ...]
    statuses: tuple[int, ...]
    domains: frozenset[int]


def _read(attributes: tuple[Attribute, ...]) -> _Given:
    found = SETS.read(attributes)
    return _Given(
        tuple(read_number(value) for tag, value in found if tag == Tag.DDS_ID),
        tuple(read_text(value) for tag, value in found if tag == Tag.DDS_SYMBOLIC_NAME),
        tuple(read_number(value) for tag, value in found if tag == Tag.DDS_STATUS),
        frozenset(read_number(value) for tag, value in found if tag == Tag.DD_ID),
    )
