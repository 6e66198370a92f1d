"""Nodes of a controller, over OPC UA. The station is the client; the controller has the nodes.

Needs the package ``asyncua`` (``pip install '.[opcua]'`` in a clone). With a security policy the
controller's certificate is known beforehand: whoever shows another one is not spoken to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import threading
from collections.abc import Coroutine, Sequence
from typing import Any

from edge_qc.errors import OutputError, SettingsError
from edge_qc.extras import how_to_install
from edge_qc.output.block import Block
from edge_qc.output.connection import Counted
from edge_qc.output.layout import BEAT, Area, RegisterMap, node_of
from edge_qc.settings import OutputTable


class _Nodes:
    """A client on a loop of its own thread, whose refusals and silences are OutputErrors."""

    def __init__(self, table: OutputTable) -> None:
        _check(table)
        from asyncua.client.client import Client

        logging.getLogger("asyncua").setLevel(logging.CRITICAL)
        self._table = table
        self._known: dict[str, Any] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"opcua-{table.name}", daemon=True
        )
        self._thread.start()
        where = table.where
        url = f"opc.tcp://{where.host}:{where.port}{where.path}"
        self._client = Client(url, timeout=table.timeout_ms / 1e3, auto_reconnect=False)
        try:
            self.ask(self._connect(), 10 * table.timeout_ms / 1e3)
        except BaseException:
            self._end()
            raise

    def ask(self, coroutine: Coroutine[Any, Any, Any], within_s: float | None = None) -> Any:
        """What it answers in time. Raises OutputError."""
        usual_s = self._table.timeout_ms / 1e3
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(usual_s if within_s is None else within_s)
        except Exception as error:
            future.cancel()
            raise OutputError(
                f"output {self._table.name}: {self._table.target}: {error!r}. See that the "
                "controller runs its OPC UA server, that this network reaches it (systemd's "
                "network.conf), and that it has the nodes: edge-qc output map"
            ) from error

    def node(self, area: Area, field: str) -> Any:
        """The node of a value."""
        name = node_of(self._table.node, area, field)
        if name not in self._known:
            self._known[name] = self._client.get_node(name)
        return self._known[name]

    def write(
        self, area: Area, values: dict[str, int | bool | str], within_s: float | None = None
    ) -> None:
        """Several values in one request."""
        from asyncua import ua

        nodes = [self.node(area, field) for field in values]
        coded = [ua.DataValue(_variant(value)) for value in values.values()]
        self.ask(self._client.write_values(nodes, coded), within_s)

    def read(self, area: Area, fields: Sequence[str]) -> list[Any]:
        """Several values in one request."""
        nodes = [self.node(area, field) for field in fields]
        found: list[Any] = self.ask(self._client.read_values(nodes))
        return found

    def close(self) -> None:
        # Gone already, it has nothing to close: what is left of it here goes with the loop.
        with contextlib.suppress(OutputError):
            self.ask(self._client.disconnect(), 1.0)
        self._end()

    async def _connect(self) -> None:
        from asyncua.crypto import security_policies

        table, client = self._table, self._client
        if table.security_policy is not None:
            policy = getattr(security_policies, f"SecurityPolicy{table.security_policy}")
            assert table.cert_file is not None
            assert table.key_file is not None
            await client.set_security(
                policy,
                str(table.cert_file),
                str(table.key_file),
                server_certificate=str(table.server_cert_file),
            )
        if table.username is not None:
            password = table.password()
            client.set_user(table.username)
            if password is not None:
                client.set_password(password.get_secret_value())
        await client.connect()
        protocol = client.uaclient.protocol
        transport = protocol.transport if protocol is not None else None
        opened = transport.get_extra_info("socket") if transport is not None else None
        if opened is not None:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Closed, the kernel sends nothing more: a PASS in it would come after its deadline.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._cancel_all)
        self._thread.join(2.0)
        if not self._thread.is_alive():
            self._loop.close()

    def _cancel_all(self) -> None:
        protocol = self._client.uaclient.protocol if hasattr(self, "_client") else None
        if protocol is not None and protocol.transport is not None:
            protocol.transport.abort()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.call_later(0.05, self._loop.stop)


def _variant(value: int | bool | str) -> Any:
    from asyncua import ua

    if isinstance(value, bool):
        return ua.Variant(value, ua.VariantType.Boolean)
    if isinstance(value, int):
        return ua.Variant(value, ua.VariantType.UInt32)
    return ua.Variant(value, ua.VariantType.String)


def _check(table: OutputTable) -> None:
    try:
        import asyncua  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            f"output {table.name}: the package asyncua is not installed ({error}). Install it "
            f"with: {how_to_install('opcua')}"
        ) from error
    for file in (table.cert_file, table.key_file, table.server_cert_file):
        if file is not None and not file.is_file():
            raise SettingsError(f"output {table.name}: {file} is not there. Correct the path")


class OpcUaConnection:
    """See ``Connection``."""

    def __init__(self, found: RegisterMap) -> None:
        self._map, self._nodes = found, _Nodes(found.table)

    @staticmethod
    def check(table: OutputTable) -> None:
        """Raises SettingsError if asyncua or a certificate is missing."""
        _check(table)

    def toggle(self, block: str) -> bool:
        return bool(self._nodes.read(self._map.block(block), ("toggle",))[0])

    def write(self, block: str, values: Block) -> None:
        area = self._map.block(block)
        self._nodes.write(area, {field.name: getattr(values, field.name) for field in area.fields})

    def beat(self, block: str, values: Block) -> None:
        area = self._map.block(block)
        beat = {field.name: getattr(values, field.name) for field in area.fields[:BEAT]}
        self._nodes.write(area, {**beat, "ready": values.ready})

    def show(self, block: str, values: Block, within_s: float | None = None) -> None:
        self._nodes.write(
            self._map.block(block),
            {"passed": values.passed, "toggle": values.toggle},
            within_s,
        )

    def acknowledged(self, block: str) -> int:
        area = self._map.acknowledged[block]
        return int(self._nodes.read(area, ("acknowledged",))[0]) & 0xFFFF

    def close(self) -> None:
        self._nodes.close()


class OpcUaCounters:
    """See ``Counters``."""

    def __init__(self, found: RegisterMap) -> None:
        self._map, self._nodes = found, _Nodes(found.table)

    def read(self) -> Counted:
        trigger, confirm = self._map.trigger, self._map.confirm
        confirmed = None
        if confirm is not None:
            confirmed = int(self._nodes.read(confirm, ("confirmed",))[0]) & 0xFFFF
        if trigger is None:
            return Counted(None, confirmed)
        # The count before what it counts: read together, they may be of two triggers.
        names = ("count", "part_number", "part", "lot", "serial")
        count, number, part, lot, serial = self._nodes.read(trigger, names)
        if not part and number:
            part = str(number)
        texts = [str(text)[:128] if text else None for text in (part, lot, serial)]
        return Counted(int(count) & 0xFFFF, confirmed, *texts)

    def close(self) -> None:
        self._nodes.close()
