#!/bin/sh
# What udhcpc calls in a machine of the lab: gives the interface what the server has given us. Routes of option 121 stand in for
# the gateway (RFC 3442).
case "$1" in
deconfig)
    ip -4 address flush dev "$interface"
    ;;
bound | renew)
    ip address replace "$ip/$mask" dev "$interface"
    if [ -n "$mtu" ]; then ip link set "$interface" mtu "$mtu"; fi
    env >"$LEASE"
    set -- $staticroutes
    if [ $# -eq 0 ] && [ -n "$router" ]; then set -- 0.0.0.0/0 "${router%% *}"; fi
    while [ $# -ge 2 ]; do
        if [ "$2" = 0.0.0.0 ]; then ip route replace "$1" dev "$interface"; else ip route replace "$1" via "$2"; fi
        shift 2
    done
    ;;
esac
