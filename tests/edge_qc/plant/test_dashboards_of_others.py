"""What deploy/dashboards brings to Grafana and Telegraf, as far as it can be tried without them:
every query runs on the recorder's PostgreSQL, every path is in a message."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from edge_qc.plant.recorder import Store
from edge_qc.plant.recorder.database import open_database
from tests.rig.database_fixtures import fresh
from tests.rig.recording import arrived, verdict
from tests.rig.trained import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


HERE = ROOT / "deploy" / "dashboards"
EXAMPLES = ROOT / "docs" / "mqtt" / "examples"
PLANT = "edge-qc/v1/plant-1/line-1"


def grafana(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / name).read_text(encoding="utf-8"))
    return found


def as_grafana_sends(sql: str) -> str:
    """With the macro and the variables that Grafana fills in."""
    sql = re.sub(
        r"\$__timeFilter\(([\w.]+)\)",
        r"\1 BETWEEN '2020-01-01T00:00:00Z' AND '2100-01-01T00:00:00Z'",
        sql,
    )
    sql = sql.replace("${station:sqlstring}", "'s/n','plant-1/line-1'").replace(
        "${die:sqlstring}", "'Die01','Die02'"
    )
    assert "$" not in sql, sql
    return sql


@pytest.mark.postgres
def test_every_query_of_the_records_dashboard_finds_what_was_recorded(postgres: str) -> None:
    """Each panel has rows, and a time series a time, a metric and a number."""
    engine = open_database(fresh(postgres))
    store = Store(engine)
    store.record(
        arrived(*(verdict(seq, label="GOOD" if seq % 3 else "Missing") for seq in range(1, 30)))
    )
    for level in ("verdict", "part", "event", "state"):
        payload = (EXAMPLES / f"{level}.json").read_bytes()
        store.record(arrived(payload, level=level, root=PLANT))
    found = {}
    with engine.begin() as db:
        db.execute(
            sa.text(
                "INSERT INTO label (verdict_id, truth, labelled_by, time, note) VALUES "
                "('e1-1', 'Missing', 'somebody', now(), '')"
            )
        )
        for panel in grafana("grafana-records.json")["panels"]:
            for target in panel["targets"]:
                rows = db.execute(sa.text(as_grafana_sends(target["rawSql"]).replace(":", "\\:")))
                names = list(rows.keys())
                found[panel["title"]] = [dict(zip(names, row, strict=True)) for row in rows]
                if target["format"] == "time_series":
                    assert names == ["time", "metric", "value"], panel["title"]
    engine.dispose()
    assert all(found.values()), [title for title, rows in found.items() if not rows]
    assert found["Why views did not pass"][0] == {"label": "Missing", "views": 9}
    assert found["Views not passed"] == [{"not passed": 10}]
    assert [row["truth"] for row in found["Escapes: passed, and found bad later"]] == ["Missing"]
    assert found["Stations"][0]["state"] == "DEGRADED"
    assert {row["die"]: row["yield %"] for row in found["Yield by die"]}["Die02"] == 0


def test_every_variable_is_asked_for_in_sql_that_runs(tmp_path: Path) -> None:
    engine = open_database(str(tmp_path / "records.sqlite"))
    Store(engine).record(arrived(verdict(1)))
    with engine.connect() as db:
        for variable in grafana("grafana-records.json")["templating"]["list"]:
            assert [*db.execute(sa.text(variable["query"]))], variable["name"]
    engine.dispose()


def test_the_live_dashboard_names_fields_that_messages_have() -> None:
    """By name, those of the message or of the object that the panel extracts."""
    for panel in grafana("grafana-live.json")["panels"]:
        (target,) = panel["targets"]
        level = target["topic"].removeprefix("edge-qc/v1/$site/$station/")
        message = json.loads((EXAMPLES / f"{level}.json").read_text(encoding="utf-8"))
        known = {"Time", *message}
        for step in panel["transformations"]:
            if step["id"] == "extractFields":
                known |= set(message[step["options"]["source"]])
            else:
                assert set(step["options"]["include"]["names"]) <= known, panel["title"]


def test_every_path_of_telegraf_is_in_a_message() -> None:
    """Also the type is the message's, and what may be null is optional."""
    conf = tomllib.loads((HERE / "telegraf.conf").read_text(encoding="utf-8"))
    kinds = {"string": str, "int": int, "float": (int, float), "bool": bool}
    seen = 0
    for source in conf["inputs"]["mqtt_consumer"]:
        level = source["topics"][0].rpartition("/")[2]
        messages = [
            json.loads(file.read_text(encoding="utf-8")) for file in EXAMPLES.glob(f"{level}*.json")
        ]
        (parser,) = source["json_v2"]
        assert parser.get("timestamp_path", "time") in messages[0]
        for entry in parser["tag"] + parser["field"]:
            values = [_at(message, entry["path"]) for message in messages]
            assert any(value is not None for value in values), entry
            assert entry.get("optional") or None not in values, entry
            wanted = kinds[entry.get("type", "string")]
            assert all(value is None or isinstance(value, wanted) for value in values), entry
            seen += 1
    assert seen > 25


def _at(message: Any, path: str) -> Any:
    for key in path.split("."):
        message = None if message is None else message.get(key)
    return message
