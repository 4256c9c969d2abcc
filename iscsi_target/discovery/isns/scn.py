"""State change notifications: what has changed with which nodes, as the attributes of a message.

Source: RFC4171 5.6.5.8
"""

from collections.abc import Iterable

from iscsi_target.discovery.isns import attributes
from iscsi_target.discovery.isns.attributes import Attribute, Tag
from iscsi_target.discovery.isns.messages import Scn

Change = tuple[str, Scn]  # the name of a node, and what has happened to it


def notification(destination: str, changes: Iterable[Change], time_s: int) -> list[Attribute]:
    """Returns the content of a notification.

    destination    the node that wants to know
    time_s         when it happened, in seconds since 1970
    """
    content = [attributes.text(Tag.ISCSI_NAME, destination), attributes.timestamp(time_s)]
    for name, change in changes:
        content.append(attributes.number(Tag.ISCSI_SCN_BITMAP, change))
        content.append(attributes.text(Tag.ISCSI_NAME, name))
    return content


def read_changes(payload: bytes) -> list[Change]:
    """Returns what a notification tells; raises Refused when it has not the form of one."""
    changes: list[Change] = []
    change = Scn(0)
    for tag, value in attributes.unpack(payload):
        if tag == Tag.ISCSI_SCN_BITMAP:
            change = Scn(attributes.read_number(value))
        elif tag == Tag.ISCSI_NAME and change:
            changes.append((attributes.read_text(value), change))
    return changes
