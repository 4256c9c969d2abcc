# Makes LIO serve a unit in RAM through two target ports, with the kernel's own configuration file system.
# $TARGET: its name; $INITIATORS: who may log in
set -eu
mkdir -p /etc/target/pr # where reservations that outlive a loss of power go; LIO looks for it once
modprobe -a target_core_mod iscsi_target_mod
mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
cd /sys/kernel/config/target
mkdir -p core/rd_mcp_0/unit
echo rd_pages=16384 >core/rd_mcp_0/unit/control
echo 1 >core/rd_mcp_0/unit/enable
echo 0001 >core/rd_mcp_0/unit/wwn/vpd_unit_serial
for tag in 1 2; do
    group=iscsi/$TARGET/tpgt_$tag
    mkdir -p "$group/lun/lun_0" "$group/np/0.0.0.0:$((3259 + tag))"
    ln -s "$PWD/core/rd_mcp_0/unit" "$group/lun/lun_0/unit"
    echo 0 >"$group/attrib/authentication"
    for initiator in $INITIATORS; do
        mkdir -p "$group/acls/$initiator/lun_0"
        ln -s "$PWD/$group/lun/lun_0" "$group/acls/$initiator/lun_0/unit"
    done
    echo 1 >"$group/enable"
done
