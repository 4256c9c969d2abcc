"""The Internet Storage Name Service (RFC 4171): a client that registers targets, a query, and a small server.

From bytes to meaning: `pdu` frames, `attributes` reads tag, length and value, `messages` has the form of requests and
answers, and `objects` what is registered. `registration` and `name_server` are the machines of the two sides; what has
a socket is in `registrar`, `status_port`, `exchange` and `service`.
"""
