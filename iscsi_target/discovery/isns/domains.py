"""Discovery domains: which nodes see each other.

A node sees those with which it is in a domain; nodes that are in no domain see each other, as if they were in one of
their own, so that without any domain everybody sees everything. `domain_sets` says which domains count.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from iscsi_target.discovery.isns.attributes import Attribute, Tag, number, read_number, read_text, text
from iscsi_target.discovery.isns.domain_sets import DomainSets
from iscsi_target.discovery.isns.entries import EntryKind
from iscsi_target.discovery.isns.faults import Refused, Status
from iscsi_target.discovery.isns.messages import Answer, Request

MAX_DOMAINS: Final = 256
MAX_MEMBERS: Final = 1024  # of a domain
DOMAIN_TAGS: Final = frozenset({Tag.DD_ID, Tag.DD_SYMBOLIC_NAME, Tag.DD_MEMBER_ISCSI_NAME})
DOMAINS: Final = EntryKind("discovery domain", Tag.DD_ID, DOMAIN_TAGS, MAX_DOMAINS)


class Domain(NamedTuple):
    """A discovery domain.

    members    values of the names of its nodes, which need not be registered
    Source: RFC4171 6.11.2
    """

    identifier: int
    name: str
    members: frozenset[bytes] = frozenset()

    @property
    def attributes(self) -> Iterator[Attribute]:
        """Its attributes as they are sent."""
        yield number(Tag.DD_ID, self.identifier)
        yield text(Tag.DD_SYMBOLIC_NAME, self.name)
        yield from (Attribute(Tag.DD_MEMBER_ISCSI_NAME, member) for member in sorted(self.members))


class Domains:
    """The discovery domains of a server.

    sets    of them
    """

    def __init__(self) -> None:
        self.sets = DomainSets()
        self._domains: dict[int, Domain] = {}
        self._of: dict[bytes, set[int]] = {}  # a node's name -> the domains that it is in

    def share(self, one: bytes, other: bytes) -> bool:
        """Says whether two nodes see each other."""
        ones, others = self._of.get(one), self._of.get(other)
        if not ones or not others:
            return not ones and not others
        return any(self.sets.is_active(each) for each in ones & others)

    def register_set(self, request: Request) -> Answer:
        """Makes or changes a set of domains, as `DomainSets.register`."""
        return self.sets.register(request, self._domains.keys())

    def register(self, request: Request) -> Answer:
        """Makes a domain, or gives one another name and further members.

        raises    Refused
        Source: RFC4171 5.6.5.9
        """
        wanted = _read(request.key)
        if wanted.identifiers and wanted.identifiers[0] not in self._domains:
            raise Refused(Status.INVALID_REGISTRATION, f"no discovery domain {wanted.identifiers[0]}")
        given = _read(request.operating)
        found = self._domains[wanted.identifiers[0]] if wanted.identifiers else self._new(given)
        name = given.names[0] if given.names else found.name
        DOMAINS.check_name(self._domains.values(), name, found.identifier)
        domain = found._replace(name=name, members=found.members | given.members)
        if len(domain.members) > MAX_MEMBERS:
            raise Refused(Status.INVALID_REGISTRATION, f"more than {MAX_MEMBERS} members")
        self._put(domain)
        return Answer(Status.SUCCESSFUL, (number(Tag.DD_ID, domain.identifier),), tuple(domain.attributes))

    def deregister(self, request: Request) -> Answer:
        """Takes members out of a domain, or removes it when none is named; what is not there is no error.

        raises    Refused
        Source: RFC4171 5.6.5.10
        """
        wanted = _read(request.key)
        if len(wanted.identifiers) != 1:
            raise Refused(Status.INVALID_DEREGISTRATION, "no identifier of a discovery domain")
        domain = self._domains.get(wanted.identifiers[0])
        if domain is not None:
            members = _read(request.operating).members
            self._drop(domain)
            if members:
                self._put(domain._replace(members=domain.members - members))
            else:
                self.sets.forget(domain.identifier)
        return Answer(Status.SUCCESSFUL)

    def query(self, request: Request, member: bytes | None) -> Answer:
        """Returns the domains that have all attributes of the message key.

        member    the node that asks, which sees only those that it is in; None sees all
        """
        return DOMAINS.query(self._seen(member), request)

    def next_domain(self, request: Request, member: bytes | None) -> Answer:
        """Returns the domain with the next higher identifier; raises Refused when there is none."""
        return DOMAINS.following(self._seen(member), request)

    def _seen(self, member: bytes | None) -> list[Domain]:
        """Returns the domains that a node sees, by their identifiers."""
        return [
            self._domains[each]
            for each in sorted(self._domains)
            if member is None or member in self._domains[each].members
        ]

    def _new(self, given: "_Given") -> Domain:
        identifier = DOMAINS.new_identifier(self._domains, given.identifiers)
        return Domain(identifier, f"domain {identifier}")

    def _put(self, domain: Domain) -> None:
        self._domains[domain.identifier] = domain
        for member in domain.members:
            self._of.setdefault(member, set()).add(domain.identifier)

    def _drop(self, domain: Domain) -> None:
        del self._domains[domain.identifier]
        for member in domain.members:
            self._of[member].discard(domain.identifier)
            if not self._of[member]:
                del self._of[member]


class _Given(NamedTuple):
    """What attributes of a request say of a domain."""

    identifiers: tuple[int, ...]
    names: tuple[str, ...]
    members: frozenset[bytes]


def _read(attributes: tuple[Attribute, ...]) -> _Given:
    found = DOMAINS.read(attributes)
    return _Given(
        tuple(read_number(value) for tag, value in found if tag == Tag.DD_ID),
        tuple(read_text(value) for tag, value in found if tag == Tag.DD_SYMBOLIC_NAME),
        frozenset(value for tag, value in found if tag == Tag.DD_MEMBER_ISCSI_NAME),
    )
