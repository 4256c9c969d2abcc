"""The machine of an iSNS server: requests, answers of clients and time in; answers, notifications and inquiries out.

A registration lasts as long as its period after the last message of a source that belongs to the entity. A portal that
wants inquiries and does not answer MAX_SILENCES in a row is removed, and its entity with the last of them.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from iscsi_target.discovery.isns import attributes
from iscsi_target.discovery.isns.attributes import MAX_PORT, UDP, Attribute, Tag, read_address, read_number, read_text
from iscsi_target.discovery.isns.database import Database, Entity, PortalKey, without
from iscsi_target.discovery.isns.domain_sets import OWN_TAGS, SET_TAGS
from iscsi_target.discovery.isns.domains import DOMAIN_TAGS, Domains
from iscsi_target.discovery.isns.faults import Refused, Status
from iscsi_target.discovery.isns.forms import name_value, normalised
from iscsi_target.discovery.isns.messages import (
    Answer,
    Function,
    NodeType,
    Request,
    Scn,
    pack_answer,
    pack_plain,
    unpack_request,
)
from iscsi_target.discovery.isns.objects import KEYS, Kind, Object, Values
from iscsi_target.discovery.isns.pdu import Message
from iscsi_target.discovery.isns.queries import Sees, next_object, query
from iscsi_target.discovery.isns.registering import OF_THE_SERVER, Terms, attributes_of, deregistered, registered
from iscsi_target.discovery.isns.schedule import Schedule
from iscsi_target.discovery.isns.scn import notification

MAX_SILENCES: Final = 3  # RFC4171 5.6.5.13
MAX_SUBSCRIPTIONS: Final = 1024
CHANGES_PER_NOTIFICATION: Final = 32  # so that one fits a datagram, whatever the names are


class Place(NamedTuple):
    """Where a client takes inquiries or notifications."""

    host: str
    port: int
    by_udp: bool


class Reply(NamedTuple):
    """Send the answer to the request that was given in.

    refusal    why it refuses, for a person; empty when it does not
    """

    message: Message
    refusal: str = ""


class Notify(NamedTuple):
    """Deliver a notification to the first of these places that takes it."""

    places: tuple[Place, ...]
    message: Message


class Probe(NamedTuple):
    """Ask a portal if it is there, and call `probed`."""

    portal: PortalKey
    place: Place
    message: Message


class Note(NamedTuple):
    """Tell the operator."""

    text: str


Action = Reply | Notify | Probe | Note


class Change(NamedTuple):
    """What has happened to a node."""

    name: bytes
    node_type: NodeType
    change: Scn


class NameServer:
    """One server.

    terms      what registrations are granted
    epoch_s    what to add to `now` for seconds since 1970
    """

    def __init__(self, terms: Terms, epoch_s: float = 0.0) -> None:
        self.database = Database()
        self._domains = Domains()
        self._terms = terms
        self._epoch_s = epoch_s
        self._expiries: Schedule[bytes] = Schedule()  # by entity
        self._inquiries: Schedule[PortalKey] = Schedule()
        self._silences: dict[PortalKey, int] = {}
        self._subscriptions: dict[bytes, Scn] = {}  # by node
        self._transaction = 0

    def deadline(self) -> float:
        """Returns when `elapsed` is to be called at the latest."""
        return min(self._expiries.deadline(), self._inquiries.deadline())

    # Requests

    def received(self, message: Message, now: float) -> list[Action]:
        """Answers a request."""
        try:
            request = unpack_request(message)
            self._heard(request.source, now)
            answer, actions = self._handle(request, now)
        except Refused as refused:
            return [Reply(pack_answer(Answer(refused.status), message), str(refused))]
        return [Reply(pack_answer(answer, message)), *actions]

    def _handle(self, request: Request, now: float) -> tuple[Answer, list[Action]]:
        match request.function:
            case Function.DEV_ATTR_REG:
                return self._register(request, now)
            case Function.DEV_DEREG:
                return self._deregister(request, now)
            case Function.DEV_ATTR_QRY:
                return self._query(request), []
            case Function.DEV_GET_NEXT:
                return self._next(request), []
            case Function.DD_REG | Function.DD_DEREG | Function.DDS_REG | Function.DDS_DEREG:
                return self._change_domains(request), []
            case Function.SCN_REG:
                return self._subscribe(request), []
            case Function.SCN_DEREG:
                self._subscriptions.pop(self._own_node(request), None)
                return Answer(Status.SUCCESSFUL), []
            case _:
                raise Refused(Status.MESSAGE_NOT_SUPPORTED, request.function.name)

    def _change_domains(self, request: Request) -> Answer:
        """Changes discovery domains or sets of them; raises Refused when the source may not."""
        self._check_control(request, "changes discovery domains")
        match request.function:
            case Function.DD_REG:
                return self._domains.register(request)
            case Function.DD_DEREG:
                return self._domains.deregister(request)
            case Function.DDS_REG:
                return self._domains.register_set(request)
            case _:
                return self._domains.sets.deregister(request)

    def _check_control(self, request: Request, deed: str) -> None:
        if request.source not in self._terms.controls:
            raise Refused(Status.SOURCE_UNAUTHORIZED, f"only a control node {deed}")

    def _query(self, request: Request) -> Answer:
        tags = {tag for tag, _ in request.key or request.operating}
        if tags & OWN_TAGS and tags <= SET_TAGS:
            self._check_control(request, "sees sets of discovery domains")
            return self._domains.sets.query(request)
        if tags and tags <= DOMAIN_TAGS:
            return self._domains.query(request, self._member(request.source))
        return query(self.database, request, self._view(request.source))

    def _next(self, request: Request) -> Answer:
        if any(tag in OWN_TAGS for tag, _ in request.key):
            self._check_control(request, "sees sets of discovery domains")
            return self._domains.sets.next_set(request)
        if any(tag in DOMAIN_TAGS for tag, _ in request.key):
            return self._domains.next_domain(request, self._member(request.source))
        return next_object(self.database, request, self._view(request.source))

    def _member(self, source: str) -> bytes | None:
        """Returns the node that discovery domains restrict; None when the source sees everything."""
        return None if source in self._terms.controls else name_value(source)

    def _view(self, source: str) -> Sees:
        """Returns what a source sees: its own entity, and the nodes with which it shares a domain and what is theirs.

        Source: RFC4171 2.2.2
        """
        member = self._member(source)
        own = None if member is None else self.database.entity_of_source(source, member)

        def sees(entity: Entity, found: Object) -> bool:
            if member is None or entity is own:
                return True
            match found.kind:
                case Kind.NODE | Kind.GROUP:
                    return self._domains.share(member, found.key[0])
                case Kind.PORTAL:
                    return any(self._domains.share(member, each.key[0]) for each in entity.related(found, Kind.GROUP))
                case Kind.ENTITY:
                    return any(self._domains.share(member, name) for name in entity.nodes)

        return sees

    def _register(self, request: Request, now: float) -> tuple[Answer, list[Action]]:
        made = registered(self.database, request, self._terms)
        if made.entity.is_empty:
            raise Refused(Status.INVALID_REGISTRATION, "neither a portal nor a storage node")
        actions = self._put(made.entity, now)
        key = (Attribute(Tag.ENTITY_IDENTIFIER, made.entity.identifier),)
        entity = Object(
            Kind.ENTITY, {tag: made.entity.values[tag] for tag in (*KEYS[Kind.ENTITY], Tag.REGISTRATION_PERIOD)}
        )
        others = [each for each in made.objects if each.kind is not Kind.ENTITY]
        return Answer(Status.SUCCESSFUL, key, attributes_of([entity, *others])), actions

    def _deregister(self, request: Request, now: float) -> tuple[Answer, list[Action]]:
        """Removes objects; those that are not there are no error.

        Source: RFC4171 5.6.5.4
        """
        name = name_value(request.source)
        changed: dict[bytes, Entity] = {}
        for each in deregistered(request):
            entity = self.database.entity_of(each.kind, each.key)
            if entity is None:
                continue
            entity = changed.get(entity.identifier, entity)
            if not self.database.entities[entity.identifier].belongs_to(request.source, name):
                raise Refused(Status.SOURCE_UNAUTHORIZED, "the network entity is another's")
            changed[entity.identifier] = without(entity, each.kind, each.key)
        return Answer(Status.SUCCESSFUL), [action for each in changed.values() for action in self._put(each, now)]

    def _subscribe(self, request: Request) -> Answer:
        """Has a node notified.

        Source: RFC4171 5.6.5.5
        """
        name = self._own_node(request)
        bitmaps = [value for tag, value in normalised(request.operating) if tag == Tag.ISCSI_SCN_BITMAP and value]
        if len(bitmaps) != 1:
            raise Refused(Status.SCN_REGISTRATION_REJECTED, "no SCN bitmap")
        entity = self.database.entity_of(Kind.NODE, (name,))
        assert entity is not None
        if not tuple(_places(entity, name)):
            raise Refused(Status.SCN_REGISTRATION_REJECTED, "no portal of the node has an SCN port")
        if name not in self._subscriptions and len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            raise Refused(Status.SCN_REGISTRATION_REJECTED, f"{MAX_SUBSCRIPTIONS} nodes have registered")
        self._subscriptions[name] = Scn(read_number(bitmaps[0]))
        return Answer(Status.SUCCESSFUL)

    def _own_node(self, request: Request) -> bytes:
        """Returns the node that a message key names, which has to be the source's."""
        names = [value for tag, value in normalised(request.key) if tag == Tag.ISCSI_NAME and value]
        entity = self.database.entity_of(Kind.NODE, (names[0],)) if len(names) == 1 else None
        if entity is None:
            raise Refused(Status.SCN_REGISTRATION_REJECTED, "no storage node that is registered")
        if not entity.belongs_to(request.source, name_value(request.source)):
            raise Refused(Status.SOURCE_UNAUTHORIZED, "the storage node is another's")
        return names[0]

    # Time

    def elapsed(self, now: float) -> list[Action]:
        """Removes what has expired, and inquires where it is time to."""
        actions: list[Action] = []
        for identifier in self._expiries.take(now):
            entity = self.database.entities[identifier]
            actions.append(Note(f"{_text(identifier)} was not heard of for its registration period and is removed"))
            actions += self._put(without(entity, Kind.ENTITY, (identifier,)), now)
        for portal in self._inquiries.take(now):
            actions += self._inquire(portal, now)
        return actions

    def probed(self, portal: PortalKey, *, answered: bool, now: float) -> list[Action]:
        """Takes notice whether a portal has answered an inquiry.

        Source: RFC4171 5.6.5.13
        """
        entity = self.database.entity_of(Kind.PORTAL, portal)
        if entity is None or portal not in self._silences:
            return []
        if answered:
            self._silences[portal] = 0
            self._refresh(entity, now)
            return []
        self._silences[portal] += 1
        if self._silences[portal] < MAX_SILENCES:
            return []
        fewer = without(entity, Kind.PORTAL, portal)
        if not any(Tag.ESI_PORT in values for values in fewer.portals.values()):
            fewer = without(entity, Kind.ENTITY, (entity.identifier,))
        gone = "the last portal" if fewer.is_empty else "a portal"
        note = f"{gone} of {_text(entity.identifier)} answers no inquiry and is removed: {_portal(portal)}"
        return [Note(note), *self._put(fewer, now)]

    def _inquire(self, portal: PortalKey, now: float) -> list[Action]:
        entity = self.database.entity_of(Kind.PORTAL, portal)
        assert entity is not None
        values = entity.portals[portal]
        self._inquiries.put(portal, now + read_number(values[Tag.ESI_INTERVAL]))
        content = [attributes.timestamp(self._time_s(now)), Attribute(Tag.ENTITY_IDENTIFIER, entity.identifier)]
        content += [Attribute(tag, value) for tag, value in zip(KEYS[Kind.PORTAL], portal, strict=True)]
        message = pack_plain(Function.ESI, self._next_transaction(), content)
        return [Probe(portal, _place(portal, values[Tag.ESI_PORT]), message)]

    def _heard(self, source: str, now: float) -> None:
        """Prolongs the registration that a source belongs to.

        Source: RFC4171 6.2.6
        """
        entity = self.database.entity_of_source(source, name_value(source))
        if entity is not None:
            self._refresh(entity, now)

    def _refresh(self, entity: Entity, now: float) -> None:
        period_s = read_number(entity.values[Tag.REGISTRATION_PERIOD])
        if period_s:
            self._expiries.put(entity.identifier, now + period_s)
        else:
            self._expiries.drop(entity.identifier)

    # Changes

    def _put(self, entity: Entity, now: float) -> list[Action]:
        """Stores an entity, keeps up with what it wants, and notifies of what has changed."""
        before = self.database.entities.get(entity.identifier)
        stamped = {**entity.values, Tag.TIMESTAMP: attributes.timestamp(self._time_s(now)).value}
        entity = entity._replace(values=stamped)
        self.database.put(entity)
        self._watch(before, entity, now)
        changes = list(_changes(before, entity))
        actions: list[Action] = list(self._notifications(changes, before, now))
        for change in changes:
            if change.change is Scn.OBJECT_REMOVED:
                self._subscriptions.pop(change.name, None)
        if before is None or entity.is_empty:
            actions.append(Note(f"{_text(entity.identifier)} is {'removed' if entity.is_empty else 'registered'}"))
        return actions

    def _watch(self, before: Entity | None, after: Entity, now: float) -> None:
        """Sets the times of an entity: when it expires, and when its portals are inquired."""
        if after.is_empty:
            self._expiries.drop(after.identifier)
        else:
            self._refresh(after, now)
        for portal in before.portals if before is not None else ():
            if Tag.ESI_PORT not in after.portals.get(portal, {}):
                self._inquiries.drop(portal)
                self._silences.pop(portal, None)
        for portal, values in after.portals.items():
            if Tag.ESI_PORT in values and portal not in self._silences:
                self._inquiries.put(portal, now + read_number(values[Tag.ESI_INTERVAL]))
                self._silences[portal] = 0

    def _notifications(self, changes: list[Change], before: Entity | None, now: float) -> Iterator[Action]:
        """Yields a notification for each node that wants to know of some of the changes.

        before    the entity before them, in which a node that was removed still has its portals
        Source: RFC4171 5.6.5.8
        """
        if not changes:
            return
        for name, bitmap in self._subscriptions.items():
            seen = changes if _text(name) in self._terms.controls else self._shared(name, changes)
            told = [(_text(each.name), each.change) for each in seen if _concerns(name, bitmap, each)]
            entity = self.database.entity_of(Kind.NODE, (name,)) or before
            if not told or entity is None:
                continue
            for at in range(0, len(told), CHANGES_PER_NOTIFICATION):
                content = notification(_text(name), told[at : at + CHANGES_PER_NOTIFICATION], self._time_s(now))
                yield Notify(tuple(_places(entity, name)), pack_plain(Function.SCN, self._next_transaction(), content))

    def _shared(self, name: bytes, changes: list[Change]) -> list[Change]:
        """Returns the changes of nodes with which a node shares a domain, and its own."""
        return [each for each in changes if each.name == name or self._domains.share(name, each.name)]

    def _next_transaction(self) -> int:
        self._transaction = self._transaction % 0xFFFF + 1
        return self._transaction

    def _time_s(self, now: float) -> int:
        return int(now + self._epoch_s)


def _concerns(name: bytes, bitmap: Scn, change: Change) -> bool:
    """Says whether a node that has registered a bitmap wants to know of a change.

    Source: RFC4171 6.4.4
    """
    if not bitmap & change.change:
        return False
    only = {Scn.INITIATOR_AND_SELF_ONLY: NodeType.INITIATOR, Scn.TARGET_AND_SELF_ONLY: NodeType.TARGET}
    kinds = [kind for bit, kind in only.items() if bitmap & bit]
    return not kinds or name == change.name or any(kind & change.node_type for kind in kinds)


def _changes(before: Entity | None, after: Entity) -> Iterator[Change]:
    """Yields what has happened to the nodes of an entity; what happens to portals happens to all of them."""
    had = before.nodes if before is not None else {}
    for name in had:
        if name not in after.nodes and before is not None:
            yield Change(name, before.node_type(name), Scn.OBJECT_REMOVED)
    same_ways = before is not None and _ways(before) == _ways(after)
    for name, values in after.nodes.items():
        if name not in had:
            yield Change(name, after.node_type(name), Scn.OBJECT_ADDED)
        elif not same_ways or _registered(had[name]) != _registered(values):
            yield Change(name, after.node_type(name), Scn.OBJECT_UPDATED)


def _ways(entity: Entity) -> object:
    """Returns what says how the nodes of an entity are reached, to be compared."""
    return {key: _registered(values) for key, values in entity.portals.items()}, entity.tags


def _registered(values: Values) -> Values:
    """Returns the attributes of an object that its client has registered."""
    return {tag: value for tag, value in values.items() if tag not in OF_THE_SERVER}


def _places(entity: Entity, name: bytes) -> Iterator[Place]:
    """Yields where a node takes notifications: at the portals that lead to it, or else at any of its entity."""
    reached = [tuple(each.key[1:]) for each in entity.groups(name)]
    for portal in dict.fromkeys((*reached, *entity.portals)):
        if Tag.SCN_PORT in entity.portals[portal]:
            yield _place(portal, entity.portals[portal][Tag.SCN_PORT])


def _place(portal: PortalKey, port: bytes) -> Place:
    number = read_number(port)
    return Place(read_address(portal[0]), number & MAX_PORT, bool(number & UDP))


def _text(value: bytes) -> str:
    return read_text(value)


def _portal(portal: Iterable[bytes]) -> str:
    host, port = portal
    return f"{read_address(host)} port {read_number(port) & MAX_PORT}"
