"""paho's network loop on the sender's own thread.

With a thread of paho's between, a message would change threads twice on its way out, and its PUBACK
twice on its way back: that took longer than the rest of sending.
"""

from __future__ import annotations

import select
import ssl
import time
from collections import deque

import paho.mqtt.client as paho

from edge_qc.publisher.connection.transport import Lost, Note
from edge_qc.system.bell import Bell

_MISC_S = 1.0
"""How often paho must look at its keep-alive."""


class Loop:
    """The connection of one client, for one thread. notes: what came and is not processed yet; the
    client's callbacks append to them."""

    def __init__(self, client: paho.Client, bell: Bell, notes: deque[Note]) -> None:
        """client: connected, its loop not started."""
        self.client, self.notes = client, notes
        self._bell = bell
        self._poll = select.poll()
        self._poll.register(bell, select.POLLIN)
        # With this callback set, paho only queues what it sends: ``run`` reads before it writes,
        # since a write that fails closes the connection with the broker's last words unread.
        client.on_socket_register_write = lambda *_: None

    def run(self, timeout_s: float) -> None:
        """Send what is queued and receive, until there are notes, the bell rings or the time is
        over. Never blocks on a broker that does not read.

        Raises Lost if the connection is gone and no note says so, and what a callback raises.
        """
        until_s = time.monotonic() + timeout_s
        while not self.notes:
            self.client.loop_misc()
            connection = self.client.socket()
            if connection is None:
                if not self.notes:
                    raise Lost("the connection was lost")
                return
            # TLS may hold bytes that it has read from the socket already: no poll tells of them.
            held = isinstance(connection, ssl.SSLSocket) and connection.pending() > 0
            left_s = 0.0 if held else min(max(0.0, until_s - time.monotonic()), _MISC_S)
            wanted = select.POLLIN | (select.POLLOUT if self.client.want_write() else 0)
            self._poll.register(connection.fileno(), wanted)
            ready = dict(self._poll.poll(1000 * left_s))
            if held or ready.get(connection.fileno(), 0) & ~select.POLLOUT:
                self.client.loop_read()
            if self.client.want_write():
                self.client.loop_write()
            if self._bell.fileno() in ready:
                self._bell.hush()
                return
            if time.monotonic() >= until_s:
                return
