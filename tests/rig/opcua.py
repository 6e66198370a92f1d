"""A controller on the loopback: a real OPC UA server with the nodes of an output."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("asyncua", reason="needs asyncua: pip install '.[opcua]'")

from asyncua import Server, ua

from edge_qc.output.layout import COILS, RegisterMap, node_of, register_map
from edge_qc.settings import OutputTable
from tests.rig.brokers import free_port


class OpcUaController:
    """target: its address. Open it with ``opcua_controller``."""

    def __init__(self, blocks: tuple[str, ...], secured: tuple[Path, Path] | None = None) -> None:
        """secured: its certificate and key; then it takes nothing that is not encrypted."""
        self.port = free_port()
        self.target = f"opcua://127.0.0.1:{self.port}"
        table = OutputTable.model_validate(
            {"name": "plc", "target": self.target, "deadline_ms": 1, "acknowledge_ms": 1}
            | {"confirm": "count"}
        )
        self.map: RegisterMap = register_map(table, blocks, triggers=True)
        self._blocks, self._secured = blocks, secured
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._nodes: dict[str, Any] = {}
        self._server: Any = None
        self._call(self._start())

    def get(self, block: str, field: str) -> Any:
        area = self.map.block(block)
        return self._call(self._nodes[node_of(self.map.table.node, area, field)].read_value())

    def set(self, title: str, **values: int | str) -> None:
        """The controller's own programme writes, the last value last."""
        areas = (*self.map.areas(),)
        area = next(area for area in areas if area.title == title)
        for field, value in values.items():
            node = self._nodes[node_of(self.map.table.node, area, field)]
            kind = ua.VariantType.String if isinstance(value, str) else ua.VariantType.UInt32
            self._call(node.write_value(ua.Variant(value, kind)))

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._call(self._server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _start(self) -> None:
        self._server = Server()
        await self._server.init()
        self._server.set_endpoint(f"opc.tcp://127.0.0.1:{self.port}")
        if self._secured is not None:
            self._server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
            await self._server.load_certificate(str(self._secured[0]))
            await self._server.load_private_key(str(self._secured[1]))
        await self._server.register_namespace("urn:test")
        folder = self._server.nodes.objects
        for area in self.map.areas():
            fields = [(field.name, field.kind) for field in area.fields]
            fields += [(name, "flag") for name in (COILS if area.coil is not None else ())]
            for name, kind in fields:
                node_id = node_of(self.map.table.node, area, name)
                first: Any = {"text": "", "flag": False}.get(kind, 0)
                variant = {
                    "text": ua.VariantType.String,
                    "flag": ua.VariantType.Boolean,
                }.get(kind, ua.VariantType.UInt32)
                node = await folder.add_variable(node_id, name, first, variant)
                await node.set_writable()
                self._nodes[node_id] = node
        await self._server.start()

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(90)


@contextlib.contextmanager
def opcua_controller(
    *blocks: str, secured: tuple[Path, Path] | None = None
) -> Iterator[OpcUaController]:
    controller = OpcUaController(blocks, secured)
    try:
        yield controller
    finally:
        controller.close()
