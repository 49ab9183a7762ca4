#!/bin/busybox sh
# The first process of a guest. It runs what comes by its second serial port: a line with a number and a shell script in base64.
# It answers by a line with the number, the exit status, and what was printed, in base64.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do
    insmod "/modules/$module.ko"
done </modules/order
ip link set lo up
exec </dev/ttyS1 >/dev/ttyS1
# The port carries what is written and nothing else.
stty raw -echo
echo ready
while read -r number script; do
    echo "$script" | base64 -d >/tmp/script
    sh /tmp/script >/tmp/output 2>&1
    echo "$number $? $(base64 -w 0 /tmp/output)"
done
poweroff -f
