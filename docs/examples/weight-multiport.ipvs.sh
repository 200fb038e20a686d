# SPDX-License-Identifier: GPL-2.0-or-later
# IPVS has a service of one port; a mark makes one of two ports.
iptables -t mangle -A PREROUTING -d 10.1.0.100 -p tcp -m multiport --dports 80,443 -j MARK --set-mark 1
ipvsadm -A -f 1 -s wrr
ipvsadm -a -f 1 -r 10.2.0.11:0 -m -w 3
ipvsadm -a -f 1 -r 10.2.0.12:0 -m -w 2
ipvsadm -a -f 1 -r 10.2.0.13:0 -m -w 1
