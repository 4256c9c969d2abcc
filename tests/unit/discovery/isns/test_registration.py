"""The machine that keeps a target registered, against a server that the test plays."""

import pytest

from iscsi_target.discovery.isns import attributes, scn
from iscsi_target.discovery.isns.attributes import Tag, text
from iscsi_target.discovery.isns.description import Description, NodeEntry, PortalEntry
from iscsi_target.discovery.isns.faults import Status
from iscsi_target.discovery.isns.messages import (
    Answer,
    Function,
    Scn,
    pack_answer,
    pack_plain,
    unpack_request,
)
from iscsi_target.discovery.isns.objects import Kind, read_objects
from iscsi_target.discovery.isns.pdu import pack
from iscsi_target.discovery.isns.registration import (
    ANSWER_S,
    MAX_RETRY_S,
    MIN_RETRY_S,
    NEVER,
    STABLE_S,
    Open,
    Registration,
    Send,
    Shut,
    Tell,
    Warn,
)

A, B = "iqn.2026-11.org.example:a", "iqn.2026-11.org.example:b"
WANTED = Description("entity", (NodeEntry(A, "", (1,), "None"),), (PortalEntry("192.0.2.1", 3260, 1, 9000),), 300, 60)
BOTH = WANTED._replace(nodes=(*WANTED.nodes, NodeEntry(B, "", (1,), "None")))
ONLY_B = WANTED._replace(nodes=BOTH.nodes[1:])
FOUND = Answer(Status.SUCCESSFUL, (), (text(Tag.ENTITY_IDENTIFIER, "entity"), text(Tag.ISCSI_NAME, A)))
DONE = Answer(Status.SUCCESSFUL)


class Server:
    """The machine, and the server's side of what it does.

    asked     the functions that the machine has asked for, in order
    answers   function -> what is answered, DONE otherwise; None: nothing
    """

    def __init__(self):
        self.machine = Registration()
        self.now = 100.0
        self.asked = []
        self.requests = []
        self.others = []
        self.answers: dict[int, Answer | None] = {Function.DEV_ATTR_QRY: FOUND}
        self.reachable = True

    def play(self, actions):
        for action in actions:
            match action:
                case Open():
                    self.play(
                        self.machine.opened(self.now)
                        if self.reachable
                        else self.machine.lost("cannot be reached", self.now)
                    )
                case Send(message):
                    request = unpack_request(message)
                    self.asked.append(request.function)
                    self.requests.append(request)
                    answer = self.answers.get(request.function, DONE)
                    if answer is not None:
                        self.play(self.machine.received(pack(pack_answer(answer, message)), self.now))
                case _:
                    self.others.append(action)
        return self

    def want(self, wanted):
        return self.play(self.machine.want(wanted, self.now))

    def wait(self, seconds):
        """Lets time go by, and calls the machine whenever it wants to be called."""
        until = self.now + seconds
        while self.machine.deadline() <= until:
            self.now = max(self.now, self.machine.deadline())
            self.play(self.machine.elapsed(self.now))
        self.now = until
        return self

    def take(self):
        asked, self.asked = self.asked, []
        return asked

    def warnings(self):
        return [action.text for action in self.others if isinstance(action, Warn)]


REGISTERING = [Function.DEV_ATTR_REG, Function.SCN_REG]


@pytest.fixture
def registered():
    server = Server().want(WANTED)
    assert server.take() == REGISTERING
    return server


def test_target_is_registered_and_subscribed_at_once(registered):
    assert registered.machine.settled
    assert registered.others == [Tell(f"has registered entity with targets: {A}")]


@pytest.mark.parametrize("nothing", [None, WANTED._replace(nodes=()), WANTED._replace(portals=())])
def test_nothing_is_asked_when_there_is_nothing_to_register(nothing):
    server = Server().want(nothing).wait(1000)
    assert (server.asked, server.machine.deadline()) == ([], NEVER)
    assert server.machine.settled


@pytest.mark.clause("RFC4171 6.2.6")
def test_registration_is_refreshed_well_within_its_period(registered):
    registered.wait(99)
    assert registered.take() == []
    registered.wait(201)
    assert registered.take() == [Function.DEV_ATTR_QRY] * 3


@pytest.mark.clause("RFC4171 6.2.6")
def test_period_that_the_server_grants_is_what_counts():
    server = Server()
    server.answers[Function.DEV_ATTR_REG] = DONE._replace(operating=(attributes.number(Tag.REGISTRATION_PERIOD, 30),))
    server.want(WANTED).wait(30)
    assert server.take() == [*REGISTERING, *[Function.DEV_ATTR_QRY] * 3]


def test_period_of_nothing_does_not_become_a_storm_of_queries():
    server = Server()
    server.answers[Function.DEV_ATTR_REG] = DONE._replace(operating=(attributes.number(Tag.REGISTRATION_PERIOD, 1),))
    assert len(server.want(WANTED).wait(30).asked) <= 2 + 30


@pytest.mark.clause("RFC4171 6.2.6")
def test_esi_refreshes_the_registration_too(registered):
    for _ in range(5):
        registered.wait(60)
        registered.play(registered.machine.notified(pack_plain(Function.ESI, 1, []), registered.now))
    assert registered.take() == []


@pytest.mark.parametrize("answer", [DONE, Answer(Status.SOURCE_UNKNOWN), Answer(Status.NO_SUCH_ENTRY)])
def test_target_is_registered_again_when_the_server_has_forgotten_it(registered, answer):
    registered.answers[Function.DEV_ATTR_QRY] = answer
    registered.wait(100)
    assert registered.take() == [Function.DEV_ATTR_QRY, *REGISTERING]
    assert "has lost a target" in registered.warnings()[0]


def test_server_that_comes_back_is_asked_and_told_again(registered):
    registered.reachable = False
    registered.play(registered.machine.lost("has closed the connection", registered.now)).wait(20)
    assert (registered.take(), registered.warnings()) == ([], ["cannot be reached"])
    registered.reachable = True
    registered.answers[Function.DEV_ATTR_QRY] = DONE
    registered.wait(MAX_RETRY_S)
    assert registered.take() == [Function.DEV_ATTR_QRY, *REGISTERING]


def test_server_that_is_not_there_is_tried_at_longer_and_longer_intervals():
    server = Server()
    server.reachable = False
    server.want(WANTED)
    tries = []
    for _ in range(10):
        tries.append(server.machine.deadline() - server.now)
        server.now = server.machine.deadline()
        server.play(server.machine.elapsed(server.now))
    assert tries == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert server.warnings() == ["cannot be reached"]


def test_server_that_closes_idle_connections_is_not_asked_all_the_time(registered):
    for _ in range(100):
        registered.play(registered.machine.lost("has closed the connection", registered.now))
        registered.wait(max(0, registered.machine.deadline() - registered.now))
    assert registered.now > 90 * MAX_RETRY_S
    assert set(registered.take()) == {Function.DEV_ATTR_QRY}
    assert registered.warnings() == []


def test_connection_that_has_lasted_is_opened_again_quickly(registered):
    registered.play(registered.machine.lost("", registered.now)).wait(MIN_RETRY_S + 200)
    registered.play(registered.machine.lost("", registered.now))
    assert registered.machine.deadline() == registered.now + MIN_RETRY_S
    assert STABLE_S < 200


def test_server_that_does_not_answer_is_cut_and_tried_again():
    server = Server()
    server.answers[Function.DEV_ATTR_REG] = None
    server.want(WANTED).wait(ANSWER_S)
    assert server.others == [Warn("does not answer"), Shut()]
    server.answers.clear()
    server.wait(MIN_RETRY_S)
    assert server.machine.settled


def test_server_that_sends_rubbish_is_cut(registered):
    registered.play(registered.machine.received(b"HTTP/1.1 400 Bad Request", registered.now))
    assert registered.others[-1] == Shut()
    assert "version" in registered.warnings()[0]


def test_answer_to_another_request_is_no_answer(registered):
    registered.answers[Function.DEV_ATTR_QRY] = None
    registered.wait(100)
    late = pack_answer(DONE, registered_message(transaction=77))
    registered.play(registered.machine.received(pack(late), registered.now)).wait(ANSWER_S)
    assert registered.warnings() == ["does not answer"]


def registered_message(transaction):
    return pack_plain(Function.DEV_ATTR_QRY, transaction, [])


@pytest.mark.clause("RFC4171 6.3.5")
def test_registration_goes_without_esi_when_the_server_has_none():
    server = Server()
    server.answers[Function.DEV_ATTR_REG] = Answer(Status.ESI_NOT_AVAILABLE)
    server.want(WANTED)
    first, second = server.requests
    assert has_esi(first)
    assert not has_esi(second)


def has_esi(request):
    return any(tag == Tag.ESI_PORT for tag, _ in request.operating)


def test_refused_registration_is_told_once_and_tried_again():
    server = Server()
    server.answers[Function.DEV_ATTR_REG] = Answer(Status.SOURCE_UNAUTHORIZED)
    server.want(WANTED).wait(300)
    assert server.warnings() == ["refuses the registration: source unauthorized"]
    assert 5 < len(server.asked) < 20
    server.answers.clear()
    server.wait(MAX_RETRY_S)
    assert server.machine.settled


def test_server_without_notifications_serves_all_the_same():
    server = Server()
    server.answers[Function.SCN_REG] = Answer(Status.MESSAGE_NOT_SUPPORTED)
    server.want(WANTED)
    assert server.machine.settled
    assert server.others[-1] == Tell("does not notify: message not supported")


# Changes


def test_change_replaces_the_registration_with_a_source_that_the_server_knows(registered):
    registered.want(BOTH)
    assert registered.take() == [Function.DEV_ATTR_REG, Function.SCN_REG, Function.SCN_REG]
    registered.want(ONLY_B)
    assert registered.requests[-2].source == B
    assert names(registered.requests[-2]) == [B]
    assert registered.machine.settled


def names(request):
    nodes = [found for found in read_objects(request.operating) if found.kind is Kind.NODE]
    return [attributes.read_text(node.values[Tag.ISCSI_NAME]) for node in nodes]


@pytest.mark.parametrize("wanted", [ONLY_B, WANTED._replace(entity="other")])
def test_entity_is_deregistered_first_when_nothing_of_it_stays(registered, wanted):
    registered.want(wanted)
    assert registered.take() == [Function.DEV_DEREG, *REGISTERING]
    assert registered.requests[-3].source == A


def test_change_during_a_conversation_comes_after_it():
    server = Server()
    server.answers[Function.DEV_ATTR_REG] = None
    server.want(WANTED)
    server.want(BOTH)
    assert server.take() == [Function.DEV_ATTR_REG]
    del server.answers[Function.DEV_ATTR_REG]
    server.play(server.machine.received(pack(pack_answer(DONE, sent(server))), server.now))
    assert server.take() == [Function.SCN_REG, Function.DEV_ATTR_REG, Function.SCN_REG, Function.SCN_REG]
    assert server.machine.settled


def sent(server):
    return pack_plain(server.requests[-1].function, 1, [])


def test_nothing_stays_registered_at_the_end(registered):
    registered.want(None)
    assert registered.take() == [Function.DEV_DEREG]
    assert registered.machine.settled
    registered.wait(1000)
    assert registered.take() == []


# Notifications


def notify(server, name, change):
    content = scn.notification(A, [(name, change)], 0)
    return server.play(server.machine.notified(pack_plain(Function.SCN, 1, content), server.now))


@pytest.mark.clause("RFC4171 5.6.5.8")
def test_target_that_somebody_has_removed_is_registered_again(registered):
    notify(registered, A, Scn.OBJECT_REMOVED)
    assert registered.take() == [Function.DEV_ATTR_QRY]
    registered.answers[Function.DEV_ATTR_QRY] = DONE
    notify(registered, A, Scn.OBJECT_REMOVED)
    assert registered.take() == [Function.DEV_ATTR_QRY, *REGISTERING]


@pytest.mark.parametrize("told", [(B, Scn.OBJECT_REMOVED), (A, Scn.OBJECT_ADDED)])
def test_other_notifications_change_nothing(registered, told):
    notify(registered, *told)
    registered.play(registered.machine.notified(pack_plain(Function.SCN, 1, [])._replace(payload=b"ab"), 0.0))
    assert registered.take() == []
