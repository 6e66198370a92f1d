"""What ``station.toml`` may say: one class for each table, frozen, checked when made."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator

from edge_qc.settings.fields import Host, NonEmpty, Port, Seconds, Table, TopicLevel, password_in
from edge_qc.settings.outputs import PART, OutputTable
from edge_qc.settings.source import Source
from edge_qc.settings.triggering import Pin, Triggering, check_pins, triggering


class StationTable(Table):
    """[station]: who this is, and where it keeps what must not be lost. power_mode: nvpmodel's, by
    name, in which the station was commissioned; None if nobody has said."""

    site: TopicLevel
    name: TopicLevel
    state_dir: Path
    power_mode: NonEmpty | None = None

    @property
    def root(self) -> str:
        """The root of the station's MQTT topics."""
        return f"edge-qc/v1/{self.site}/{self.name}"


class BundleTable(Table):
    """[bundle]: the model, and whose signature it must carry. path: a folder that is always taken;
    without it the bundle that was installed."""

    path: Path | None = None
    public_key: Path | None = None


class EngineTable(Table):
    """[engine]: what runs the model. threads is of onnxruntime, the rest of tensorrt.

    build_at_start: build a plan before the line starts where none serves; without it such a station
    refuses to start until ``edge-qc build`` was run. workspace_mb: device memory that a build may
    try tactics with. memory: mapped (zero-copy) where the GPU shares the machine's memory.
    timeout_s: how long one answer may take.
    """

    kind: Literal["onnxruntime", "tensorrt"] = "onnxruntime"
    threads: int = Field(default=2, ge=1, le=64)
    build_at_start: bool = True
    workspace_mb: int = Field(default=1024, ge=16, le=65_536)
    optimization_level: int = Field(default=3, ge=0, le=5)
    cuda_graph: bool = True
    memory: Literal["auto", "mapped", "copied"] = "auto"
    timeout_s: Seconds = 2.0


class CameraTable(Table):
    """[[camera]]: one source of frames. die: the die that it sees; None if ``table`` names the
    die of each image. fps: the most frames a second, of a camera that runs freely. loop: start a
    folder or video again at its end. watch: judge images that other programs put into a folder.
    trigger: see ``triggering``. timeout_s: a read that takes longer is a camera that hangs; with a
    trigger, how long its picture may take. latency_ms: the longest time from a frame's exposure to
    its arrival, for a source that does not tell when it exposed one. monitor: whether process
    monitoring covers this camera; ``steady``, its first name, is accepted."""

    name: TopicLevel
    source: Source
    die: str | None = None
    table: Path | None = None
    fps: float | None = Field(default=None, gt=0, le=10_000)
    loop: bool = False
    watch: bool = False
    trigger: str = "free"
    timeout_s: Seconds = 5.0
    latency_ms: float | None = Field(default=None, ge=0, le=60_000, allow_inf_nan=False)
    monitor: bool = Field(default=True, validation_alias=AliasChoices("monitor", "steady"))

    @field_validator("trigger")
    @classmethod
    def _trigger_known(cls, text: str) -> str:
        triggering(text)
        return text

    @property
    def triggering(self) -> Triggering:
        """What ``trigger`` says."""
        return triggering(self.trigger)

    @model_validator(mode="after")
    def _die_known(self) -> CameraTable:
        if self.die is None and self.table is None:
            raise ValueError("give die, or a table that names the die of each image")
        return self

    @model_validator(mode="after")
    def _pace_of_its_own(self) -> CameraTable:
        if self.fps is not None and (self.watch or self.trigger != "free"):
            whose = "watch = true" if self.watch else f"trigger = {self.trigger!r}"
            raise ValueError(
                f"fps = {self.fps:g} is the pace of a camera that runs freely; with {whose} every "
                "picture that comes is judged, and fps would leave some out. Remove fps"
            )
        return self


class MqttTable(Table):
    """[mqtt]: the broker. Passwords are read from a file, never written here. recorder: keep each
    message until ``edge-qc record`` has acknowledged it, and say so if it is silent for
    recorder_silent_s."""

    host: Host
    port: Port = 1883
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = Field(default=15, ge=1, le=3600)
    recorder: bool = False
    recorder_silent_s: Seconds = 60.0

    @model_validator(mode="after")
    def _complete(self) -> MqttTable:
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file without username")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        return self

    def password(self) -> SecretStr | None:
        """The password in ``password_file``. Raises SettingsError if it cannot be read."""
        return password_in(self.password_file, "mqtt.password_file")


class OutboxTable(Table):
    """[outbox]: what the disk has to hold. keep_days, keep_mb: how long and how much of what was
    delivered is kept for replay. late_s: sent later than this, a message is marked historical.
    Below low_mb of free disk evidence goes, below full_mb triggers are refused; ballast_mb keeps
    room for the verdicts on those accepted by then."""

    keep_days: float = Field(default=7.0, gt=0, le=3650)
    keep_mb: int = Field(default=512, ge=1, le=1_048_576)
    late_s: Seconds = 5.0
    low_mb: int = Field(default=256, ge=1, le=1_048_576)
    full_mb: int = Field(default=64, ge=1, le=1_048_576)
    ballast_mb: int = Field(default=16, ge=0, le=4096)

    @model_validator(mode="after")
    def _low_before_full(self) -> OutboxTable:
        if self.low_mb < self.full_mb:
            raise ValueError(f"low_mb {self.low_mb} is below full_mb {self.full_mb}")
        return self


class EvidenceTable(Table):
    """[evidence]: images kept for people, below ``folder``, by default in ``state_dir``.
    megabytes: of all; images_per_label, per_minute: of each label. With less than min_free_mb left
    on the disk, images go rather than come."""

    keep: bool = True
    folder: Path | None = None
    megabytes: int = Field(default=2048, ge=1, le=10_000_000)
    images_per_label: int = Field(default=1000, ge=1, le=1_000_000)
    per_minute: int = Field(default=20, ge=1, le=6000)
    min_free_mb: int = Field(default=1024, ge=0, le=10_000_000)


class LineTable(Table):
    """[line]: how much may wait, and how long. part_dies: the dies that a whole part shows; every
    die of the bundle if it is not given, none where views are not joined to parts.
    part_per_trigger: what one trigger photographs is one part, which takes the trigger's id where
    nobody names it."""

    queue: int = Field(default=16, ge=1, le=10_000)
    part_dies: tuple[str, ...] | None = None
    part_deadline_s: Seconds = 5.0
    part_per_trigger: bool = False
    max_frame_age_s: Seconds = 10.0
    health_every_s: Seconds = 5.0
    drain_s: Seconds = 10.0


class MetricsTable(Table):
    """[metrics]: the heartbeat's figures for Prometheus, as a file that ends in .prom."""

    textfile: Path | None = None

    @model_validator(mode="after")
    def _collected(self) -> MetricsTable:
        if self.textfile is not None and self.textfile.suffix != ".prom":
            raise ValueError("textfile must end in .prom, or node_exporter does not read it")
        return self


class Settings(Table):
    """All of ``station.toml``. Relative paths are taken from the file's own folder."""

    station: StationTable
    bundle: BundleTable = BundleTable()
    engine: EngineTable = EngineTable()
    camera: tuple[CameraTable, ...] = Field(min_length=1)
    mqtt: MqttTable
    outbox: OutboxTable = OutboxTable()
    evidence: EvidenceTable = EvidenceTable()
    line: LineTable = LineTable()
    metrics: MetricsTable = MetricsTable()
    output: tuple[OutputTable, ...] = ()

    @property
    def evidence_dir(self) -> Path:
        """Where images are kept."""
        return self.evidence.folder or self.station.state_dir / "evidence"

    @model_validator(mode="after")
    def _names_differ(self) -> Settings:
        for what, names in (
            ("cameras", [camera.name for camera in self.camera]),
            ("outputs", [output.name for output in self.output]),
        ):
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"two {what} are named {name!r}")
        return self

    @model_validator(mode="after")
    def _outputs_fit(self) -> Settings:
        cameras = [camera.name for camera in self.camera]
        if self.output and PART in cameras:
            raise ValueError(f"a camera is named {PART!r}, which is the outputs' block of parts")
        for output in self.output:
            for block in (*(output.of or ()), *output.blocks):
                if block not in (*cameras, PART):
                    raise ValueError(
                        f"output {output.name}: {block!r} is neither {PART} nor a camera; cameras "
                        f"are {', '.join(cameras)}"
                    )
        kinds = {output.name: output.where.kind for output in self.output}
        for camera in self.camera:
            named = camera.triggering.output
            if named is not None and kinds.get(named) not in ("modbus", "opcua"):
                raise ValueError(
                    f"camera {camera.name}: trigger = {camera.trigger!r}, and there is no "
                    f"[[output]] {named!r} with a controller"
                )
        return self

    @model_validator(mode="after")
    def _pins_differ(self) -> Settings:
        triggers: dict[Pin, str] = {}
        for camera in self.camera:
            if camera.triggering.pin is not None:
                # One edge may fire several cameras: a pin that is watched once.
                triggers.setdefault(camera.triggering.pin, f"camera {camera.name}: trigger")
        used = [(whose, pin) for pin, whose in triggers.items()]
        for output in self.output:
            used += [(f"output {output.name}: {key}", pin) for key, pin in output.pins().items()]
        check_pins(used)
        return self

    def blocks_of(self, output: OutputTable) -> tuple[str, ...]:
        """The blocks that an output shows, in the order of their addresses."""
        if output.of is not None:
            return output.of
        if output.where.kind == "gpio":
            return (PART,)
        return (*(camera.name for camera in self.camera), PART)

    def triggers_of(self, output: OutputTable) -> bool:
        """Whether a camera is triggered by what this output's controller counts."""
        return any(camera.triggering.output == output.name for camera in self.camera)
