# SPDX-License-Identifier: GPL-2.0-or-later
"""What ends an SCTP association; that clients take it is shown with packets."""

import socket

from agent.dataplane import aborts


def test_the_checksum_is_that_of_the_standard():
    # The check value that catalogues of CRCs give for this one (CRC-32/ISCSI).
    assert aborts._crc32c(b"123456789") == 0xE3069283


def test_an_abort_has_the_ports_the_tag_and_no_more():
    packet = aborts.packet(aborts.Association(bytes(4), 80, bytes(4), 40000, 0x01020304))
    assert packet[:8] == bytes.fromhex("0050 9c40 01020304")
    assert packet[12:] == bytes.fromhex("06 00 0004")


def test_what_cannot_be_sent_is_logged_once_and_stops_nothing(caplog, monkeypatch):
    def refuse(*_arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(socket, "socket", refuse)
    aborts.tell([aborts.Association(bytes(4), 80, bytes(4), port, 1) for port in (40000, 40001)])
    assert caplog.messages == [
        "clients could not be told that their associations were cut: [Errno 1] Operation not permitted"
    ]
