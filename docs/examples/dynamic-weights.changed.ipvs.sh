# SPDX-License-Identifier: GPL-2.0-or-later
ipvsadm -e -t 10.1.0.100:80 -r 10.2.0.11:80 -m -w 1
ipvsadm -e -t 10.1.0.100:80 -r 10.2.0.12:80 -m -w 2
ipvsadm -e -t 10.1.0.100:80 -r 10.2.0.13:80 -m -w 3
