"""The composition root: opens every room from the settings, and closes them in order."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from edge_qc.camera import Camera
from edge_qc.camera.gpio import PinWatch
from edge_qc.engine import BuildStep
from edge_qc.errors import DeviceError, EdgeQCError, PublishError, SettingsError
from edge_qc.evidence import Evidence, Store
from edge_qc.line import Line
from edge_qc.line.dispatch import Dispatch, Post
from edge_qc.line.inputs import Inputs
from edge_qc.monitoring import ProcessMonitor
from edge_qc.output import Outlet, Outputs
from edge_qc.publisher import BundleRef, Outbox, Publisher, Severity, Space
from edge_qc.settings import Settings
from edge_qc.settings.triggering import Pin
from edge_qc.station.changeover import (
    Changeover,
    check_against_bundle,
    first_inspection,
    tell_standing_trouble,
)
from edge_qc.station.commands import Commands
from edge_qc.station.golden_part import GoldenParts
from edge_qc.station.metrics import MetricsFile
from edge_qc.station.overrules import Overrules
from edge_qc.system.control import Control, Conversation
from edge_qc.system.notify import notify
from edge_qc.system.state import State

log = logging.getLogger(__name__)

_MB = 2**20
_BUILD_STEP_S = 600
"""How long one step of a build may take before systemd stops waiting."""


@contextmanager
def open_station(settings: Settings, stop: threading.Event) -> Iterator[Line]:
    """Open the line for these settings, ready to run; close everything afterwards.

    stop: aborts the build of an engine's plan, which may take minutes. The outbox opens first and
    the publisher second; whatever fails next is published as FAULT. An unreachable broker stops
    nothing. Raises EdgeQCError if the station cannot run.
    """
    state_dir = settings.station.state_dir
    if state_dir.exists() and not state_dir.is_dir():
        raise SettingsError(f"station.state_dir: {state_dir} is a file. Name a folder")
    with ExitStack() as stack:
        outbox = stack.enter_context(
            Outbox.open(
                settings.station.state_dir / "outbox.sqlite",
                site=settings.station.site,
                station=settings.station.name,
                low_bytes=settings.outbox.low_mb * _MB,
                full_bytes=settings.outbox.full_mb * _MB,
                keep_days=settings.outbox.keep_days,
                keep_bytes=settings.outbox.keep_mb * _MB,
                ballast_bytes=settings.outbox.ballast_mb * _MB,
            )
        )
        publisher = Publisher(
            settings.mqtt, settings.station, outbox, late_s=settings.outbox.late_s
        )
        publisher.start()
        stack.callback(publisher.close)
        publisher.state(State.STARTING, "verifying the bundle")
        try:
            line = _open_line(settings, stop, stack, outbox, publisher)
        except Exception as error:
            publisher.state(State.FAULT, str(error))
            outbox.wait_delivered(settings.line.drain_s)
            raise
        yield line


def _open_line(
    settings: Settings,
    stop: threading.Event,
    stack: ExitStack,
    outbox: Outbox,
    publisher: Publisher,
) -> Line:
    """All that may fail once the station can report it. stack: closes what was opened. Raises
    EdgeQCError."""
    state_dir = settings.station.state_dir
    control = Control(state_dir)
    stack.callback(control.close)
    outputs = open_outputs(settings, control, outbox)
    stack.callback(outputs.close)

    def told(step: BuildStep) -> None:
        if stop.is_set():
            raise DeviceError("stopped while building the engine's plan; nothing was judged")
        publisher.state(State.BUILDING, f"{step.doing}, {step.fraction:.0%}")
        # Without this systemd mistakes a long build for a start that hangs.
        notify(f"EXTEND_TIMEOUT_USEC={_BUILD_STEP_S * 1_000_000}", f"STATUS={step.doing}")

    inspection = first_inspection(settings, outbox, told)
    first = stack.enter_context(ExitStack())
    first.callback(inspection.close)
    bundle, report = inspection.bundle, inspection.acceptance
    check_against_bundle(settings, bundle)
    watched = state_dir / "watched"
    cameras = [
        Camera(camera, dies=bundle.manifest.dies, memory=watched / f"{camera.name}.seen")
        for camera in settings.camera
    ]
    log.info(
        "bundle %s version %d accepted on %s: %d golden views, p50 %.1f ms",
        bundle.id[:12],
        bundle.manifest.version,
        report.engine,
        report.views,
        report.latency_p50_ms,
    )
    publisher.bundle = BundleRef(id=bundle.id, version=bundle.manifest.version)
    publisher.state(State.READY, f"accepted on {report.engine}")
    evidence = None
    if settings.evidence.keep:
        evidence = Evidence(
            Store(settings.evidence_dir),
            settings.evidence,
            tight=lambda: outbox.space() is not Space.OK,
        )
        stack.callback(evidence.close)
    overrules = Overrules(Store(settings.evidence_dir), outbox, state_dir)
    stack.callback(overrules.close)
    line = Line(
        inspection=inspection,
        cameras=cameras,
        outbox=outbox,
        publisher=publisher,
        settings=settings.line,
        evidence=evidence,
        outputs=outputs,
    )
    # From here on the line closes the inspection.
    first.pop_all()
    stack.callback(line.close)
    open_triggers(settings, cameras, outbox, publisher, line, outputs)
    stack.enter_context(open_inputs(outbox, line, outputs))
    tell_standing_trouble(settings, line)
    monitor = monitor_pictures(settings, outbox, line)
    if settings.metrics.textfile is not None:
        metrics = MetricsFile(settings.metrics.textfile, settings.station)
        stack.callback(metrics.close)
        line.tell_figures(metrics.tell)
    golden = open_commands(settings, control, outbox, line, monitor)
    Commands(settings.station, outbox, publisher, line, golden)
    return line


def open_outputs(settings: Settings, control: Control, outbox: Outbox) -> Outputs:
    """The way out to the machine, at REJECT from now on. Raises SettingsError."""

    def tell(event: str, detail: str, severity: str) -> None:
        try:
            outbox.event(event, detail, severity=Severity(severity))
        except PublishError as error:
            log.error("%s: %s (not told: %s)", event, detail, error)

    def publish_seen(ended: Mapping[str, str]) -> None:
        # Of each: an alarm that was no fault, before the last restart too, is over with it.
        for name in {table.name for table in settings.output} | ended.keys():
            seen = ended.get(name, "no fault stood")
            outbox.event("output-acknowledged", f"output {name}: {seen}")

    def acknowledge(talk: Conversation) -> dict[str, Any]:
        ended = outputs.acknowledge()
        publish_seen(ended)
        return {"acknowledged": ended}

    outputs = Outputs(settings, tell)
    if (meanwhile := outputs.seen_meanwhile()) is not None:
        publish_seen(meanwhile)
        outputs.forget_seen()
    outputs.start()
    control.on("output-acknowledge", acknowledge)
    return outputs


def monitor_pictures(settings: Settings, outbox: Outbox, line: Line) -> ProcessMonitor:
    """Start process monitoring of the cameras' pictures."""

    def tell(camera: str, event: str, detail: str) -> None:
        severity = Severity.INFO if event.endswith("-over") else Severity.WARNING
        outbox.event(event, detail, severity=severity, camera=camera)

    monitor = ProcessMonitor(
        settings.station.state_dir / "references",
        frozenset(camera.name for camera in settings.camera if camera.monitor),
        tell,
        line.troubles,
    )
    line.observe(monitor.look)
    line.show_pictures(monitor.shown)
    return monitor


def open_commands(
    settings: Settings, control: Control, outbox: Outbox, line: Line, monitor: ProcessMonitor
) -> GoldenParts:
    """Register the commands of this machine; none makes a verdict."""
    changeover = Changeover(settings, line, outbox)
    control.on("install", changeover.install)
    control.on("rollback", changeover.roll_back)
    # Where nothing says what a part shows, a golden part shows what the cameras see.
    named = [camera.die for camera in settings.camera if camera.die is not None]
    seen = named if len(named) == len(settings.camera) else line.inspection.bundle.manifest.dies
    dies = settings.line.part_dies or seen
    golden = GoldenParts(
        settings.station.state_dir / "golden-parts.json", line, outbox, frozenset(dies)
    )
    control.on("golden-part", golden.check)

    def relearn(talk: Conversation) -> dict[str, Any]:
        cameras = monitor.forget(talk.request.get("camera"))
        if not cameras:
            raise EdgeQCError(
                f"camera {talk.request.get('camera')!r}: no monitored camera has that name. See "
                "the names in station.toml"
            )
        outbox.event("reference-forgotten", f"relearning: {', '.join(cameras)}")
        return {"cameras": cameras}

    control.on("relearn", relearn)
    return golden


@contextmanager
def open_inputs(outbox: Outbox, line: Line, outputs: Outputs) -> Iterator[None]:
    """Watch the pins that tell that an ejector or a belt moved. Raises SettingsError."""

    def watch(pin: Pin, outlet: Outlet) -> PinWatch:
        return PinWatch(
            pin,
            lambda age_s: outlet.confirmed(time.monotonic() - age_s),
            lambda count: outlet.miss(
                f"{count} edges of the ejector came faster than the station could read them"
            ),
            lambda why: line.trouble(f"confirmation of {outlet.table.name}", why),
        )

    def count(pin: Pin, outlet: Outlet) -> PinWatch:
        return PinWatch(
            pin,
            lambda age_s: outlet.edge(time.monotonic() - age_s),
            lambda count: outlet.edges_lost(f"{count} came faster than the station could read"),
            outlet.encoder_trouble,
            buffered=1024,
        )

    watches = [watch(*confirmer) for confirmer in outputs.confirmers()]
    watches += [count(*encoder) for encoder in outputs.encoders()]
    for one in watches:
        one.start()
    try:
        yield
    finally:
        for one in watches:
            one.stop()


def open_triggers(
    settings: Settings,
    cameras: Sequence[Camera],
    outbox: Outbox,
    publisher: Publisher,
    line: Line,
    outputs: Outputs,
) -> None:
    """Listen for these cameras' triggers until the line stops. Raises SettingsError."""
    posts = [
        Post(camera, table)
        for camera, table in zip(cameras, settings.camera, strict=True)
        if table.triggering.asked
    ]
    if posts:
        dispatch = Dispatch(
            posts,
            settings.station,
            outbox,
            line.intake,
            lambda: line.state,
            part_per_trigger=settings.line.part_per_trigger,
        )
        inputs = Inputs(dispatch, posts, outbox, publisher, line.troubles, outputs)
        line.before_stop(inputs.close)
