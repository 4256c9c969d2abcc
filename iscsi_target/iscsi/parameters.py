"""What two ends negotiate: the target's preferences, and the parameters that come of them.

The way from one to the other is the table in `keys`.
"""

from typing import Final, NamedTuple

from iscsi_target.iscsi import text

CRC32C: Final = "CRC32C"
RFC3720: Final = "RFC3720"
RESPONSE_FENCE: Final = "ResponseFence"
FAST_ABORT: Final = "FastAbort"  # implies the fence. Source: RFC7143 13.23
SAM_5_LEVEL: Final = 2  # of iSCSIProtocolLevel: the features of RFC 7144 are there. Source: RFC7144 6
MAX_CONNECTIONS: Final = 32  # of one session; each costs what any connection may have queued and half received
MIN_LENGTH_BYTES: Final = 512  # of segments and bursts, RFC7143 13.12 to 13.14
MAX_LENGTH_BYTES: Final = 2**24 - 1
DEFAULT_SEGMENT_BYTES: Final = 8192  # RFC7143 13.12; also what holds during login


class Preferences(NamedTuple):
    """The target's own side of every negotiation.

    header_digest, data_digest   what is supported, of "None" and "CRC32C"; without "None" it is demanded
    max_recv_data_segment_length what is declared, 512..2**24-1 bytes
    max_burst_length, first_burst_length   512..2**24-1 bytes
    max_outstanding_r2t, max_connections   1..65535
    error_recovery_level         0..2
    default_time2wait, default_time2retain   0..3600 seconds
    task_reporting               what is supported, of "RFC3720", "ResponseFence", "FastAbort"
    protocol_level               0..31
    Source: RFC7143 13
    """

    header_digest: tuple[str, ...] = (text.NONE, CRC32C)
    data_digest: tuple[str, ...] = (text.NONE, CRC32C)
    max_recv_data_segment_length: int = 262144
    initial_r2t: bool = False
    immediate_data: bool = True
    max_burst_length: int = 1048576
    first_burst_length: int = 262144
    max_outstanding_r2t: int = 16
    max_connections: int = 1
    error_recovery_level: int = 0
    default_time2wait: int = 0
    default_time2retain: int = 0
    data_pdu_in_order: bool = False
    data_sequence_in_order: bool = False
    task_reporting: tuple[str, ...] = (RFC3720,)
    protocol_level: int = 1


class Parameters(NamedTuple):
    """What holds on a connection and its session; without arguments, what holds when nothing is negotiated.

    header_digest, data_digest   whether CRC32C is in use
    initiator_max_recv           longest data segment that the initiator takes, bytes
    target_max_recv              longest data segment that we take, bytes
    the others                   as their keys, lengths in bytes and times in seconds
    Source: RFC7143 13
    """

    header_digest: bool = False
    data_digest: bool = False
    initial_r2t: bool = True
    immediate_data: bool = True
    max_burst_length: int = 262144
    first_burst_length: int = 65536
    initiator_max_recv: int = DEFAULT_SEGMENT_BYTES
    target_max_recv: int = DEFAULT_SEGMENT_BYTES
    max_outstanding_r2t: int = 1
    max_connections: int = 1
    error_recovery_level: int = 0
    default_time2wait: int = 2
    default_time2retain: int = 20
    data_pdu_in_order: bool = True
    data_sequence_in_order: bool = True
    task_reporting: str = RFC3720
    protocol_level: int = 1

    def with_connection(self, own: "Parameters") -> "Parameters":
        """Returns these of a session with those of one of its connections where each has its own.

        Source: RFC7143 13
        """
        return self._replace(
            header_digest=own.header_digest,
            data_digest=own.data_digest,
            initiator_max_recv=own.initiator_max_recv,
            target_max_recv=own.target_max_recv,
        )

    @property
    def most_in(self) -> int:
        """Returns how many bytes fit into one Data-In PDU.

        Source: RFC7143 13.12, 13.13
        """
        return min(self.initiator_max_recv, self.max_burst_length)

    @property
    def most_out(self) -> int:
        """Returns how many bytes may come as immediate data.

        Source: RFC7143 13.11, 13.12, 13.14
        """
        return min(self.target_max_recv, self.first_burst_length) if self.immediate_data else 0
