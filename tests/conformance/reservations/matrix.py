"""Which command meets a conflict under which reservation: the tables of the standards, one line a command.

A line has the operation codes (each with its service action after a slash), the cells and the command; a fourth column
tells lines apart where the CDB or the personality decides. There are six groups of cells, one a type in the order of
their codes, and in each group three letters: the holder, a registered nexus that is not the holder, a nexus that is not
registered. With the all registrants types every registered nexus is a holder.

    A   allowed: the command is processed, and may still be refused for another reason
    C   RESERVATION CONFLICT, and nothing happens
    N   GOOD, and nothing happens

START STOP UNIT is decided by START and POWER CONDITION alone, whatever LOEJ is: so has it table 13.
"""

from collections.abc import Iterator
from typing import NamedTuple

Code = tuple[int, int | None]  # operation code, service action


class Line(NamedTuple):
    """One line of a table.

    variant   empty where the operation code says it all
    """

    codes: tuple[Code, ...]
    cells: str
    command: str
    variant: str = ""

    def cell(self, kind: int, role: int) -> str:
        """Returns the letter for a type, counted from 0, and a column of its group."""
        return self.cells.split()[kind][role]

    def __str__(self) -> str:
        return f"{self.command} {self.variant}".rstrip()


SPC = """
00                      | AAA AAA AAA AAA AAA AAA | TEST UNIT READY
03                      | AAA AAA AAA AAA AAA AAA | REQUEST SENSE
12                      | AAA AAA AAA AAA AAA AAA | INQUIRY
A0                      | AAA AAA AAA AAA AAA AAA | REPORT LUNS
4D                      | AAA AAA AAA AAA AAA AAA | LOG SENSE
5E/00 5E/01 5E/02 5E/03 | AAA AAA AAA AAA AAA AAA | PERSISTENT RESERVE IN
A3/05                   | AAA AAA AAA AAA AAA AAA | REPORT IDENTIFYING INFORMATION
A3/0A                   | AAA AAA AAA AAA AAA AAA | REPORT TARGET PORT GROUPS
A3/0B                   | AAA AAA AAA AAA AAA AAA | REPORT ALIASES
A3/0E                   | AAA AAA AAA AAA AAA AAA | REPORT PRIORITY
A3/0F                   | AAA AAA AAA AAA AAA AAA | REPORT TIMESTAMP
84/00 84/03 84/04       | AAA AAA AAA AAA AAA AAA | RECEIVE COPY RESULTS
84/05 84/06             | AAA AAA AAA AAA AAA AAA | RECEIVE COPY STATUS / DATA
84/07                   | AAA AAA AAA AAA AAA AAA | RECEIVE ROD TOKEN INFORMATION
84/08                   | AAA AAA AAA AAA AAA AAA | REPORT ALL ROD TOKENS
AB/01                   | AAA AAA AAA AAA AAA AAA | READ MEDIA SERIAL NUMBER
86                      | AAA AAA AAA AAA AAA AAA | ACCESS CONTROL IN
87                      | AAA AAA AAA AAA AAA AAA | ACCESS CONTROL OUT
1A 5A                   | AAA ACC AAA AAC AAA AAC | MODE SENSE
3C                      | AAA ACC AAA AAC AAA AAC | READ BUFFER
1C                      | AAA ACC AAA AAC AAA AAC | RECEIVE DIAGNOSTIC RESULTS
8C                      | AAA ACC AAA AAC AAA AAC | READ ATTRIBUTE
A3/0C                   | AAA ACC AAA AAC AAA AAC | REPORT SUPPORTED OPERATION CODES
A3/0D                   | AAA ACC AAA AAC AAA AAC | REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS
A3/10                   | AAA ACC AAA AAC AAA AAC | MANAGEMENT PROTOCOL IN
A2                      | AAA ACC AAA AAC AAA AAC | SECURITY PROTOCOL IN
15 55                   | ACC ACC AAC AAC AAC AAC | MODE SELECT
4C                      | ACC ACC AAC AAC AAC AAC | LOG SELECT
1D                      | ACC ACC AAC AAC AAC AAC | SEND DIAGNOSTIC
3B                      | ACC ACC AAC AAC AAC AAC | WRITE BUFFER
8D                      | ACC ACC AAC AAC AAC AAC | WRITE ATTRIBUTE
A4/06                   | ACC ACC AAC AAC AAC AAC | SET IDENTIFYING INFORMATION
A4/0A                   | ACC ACC AAC AAC AAC AAC | SET TARGET PORT GROUPS
A4/0B                   | ACC ACC AAC AAC AAC AAC | CHANGE ALIASES
A4/0C                   | ACC ACC AAC AAC AAC AAC | REMOVE I_T NEXUS
A4/0E                   | ACC ACC AAC AAC AAC AAC | SET PRIORITY
A4/0F                   | ACC ACC AAC AAC AAC AAC | SET TIMESTAMP
A4/10                   | ACC ACC AAC AAC AAC AAC | MANAGEMENT PROTOCOL OUT
B5                      | ACC ACC AAC AAC AAC AAC | SECURITY PROTOCOL OUT
7F/1800                 | ACC ACC AAC AAC AAC AAC | RECEIVE CREDENTIAL
83/00 83/01             | ACC ACC AAC AAC AAC AAC | EXTENDED COPY
83/1C                   | ACC ACC AAC AAC AAC AAC | COPY OPERATION ABORT
"""  # Source: SPC4r37 5.13.1 table 65

RESERVE_OUT = """
5F/00 | AAA AAA AAA AAA AAA AAA | PERSISTENT RESERVE OUT, REGISTER
5F/06 | AAA AAA AAA AAA AAA AAA | PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY
5F/01 | ACC ACC ACC ACC AAC AAC | PERSISTENT RESERVE OUT, RESERVE
5F/02 | AAC AAC AAC AAC AAC AAC | PERSISTENT RESERVE OUT, RELEASE
5F/03 | AAC AAC AAC AAC AAC AAC | PERSISTENT RESERVE OUT, CLEAR
5F/04 | AAC AAC AAC AAC AAC AAC | PERSISTENT RESERVE OUT, PREEMPT
5F/05 | AAC AAC AAC AAC AAC AAC | PERSISTENT RESERVE OUT, PREEMPT AND ABORT
5F/07 | ACC ACC ACC ACC CCC CCC | PERSISTENT RESERVE OUT, REGISTER AND MOVE
5F/08 | AAC AAC AAC AAC AAC AAC | PERSISTENT RESERVE OUT, REPLACE LOST RESERVATION
"""  # Source: SPC4r37 5.13.1 table 66, 5.13.8

SBC = """
83/10               | AAA ACC AAA AAC AAA AAC | POPULATE TOKEN
83/11               | ACC ACC AAC AAC AAC AAC | WRITE USING TOKEN
08 28 A8 88 7F/0009 | AAA ACC AAA AAC AAA AAC | READ
2F AF 8F 7F/000A    | AAA ACC AAA AAC AAA AAC | VERIFY
34 90               | AAA ACC AAA AAC AAA AAC | PRE-FETCH
25                  | AAA AAA AAA AAA AAA AAA | READ CAPACITY
9E/10               | AAA AAA AAA AAA AAA AAA | READ CAPACITY
9E/12               | AAA ACC AAA AAC AAA AAC | GET LBA STATUS
9E/13               | AAA AAA AAA AAA AAA AAA | REPORT REFERRALS
37 B7               | AAA ACC AAA AAC AAA AAC | READ DEFECT DATA
52 7F/0003          | AAA ACC AAA AAC AAA AAC | XDREAD
1E                  | AAA AAA AAA AAA AAA AAA | PREVENT ALLOW MEDIUM REMOVAL | PREVENT=0
1E                  | ACC ACC AAC AAC AAC AAC | PREVENT ALLOW MEDIUM REMOVAL | PREVENT=1
1B                  | AAA AAA AAA AAA AAA AAA | START STOP UNIT | start
1B                  | ACC ACC AAC AAC AAC AAC | START STOP UNIT | other
0A 2A AA 8A 7F/000B | ACC ACC AAC AAC AAC AAC | WRITE
2E AE 8E 7F/000C    | ACC ACC AAC AAC AAC AAC | WRITE AND VERIFY
41 93 7F/000D       | ACC ACC AAC AAC AAC AAC | WRITE SAME
42                  | ACC ACC AAC AAC AAC AAC | UNMAP
89                  | ACC ACC AAC AAC AAC AAC | COMPARE AND WRITE
8B 7F/000E          | ACC ACC AAC AAC AAC AAC | ORWRITE
9C                  | ACC ACC AAC AAC AAC AAC | WRITE ATOMIC
04                  | ACC ACC AAC AAC AAC AAC | FORMAT UNIT
48/01 48/02 48/03   | ACC ACC AAC AAC AAC AAC | SANITIZE
48/1F               | ACC ACC AAC AAC AAC AAC | SANITIZE, EXIT FAILURE MODE
07                  | ACC ACC AAC AAC AAC AAC | REASSIGN BLOCKS
35 91               | ACC ACC AAC AAC AAC AAC | SYNCHRONIZE CACHE
3E 9E/11            | ACC ACC AAC AAC AAC AAC | READ LONG
3F 9F/11            | ACC ACC AAC AAC AAC AAC | WRITE LONG
50 51 53            | ACC ACC AAC AAC AAC AAC | XDWRITE, XPWRITE, XDWRITEREAD
"""  # Source: SBC3r36 4.17 table 13

RESERVE = """
16 56 17 57 | NCC NCC NNC NNC NNC NNC | RESERVE and RELEASE | CRH=1
16 56 17 57 | CCC CCC CCC CCC CCC CCC | RESERVE and RELEASE | CRH=0
"""  # Source: SPC4r37 5.13.3, SPC2r20 5.5.1


def lines(table: str) -> Iterator[Line]:
    """Reads the lines of a table."""
    for text in table.strip().splitlines():
        codes, cells, *rest = (part.strip() for part in text.split("|"))
        yield Line(tuple(_code(code) for code in codes.split()), cells, *rest)


def _code(text: str) -> Code:
    operation_code, _, service_action = text.partition("/")
    return int(operation_code, 16), int(service_action, 16) if service_action else None
