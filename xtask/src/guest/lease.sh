#!/bin/busybox sh
# What udhcpc calls: gives the interface what the server has given us. Routes of option 121 stand in for the gateway (RFC 3442).
case "$1" in
deconfig)
    ip address flush dev "$interface" scope global
    ip link set "$interface" up
    ;;
bound | renew)
    ip address replace "$ip/$mask" dev "$interface"
    if [ -n "$mtu" ]; then ip link set "$interface" mtu "$mtu"; fi
    set -- $staticroutes
    if [ $# -eq 0 ] && [ -n "$router" ]; then set -- 0.0.0.0/0 "${router%% *}"; fi
    while [ $# -ge 2 ]; do
        if [ "$2" = 0.0.0.0 ]; then ip route replace "$1" dev "$interface"; else ip route replace "$1" via "$2"; fi
        shift 2
    done
    for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf
    hostname "${hostname:-guest}"
    ;;
esac
