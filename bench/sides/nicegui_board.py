"""The peer of the dashboard's bench: the same stations and verdicts, as one writes it in NiceGUI.

    python bench/sides/nicegui_board.py HOST:PORT LISTEN_PORT

It is fed by our own ``Feed``, so that only the way to the browser differs, and it draws no chart.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from edge_qc.plant.dashboard.feed import REFRESH_S, Feed
from edge_qc.plant.dashboard.filters import Filter
from edge_qc.settings import MqttTable


def main() -> None:
    from nicegui import ui

    host, _, port = sys.argv[1].partition(":")
    feed = Feed(MqttTable(host=host, port=int(port)), ["edge-qc/v1/+/+/+"])

    @ui.page("/")
    def board() -> None:
        tiles: dict[str, list[Any]] = {}
        total = ui.label().classes("text-h2")
        grid = ui.row()
        names = ("label", "part", "die", "camera", "station", "time", "p", "ms")
        stream = ui.table(
            columns=[{"name": name, "label": name, "field": name} for name in names],
            rows=[],
            row_key="id",
        )

        def refresh() -> None:
            sections = feed.sections(Filter())
            totals = json.loads(sections["totals"])
            total.text = f"{totals['passed']} of {totals['views']}"
            for station in json.loads(sections["stations"]):
                labels = tiles.get(station["name"])
                if labels is None:
                    with grid, ui.card():
                        labels = tiles[station["name"]] = [ui.label() for _ in range(7)]
                words = ("name", "state", "age_s", "passed", "rate", "p99", "queue")
                for label, word in zip(labels, words, strict=True):
                    label.text = str(station[word])
            stream.rows = json.loads(sections["verdicts"])
            stream.update()

        ui.timer(REFRESH_S, refresh)

    ui.run(host="127.0.0.1", port=int(sys.argv[2]), show=False, reload=False)


main()
