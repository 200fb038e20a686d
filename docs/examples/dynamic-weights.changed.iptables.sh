# SPDX-License-Identifier: GPL-2.0-or-later
# 1:2:3 instead of 3:2:1: the rules of the first and the third backend change places; the counters begin anew.
iptables -t nat -R PREROUTING 1 -d 10.1.0.100 -p tcp --dport 80 -m statistic --mode nth --every 2 --packet 0 -j DNAT --to-destination 10.2.0.13:80
iptables -t nat -R PREROUTING 2 -d 10.1.0.100 -p tcp --dport 80 -m statistic --mode nth --every 3 --packet 2 -j DNAT --to-destination 10.2.0.11:80
