"""Calls, in a guest, the kernel's own interface to persistent reservations: pr_ops.py DEVICE VERB NUMBER...

Numbers are keys, and the type as linux/pr.h counts: 1 WE, 2 EA, 3 WERO, 4 EARO, 5 WEAR, 6 EAAR.
"""

import fcntl
import struct
import sys

VERBS = {  # the ioctl, its structure in the order of the words
    "register": (0x401870C8, "<QQI4x"),  # old key, new key, flags: 1 ignores the old key
    "reserve": (0x401070C9, "<QI4x"),  # key, type
    "release": (0x401070CA, "<QI4x"),
    "preempt": (0x401870CB, "<QQI4x"),  # own key, key of the one to preempt, type
    "preempt-abort": (0x401870CC, "<QQI4x"),
    "clear": (0x401070CD, "<Q8x"),  # key
}

device, verb, *numbers = sys.argv[1:]
request, structure = VERBS[verb]
words = bytearray(struct.pack(structure, *(int(number, 0) for number in numbers)))  # mutable: so the result is returned
with open(device, "rb") as disk:  # noqa: PTH123  # it is run with python3 -S, which is quicker without pathlib
    try:
        print(verb, hex(fcntl.ioctl(disk, request, words)))
    except OSError as error:
        print(verb, error.strerror)
