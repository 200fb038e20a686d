# SPDX-License-Identifier: GPL-2.0-or-later
ipvsadm -A -t 10.1.0.100:80 -s wrr
ipvsadm -a -t 10.1.0.100:80 -r 10.2.0.11:80 -m -w 3
ipvsadm -a -t 10.1.0.100:80 -r 10.2.0.12:80 -m -w 2
ipvsadm -a -t 10.1.0.100:80 -r 10.2.0.13:80 -m -w 1
