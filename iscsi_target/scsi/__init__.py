"""SAM-5, SPC-4 and SBC-3: logical units, their commands and their tasks. Knows no iSCSI word.

Each package imports itself and those before it:

    what lies here   the words that all others use: nexus, status and sense, attentions, operations of a medium
    layouts          bytes and values of CDBs and parameter data
    reservations     reservations as pure state and transitions, and what other targets do differently
    state            what a unit has and what a task is
    commands         the table of commands, and their handlers
    unit             the machine of one unit: which task goes on, and how it ends
"""
