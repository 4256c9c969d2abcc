"""The Service Location Protocol, version 2 (RFC 2608): an agent that advertises iSCSI targets as RFC 4018 has them.

`packets` has the messages, `strings` the lists and escapes in them, `predicate` the filters of requests; `services`
says what a target advertises, and `agent` is the machine that answers. `responder` has the sockets.

The agent answers what is asked; it registers with no directory agent.
"""
