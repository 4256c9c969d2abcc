# What scripts of the tests begin with.

# login TARGET [PORTAL] [SETTING=VALUE...]    makes a session to $NAME:TARGET, by interface $IFACE, and waits for its disks
login() {
    local portal=$PORTAL iface=${IFACE-default} record setting
    local target=$NAME:$1
    shift
    case ${1-} in *.*.*.*:*) portal=$1 && shift ;; esac
    record="-m node -T $target -p $portal -I $iface"
    iscsiadm $record -o new >/dev/null || return
    for setting; do
        iscsiadm $record -o update -n "${setting%%=*}" -v "${setting#*=}" || return
    done
    iscsiadm $record --login >/dev/null && udevadm settle
}

# second_initiator NAME     makes the interface NAME, by which the guest is another initiator, $NAME:NAME
second_initiator() {
    iscsiadm -m iface -I "$1" -o new >/dev/null &&
        iscsiadm -m iface -I "$1" -o update -n iface.initiatorname -v "$NAME:$1" >/dev/null
}

# disk TARGET LUN [INITIATOR or PORTAL]     prints the device of a unit
disk() {
    local session number about
    for session in /sys/class/iscsi_session/session*; do
        number=${session##*session}
        about="$(<"$session/targetname") $(<"$session/initiatorname")"
        about+=" $(<"/sys/class/iscsi_connection/connection$number:0/persistent_address")"
        about+=":$(<"/sys/class/iscsi_connection/connection$number:0/persistent_port")"
        if [[ $about == "$NAME:$1 "* && $about == *"${3-}"* ]]; then
            echo /dev/"$(ls "$session"/device/target*/*:"$2"/block)"
        fi
    done
}

# port INITIATOR     prints the initiator port of the session that an initiator has, as sg_persist takes a TransportID
port() {
    local session
    for session in /sys/class/iscsi_session/session*; do
        if [ "$(<"$session/initiatorname")" = "$NAME:$1" ]; then
            printf '%s,i,0x00023d%06x\n' "$NAME:$1" "${session##*session}" # how open-iscsi makes an ISID
        fi
    done
}

# forget_maps     removes the maps of multipath; as long as udev looks at one, that is refused
forget_maps() {
    until multipath -F 2>/dev/null >&2; do sleep 0.2; done
}

# forget_all      ends all sessions and forgets all records and maps
forget_all() {
    [ ! -d /sys/block/dm-0 ] || forget_maps
    [ -z "$(ls /sys/class/iscsi_session)" ] || iscsiadm -m session -u >/dev/null
    rm -rf /etc/iscsi/nodes /etc/iscsi/send_targets /etc/iscsi/ifaces
    udevadm settle
    [ -z "$(ls /sys/class/iscsi_session)$(compgen -G '/sys/block/sd*')" ]
}

# background NAME COMMAND...     starts a command; await NAME prints what it printed and has its exit status
background() {
    local name=$1
    shift
    rm -f "$name.status"
    { "$@" >"$name.output" 2>&1 </dev/null; echo $? >"$name.status"; } >/dev/null 2>&1 &
}
await() {
    until [ -s "$1.status" ]; do sleep 0.2; done
    cat "$1.output"
    return "$(<"$1.status")"
}

# verified FIO-OPTION...     writes to disks with fio and reads back what must be there; prints only what went wrong
verified() {
    fio --name=verified --direct=1 --ioengine=libaio --iodepth=8 --bsrange=512-64k --rw=randwrite --verify=crc32c \
        --verify_fatal=1 --do_verify=1 "$@" >fio.output 2>&1 || { cat fio.output && return 1; }
}

# pr_ops DEVICE VERB NUMBER...     see pr_ops.py
pr_ops() {
    python3 -IS -c "$PR_OPS" "$@"
}
