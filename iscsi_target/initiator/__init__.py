"""The initiator's side of RFC 7143 as a machine without sockets: requests and bytes in, events and bytes out.

It is built of the parts that the target is built of: layouts, framing, text, the negotiation table, CHAP. Like them it
knows nothing of SCSI: LUN, CDB, status and sense are opaque bytes.
"""
