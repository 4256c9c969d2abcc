"""What a person has to know to write a rule, for `--help`."""

GUIDE = """\
A rule is a line: on KIND [where CONDITION, CONDITION ...]: ACTION

kinds of PDU that initiators send: nop-out, scsi-command, task-management-request, login-request, text-request,
  data-out, logout-request, snack-request; in (all of them)
kinds of PDU that the target sends: nop-in, scsi-response, task-management-response, login-response, text-response,
  data-in, logout-response, r2t, async-message, reject; out (all of them); any

conditions, of which all must hold:
  initiator=PATTERN  target=PATTERN  with * and ? in a pattern
  portal_group=NUMBERS  cid=NUMBERS  lun=NUMBERS                             3, or 0..7
  opcode=WRITE(10)   opcode=0x2a     service_action=5      cdb.FIELD=NUMBERS of the command that a PDU belongs to
  pdu.FIELD=NUMBERS                                                          of the PDU's own header
and for which of the PDUs that they leave the rule fires, without any of these for all:
  nth=3              the third only; with times or every, from the third on
  every=10           every tenth
  times=2            no more than twice
  probability=0.01   one of a hundred; always the same ones for the same seed=NUMBER

actions:
  drop  duplicate  close                         the PDU is lost, comes twice, or ends the connection
  delay 200ms | 2s | 1min                        a command begins later; another PDU holds up what is behind it
  reorder [NUMBER]                               it goes behind the next PDU, or so many; after a second at last
  stall [TIME]                                   from here on nothing is read (kinds that come in) or sent (that go out)
  corrupt header-digest | data-digest            it is wrong, or of what comes in found to be; where digests are in use
  corrupt data [at OFFSET]                       one byte, unnoticed by digests
  change FIELD by NUMBER | change FIELD to NUMBER    a field of the header: stat_sn, data_sn, r2t_sn, exp_cmd_sn,
                                                 target_transfer_tag ...
of a scsi-command only:
  hang                                           it is taken and never answered
  answer busy | task-set-full | reservation-conflict | aca-active | task-aborted
  answer sense KEY/ASC/ASCQ                      hexadecimal: answer sense 3/11/00
  attention ASC/ASCQ                             a unit attention is established: attention 29/00
of a login-request only:
  refuse STATUS                                  hexadecimal, or by name: refuse 0301, refuse service-unavailable
"""
