# SPDX-License-Identifier: GPL-2.0-or-later
# A chain for each backend remembers the client; whom none remembers is shared out as by weight.
iptables -t nat -N WEB1
iptables -t nat -A WEB1 -m recent --name web1 --set
iptables -t nat -A WEB1 -p tcp -j DNAT --to-destination 10.2.0.11:80
iptables -t nat -N WEB2
iptables -t nat -A WEB2 -m recent --name web2 --set
iptables -t nat -A WEB2 -p tcp -j DNAT --to-destination 10.2.0.12:80
iptables -t nat -N WEB3
iptables -t nat -A WEB3 -m recent --name web3 --set
iptables -t nat -A WEB3 -p tcp -j DNAT --to-destination 10.2.0.13:80
iptables -t nat -A PREROUTING -d 10.1.0.100 -p tcp --dport 80 -m recent --name web1 --rcheck --seconds 300 -j WEB1
iptables -t nat -A PREROUTING -d 10.1.0.100 -p tcp --dport 80 -m recent --name web2 --rcheck --seconds 300 -j WEB2
iptables -t nat -A PREROUTING -d 10.1.0.100 -p tcp --dport 80 -m recent --name web3 --rcheck --seconds 300 -j WEB3
iptables -t nat -A PREROUTING -d 10.1.0.100 -p tcp --dport 80 -m statistic --mode nth --every 2 --packet 0 -j WEB1
iptables -t nat -A PREROUTING -d 10.1.0.100 -p tcp --dport 80 -m statistic --mode nth --every 3 --packet 2 -j WEB3
iptables -t nat -A PREROUTING -d 10.1.0.100 -p tcp --dport 80 -j WEB2
