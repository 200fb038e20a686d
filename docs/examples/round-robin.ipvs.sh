# SPDX-License-Identifier: GPL-2.0-or-later
ipvsadm -A -t 10.1.0.100:80 -s rr
ipvsadm -a -t 10.1.0.100:80 -r 10.2.0.11:80 -m
ipvsadm -a -t 10.1.0.100:80 -r 10.2.0.12:80 -m
ipvsadm -a -t 10.1.0.100:80 -r 10.2.0.13:80 -m
