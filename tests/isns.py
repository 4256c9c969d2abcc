"""An iSNS server's machine and clients that talk to it, for tests; and the attributes of what they register."""

from iscsi_target.discovery.isns import attributes
from iscsi_target.discovery.isns.attributes import UDP, Attribute, Tag, address, number, text
from iscsi_target.discovery.isns.messages import Answer, Function, NodeType, Request, pack_request, unpack_answer
from iscsi_target.discovery.isns.name_server import Action, NameServer, Notify, Reply
from iscsi_target.discovery.isns.objects import Kind, Object, read_objects
from iscsi_target.discovery.isns.registering import Terms

A = "iqn.2026-11.org.example:a"
B = "iqn.2026-11.org.example:b"
C = "iqn.2026-11.org.example:c"
P, Q = "192.0.2.1", "192.0.2.2"
TERMS = Terms(period_s=600, max_period_s=3600, min_esi_s=10, max_esi_s=100)

Attributes = tuple[Attribute, ...]


def entity(name: str, period_s: int = 0) -> Attributes:
    return text(Tag.ENTITY_IDENTIFIER, name), number(Tag.ENTITY_PROTOCOL, 2), number(Tag.REGISTRATION_PERIOD, period_s)


def portal(host: str, port: int = 3260, *, status: int = 0, esi_s: int = 0) -> Attributes:
    """A portal that takes notifications at a UDP port, and inquiries too when there is an interval."""
    found = [address(Tag.PORTAL_IP_ADDRESS, host), number(Tag.PORTAL_PORT, port)]
    if status:
        found.append(number(Tag.SCN_PORT, status | UDP))
    if esi_s:
        found += [number(Tag.ESI_INTERVAL, esi_s), number(Tag.ESI_PORT, status | UDP)]
    return tuple(found)


def node(name: str, node_type: NodeType = NodeType.TARGET, alias: str = "") -> Attributes:
    found = (text(Tag.ISCSI_NAME, name), number(Tag.ISCSI_NODE_TYPE, node_type))
    return (*found, text(Tag.ISCSI_ALIAS, alias)) if alias else found


def tagged(tag: int | None, *hosts: str, port: int = 3260) -> Attributes:
    """Portal groups inside a node: a tag, or none, and portals."""
    found = [number(Tag.PORTAL_GROUP_TAG, tag) if tag is not None else Attribute(Tag.PORTAL_GROUP_TAG)]
    for host in hosts:
        found += [address(Tag.PG_PORTAL_IP_ADDRESS, host), number(Tag.PG_PORTAL_PORT, port)]
    return tuple(found)


def key(name: str) -> Attributes:
    return (text(Tag.ISCSI_NAME, name),)


class Clients:
    """A server's machine, and whoever asks it.

    now        the time; tests move it
    actions    what came out beside answers, in order
    """

    def __init__(self, terms: Terms = TERMS) -> None:
        self.server = NameServer(terms)
        self.now = 1000.0
        self.actions: list[Action] = []

    def ask(self, request: Request) -> Answer:
        """Returns the answer to a request."""
        reply, *actions = self.server.received(pack_request(request, 1), self.now)
        assert isinstance(reply, Reply)
        self.actions += actions
        return unpack_answer(reply.message)

    def register(self, source: str, *parts: Attributes, key: Attributes = (), replace: bool = False) -> Answer:
        operating = tuple(attribute for part in parts for attribute in part)
        return self.ask(Request(Function.DEV_ATTR_REG, source, key, operating, replace))

    def deregister(self, source: str, *operating: Attribute) -> int:
        return self.ask(Request(Function.DEV_DEREG, source, (), operating)).status

    def query(self, key: Attributes = (), *tags: int, source: str = A) -> list[Object]:
        """Returns the objects that a query finds."""
        answer = self.ask(Request(Function.DEV_ATTR_QRY, source, key, tuple(Attribute(tag) for tag in tags)))
        assert answer.status == 0, answer
        return read_objects(answer.operating)

    def subscribe(self, name: str, bitmap: int) -> int:
        return self.ask(Request(Function.SCN_REG, name, key(name), (number(Tag.ISCSI_SCN_BITMAP, bitmap),))).status

    def names(self) -> set[str]:
        """Returns the names of all nodes."""
        return {attributes.read_text(found.key[0]) for found in self.query((), Tag.ISCSI_NAME)}

    def wait(self, seconds: float) -> list[Action]:
        """Lets time go by and returns what the machine did; nobody answers an inquiry."""
        until = self.now + seconds
        done: list[Action] = []
        while self.server.deadline() <= until:
            self.now = max(self.now, self.server.deadline())
            actions = self.server.elapsed(self.now)
            done += actions
        self.now = until
        return done

    def notifications(self) -> list[Notify]:
        """Returns the notifications so far, and forgets all actions."""
        found = [action for action in self.actions if isinstance(action, Notify)]
        self.actions = []
        return found


def kinds(objects: list[Object]) -> list[Kind]:
    return [found.kind for found in objects]
