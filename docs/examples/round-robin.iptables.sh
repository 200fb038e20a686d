# SPDX-License-Identifier: GPL-2.0-or-later
iptables -t nat -A PREROUTING -d 10.1.0.100 -p tcp --dport 80 -m statistic --mode nth --every 3 --packet 0 -j DNAT --to-destination 10.2.0.11:80
iptables -t nat -A PREROUTING -d 10.1.0.100 -p tcp --dport 80 -m statistic --mode nth --every 2 --packet 0 -j DNAT --to-destination 10.2.0.12:80
iptables -t nat -A PREROUTING -d 10.1.0.100 -p tcp --dport 80 -j DNAT --to-destination 10.2.0.13:80
