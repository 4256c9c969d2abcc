"""What the command line looks like: commands, their arguments, and what `--help` says."""

import argparse
from pathlib import Path

from iscsi_target.faults.guide import GUIDE

EXAMPLES = """\
examples:
  iscsi-target serve
      one sparse unit of 1 GiB at 127.0.0.1:3260; prints its URL for iscsi-ls, iscsi-inq and qemu-img
  iscsi-target serve --listen 0.0.0.0:0 --json
      at a free port of every address; events as JSON lines
  iscsi-target check /etc/iscsi-target.toml
      reports every mistake in a configuration
  iscsi-target serve /etc/iscsi-target.toml --trace session.pcapng
      serves it and lets Wireshark see what goes over the connections
  iscsi-target isns --listen 0.0.0.0
      an iSNS server, with which [isns] of a configuration registers targets
  iscsi-target reservations log disk0
      says of every reservation conflict at disk0 who met it, which rule it was, and who holds what since when

signals of serve: TERM logs initiators out and ends, again or INT ends at once, HUP reads the configuration again
"""


RESERVATIONS_EXAMPLES = """\
examples:
  iscsi-target reservations show disk0
      registered keys and the reservation, as `sg_persist -k` and `sg_persist -r` print them
  iscsi-target reservations show --full-status disk0
      who is registered by which port, as `sg_persist -s`
  iscsi-target reservations log --json disk0
      what happened lately and why, an entry a line
  iscsi-target reservations watch --config /etc/iscsi-target.toml disk0
      what happens from now on, until interrupted
  iscsi-target reservations preempt --abort disk0 0x1234
      removes the registrations with this key; done when no command of theirs can change a block any more

The server must run; it is asked by the socket `control` in its state directory.

exit status:
  0    done; of watch: interrupted
  2    nothing was done, or the server ended while it was watched; a line on standard error says why
  3    the server ended before it had answered an order, clear or preempt: it may be done or not
  130  interrupted; an order that was given goes on
"""


MEDIA_EXAMPLES = """\
examples:
  iscsi-target media show cd0
      what the medium is, whether it is loaded, and who prevents its removal
  iscsi-target media eject cd0
      takes it out; initiators that prevent that are asked to let go
  iscsi-target media insert cd0 other.img
      puts in another one, which initiators are told of

The server must run; it is asked by the socket `control` in its state directory.

exit status: as of `iscsi-target reservations`
"""


FAULTS_EXAMPLES = """\
examples:
  iscsi-target faults add 'on in where portal_group=2: drop'
      a path that fails without a word: multipath has to find out by itself, and to come back after remove or clear
  iscsi-target faults add --name crc 'on data-in where opcode=READ(16), every=100: corrupt data-digest'
      a CRC error now and then, for the author of an initiator
  iscsi-target faults add 'on scsi-command where opcode=WRITE(10), nth=3, times=2: answer busy'
      the third and fourth WRITE(10) end with BUSY
  iscsi-target faults list
      the rules, and how often each has matched and fired
  iscsi-target faults remove crc
      removes a rule; what it has kept back goes on

The server must run; it is asked by the socket `control` in its state directory.

exit status:
  0    done; of watch: interrupted
  2    nothing was done, or the server ended, and its rules with it; a line on standard error says why
  130  interrupted
"""


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="iscsi-target",
        description="Serves files, block devices and RAM as iSCSI logical units.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show program's version number and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands)
    check = commands.add_parser(
        "check",
        help="report every mistake in a configuration",
        description="Reports every mistake in a configuration; exit status 0 when there is none, else 2.",
    )
    check.add_argument("configuration", type=Path, metavar="CONFIG.toml", help="see README.md")
    check.add_argument("--state", type=Path, metavar="DIR", help="state directory, instead of the configured one")
    _add_isns(commands)
    reservations = commands.add_parser(
        "reservations",
        help="show what is reserved at a running server and why, or overrule it",
        description="Shows what a running server has reserved and why, and lets the operator overrule it.",
        epilog=RESERVATIONS_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_verbs(reservations.add_subparsers(dest="verb", required=True, metavar="VERB"))
    paths = commands.add_parser(
        "paths",
        help="show or change the asymmetric access states of a running server",
        description="Shows the target port groups that lead to a unit, and lets the operator change their states.",
    )
    _add_path_verbs(paths.add_subparsers(dest="verb", required=True, metavar="VERB"))
    media = commands.add_parser(
        "media",
        help="show or change the medium of a removable unit of a running server",
        description="Shows and changes the medium of a removable unit of a running server.",
        epilog=MEDIA_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_media_verbs(media.add_subparsers(dest="verb", required=True, metavar="VERB"))
    _add_pools(commands)
    _add_faults(commands)
    _add_profiles(commands)
    _add_targets(commands)
    return parser


VERBS = {
    "show": ("print registrations and reservation as sg_persist does", "Prints what sg_persist prints."),
    "log": ("print what happened lately and why", "Prints the last changes and refusals, oldest first."),
    "watch": ("print what happens from now on", "Prints changes and refusals as they come, until interrupted."),
    "clear": (
        "remove all registrations and the reservation",
        "Removes all registrations and the reservation, an SPC-2 reservation too."
        " Those who lose a registration are told.",
    ),
    "preempt": (
        "remove the registrations with a key",
        "Removes the registrations with a key, and the reservation when one of them holds it."
        " Those who lose a registration are told.",
    ),
}


MEDIA_VERBS = {
    "show": ("print what the medium is", "Prints what the medium is, whether it is loaded, and who prevents removal."),
    "eject": (
        "take the medium out",
        "Takes the medium out when all that was written is on it. While initiators prevent that, they are told of the"
        " request, and it stays in.",
    ),
    "load": ("put the medium in again", "Puts the medium in again that was ejected."),
    "insert": (
        "put another medium in",
        "Puts another medium into a unit whose medium is ejected. It stays until the server ends.",
    ),
}


FAULT_VERBS = {
    "list": ("print the rules and their counts", "Prints the rules, and how often each has matched and fired."),
    "add": ("add a rule", "Adds a rule after the others and prints its name."),
    "remove": ("remove rules", "Removes rules; what they have kept back goes on."),
    "clear": ("remove all rules", "Removes all rules; what they have kept back goes on."),
    "watch": ("print whenever a rule fires", "Prints whenever a rule fires, until interrupted."),
}


TARGET_VERBS = {
    "show": ("print how the targets stand", "Prints how each target stands, and how many sessions it has."),
    "offline": (
        "ask initiators to log out and let none in",
        "Asks all initiators of a target to log out, lets none in, and cuts those that stay past logout_timeout.",
    ),
    "online": ("let initiators in again", "Lets initiators in again, whatever the configuration says."),
    "move": (
        "send initiators elsewhere",
        "Asks all initiators of a target to log out, as offline does, and tells those that log in to go elsewhere.",
    ),
}


def _add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    serve = commands.add_parser(
        "serve",
        help="serve a configuration, or one unit without any",
        description="Serves a configuration, or without any one sparse 1 GiB unit at 127.0.0.1:3260.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("configuration", nargs="?", type=Path, metavar="CONFIG.toml", help="see README.md")
    serve.add_argument("--state", type=Path, metavar="DIR", help="state directory, instead of the configured one")
    serve.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help="instead of the addresses of the first portal group; port 0 takes a free port",
    )
    serve.add_argument(
        "--trace", type=Path, metavar="FILE.pcapng", help="write what goes over the connections, for Wireshark"
    )
    serve.add_argument(
        "--busy-poll",
        type=int,
        metavar="US",
        help="for so many microseconds after input, ask for more instead of sleeping (50 to 200): less delay with one "
        "command at a time, but a processor is busy as long as there is I/O, which several connections, and an "
        "initiator on the same machine, then lack",
    )
    serve.add_argument("--json", action="store_true", help="events as JSON lines on standard output")
    serve.add_argument("-v", "--verbose", action="store_true", help="also log what helps to find an error")


def _add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for name, (short, long) in VERBS.items():
        verb = verbs.add_parser(name, help=short, description=long)
        _add_unit(verb)
        if name == "show":
            page = verb.add_mutually_exclusive_group()
            page.add_argument(
                "--full-status", dest="page", action="store_const", const="full_status", help="as sg_persist -s"
            )
            page.add_argument(
                "--capabilities", dest="page", action="store_const", const="capabilities", help="as sg_persist -c"
            )
        if name == "preempt":
            verb.add_argument("key", metavar="KEY", help="reservation key in hexadecimal, with or without 0x")
            verb.add_argument(
                "--abort", action="store_true", help="abort their commands too, and wait until all are over"
            )


def _add_isns(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    isns = commands.add_parser(
        "isns",
        help="run a small iSNS server, where targets register and initiators find them",
        description="Runs a small iSNS server, which keeps nothing over a restart: targets register again.",
    )
    isns.add_argument("--listen", default="127.0.0.1", metavar="HOST[:PORT]", help="default 127.0.0.1; port 3205")
    isns.add_argument(
        "--registration-period",
        type=int,
        default=600,
        metavar="S",
        help="how long a registration lasts that asks for no period (600)",
    )
    isns.add_argument(
        "--esi-min-interval", type=int, default=10, metavar="S", help="shortest interval of status inquiries (10)"
    )
    isns.add_argument(
        "--control",
        action="append",
        default=[],
        metavar="NAME",
        help="iSCSI name of who may change discovery domains, and sees everything; may be given several times",
    )
    isns.add_argument("--json", action="store_true", help="events as JSON objects, one a line, on standard output")
    isns.add_argument("-v", "--verbose", action="store_true", help="log refused requests too")


def _add_path_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    _add_unit(verbs.add_parser("show", help="print the groups, their states and their ports"))
    change = verbs.add_parser("set", help="change the state of a group", description="Changes the state of a group.")
    _add_unit(change)
    change.add_argument("group", metavar="GROUP", type=int, help="number of the target port group")
    change.add_argument(
        "access", metavar="STATE", help="active/optimized, active/non-optimized, standby, unavailable or offline"
    )


def _add_media_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for name, (short, long) in MEDIA_VERBS.items():
        verb = verbs.add_parser(name, help=short, description=long)
        _add_unit(verb)
        if name == "eject":
            verb.add_argument("--force", action="store_true", help="also while initiators prevent removal")
        if name == "insert":
            verb.add_argument("file", type=Path, metavar="FILE", help="image, or block device, of the medium")


def _add_pools(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    pools = commands.add_parser("pools", help="show how full the pools of a running server are")
    show = pools.add_subparsers(dest="verb", required=True, metavar="VERB").add_parser(
        "show",
        help="print what is in use of each pool",
        description="Prints what is in use of each pool, and how much of it each unit has allocated.",
    )
    show.add_argument("pool", nargs="?", default="", metavar="POOL", help="one of them; default: all")
    _add_place(show)


def _add_faults(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    faults = commands.add_parser(
        "faults",
        help="let a running server misbehave on order",
        description="Shows and changes the rules by which a running server misbehaves.",
        epilog=FAULTS_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = faults.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (short, long) in FAULT_VERBS.items():
        verb = verbs.add_parser(
            name, help=short, description=long, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == "add":
            verb.add_argument("rule", metavar="RULE", help="one line, in quotes")
            verb.add_argument("--name", default="", metavar="NAME", help="instead of a number")
            verb.epilog = GUIDE
        if name == "remove":
            verb.add_argument("names", nargs="+", metavar="NAME", help="as `list` shows it")
        _add_place(verb)


def _add_targets(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    targets = commands.add_parser("targets", help="show the targets of a running server, or take them offline")
    verbs = targets.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (short, long) in TARGET_VERBS.items():
        verb = verbs.add_parser(name, help=short, description=long)
        if name != "show":
            verb.add_argument("target", metavar="TARGET", help="its iSCSI name")
        if name == "move":
            verb.add_argument("address", metavar="HOST:PORT", help="of the portal that has the target now")
            verb.add_argument("--permanent", action="store_true", help="initiators are to go there from now on")
        _add_place(verb)


def _add_profiles(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    commands.add_parser(
        "profiles",
        help="print the initiator profiles",
        description="Prints the profiles that a target can have for initiators, and the reason for each choice.",
    )


def _add_unit(verb: argparse.ArgumentParser) -> None:
    """Adds what names a unit of a running server."""
    verb.add_argument("unit", metavar="UNIT", help="name of the unit in the configuration; without any: disk0")
    _add_place(verb)


def _add_place(verb: argparse.ArgumentParser) -> None:
    """Adds what names a running server."""
    place = verb.add_mutually_exclusive_group()
    place.add_argument("--state", type=Path, metavar="DIR", help="state directory of the server; default as serve's")
    place.add_argument("--config", dest="configuration", type=Path, metavar="CONFIG.toml", help="file that names it")
    verb.add_argument("--json", action="store_true", help="JSON objects, one a line")


class _ShowVersion(argparse.Action):
    """Prints the version; only then is it looked up, which takes a while."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("iscsi-target")
        except PackageNotFoundError:  # run from a checkout that is not installed
            found = "(not installed)"
        print(f"iscsi-target {found}")
        parser.exit()
