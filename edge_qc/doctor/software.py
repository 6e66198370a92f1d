"""Python, TensorRT, CUDA through pycuda, OpenCV: each imported in a separate process, so that a
library that crashes does not end the doctor."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from edge_qc.doctor.finding import Finding, bad, good, none, note
from edge_qc.extras import how_to_install
from edge_qc.settings import Settings
from edge_qc.system.machine import Machine

_TIMEOUT_S = 120

_TENSORRT = """
import json, tensorrt as trt
class Log(trt.ILogger):
    def __init__(self): trt.ILogger.__init__(self); self.said = []
    def log(self, severity, msg): self.said.append(msg)
log = Log()
try: builder = trt.Builder(log) is not None
except TypeError: builder = False
print(json.dumps([trt.__version__, trt.__file__, builder, log.said[-1:]]))
"""

_CUDA = """
import json
from importlib import metadata
try:
    import pycuda.driver as cuda
    library = "pycuda"
except ImportError:
    from edge_qc.engine import cuda_bindings as cuda
    library = "cuda-bindings"
cuda.init()
device = cuda.Device(0)
print(json.dumps([library + " " + metadata.version(library), cuda.get_driver_version(),
                  device.name(), device.compute_capability(), device.total_memory()]))
"""

_PREFLIGHT = """
import json, tensorrt_rtx_bindings as trt
class Log(trt.ILogger):
    def __init__(self): trt.ILogger.__init__(self)
    def log(self, severity, msg): pass
log = Log()
print(json.dumps([trt.__version__, trt.Builder(log) is not None]))
"""

_OPENCV = """
import json, numpy, cv2
lines = [line.split(":", 1) for line in cv2.getBuildInformation().splitlines() if ":" in line]
built = {name.strip(): value.strip() for name, value in lines}
print(json.dumps([cv2.__version__, cv2.__file__, numpy.__version__,
                  built.get("GStreamer", "NO"), built.get("v4l/v4l2", "NO")]))
"""


def python(machine: Machine, spared: str | None) -> Iterator[Finding]:
    """Which Python and, on a Jetson, an environment that sees JetPack's packages."""
    seen = f"{machine.python} in {sys.prefix}"
    if machine.is_jetson and spared is None and not _sees_system_packages():
        yield bad(
            "Python",
            f"{seen}, without access to the system's packages",
            "recreate the environment: /usr/bin/python3 -m venv --system-site-packages",
        )
    else:
        yield good("Python", seen)


def tensorrt(spared: str | None, machine: Machine | None = None) -> Iterator[Finding]:
    """Bindings of 10.3 or newer, and libraries behind them that find the GPU. machine: on a Jetson,
    TensorRT has to be one that supports its JetPack (NVIDIA's support matrix, 2026-11)."""
    if spared is not None:
        yield none("TensorRT", spared)
        return
    answer, failure = _ask(_TENSORRT)
    if answer is None:
        yield bad(
            "TensorRT",
            f"cannot be imported: {failure}",
            "on a Jetson: sudo apt install python3-libnvinfer; on a workstation: "
            + how_to_install("tensorrt"),
        )
        return
    version, file, builds, said = answer
    seen = f"{version} ({file})"
    if tuple(int(part) for part in version.split(".")[:2]) < (10, 3):
        yield bad("TensorRT", seen, "wanted 10.3 or newer: JetPack 6.1")
    elif machine is not None and (why := _unsupported(version, machine)):
        yield bad("TensorRT", f"{seen}: {why}", "take the one that JetPack brings")
    elif not builds:
        yield bad(
            "TensorRT",
            f"{seen}, cannot create a builder: {'; '.join(said) or 'no reason given'}",
            "check that a GPU is present and that this user may open it (group video or render)",
        )
    else:
        yield good("TensorRT", seen)


def _unsupported(version: str, machine: Machine) -> str | None:
    """Why this TensorRT cannot serve this Jetson; None off a Jetson and if it can."""
    release = tuple(int(part) for part in version.split(".")[:3])
    if machine.l4t is None or release < (11,):
        return None
    if machine.l4t.startswith("36."):
        return "JetPack 6 stays on TensorRT 10"
    if release < (11, 4, 1):
        return "TensorRT 11 supports a Jetson from 11.4.1 on, with JetPack 7.2.2"
    return None


def cuda(spared: str | None) -> Iterator[Finding]:
    """pycuda or cuda-bindings, and a device behind it."""
    if spared is not None:
        yield none("CUDA", spared)
        return
    answer, failure = _ask(_CUDA)
    if answer is None:
        yield bad(
            "CUDA",
            f"no device is found: {failure}",
            f"{how_to_install('pycuda')}, with nvcc on the PATH, or without a compiler "
            f"{how_to_install('cuda-bindings')}; then check that this user may "
            "open the GPU (group video or render)",
        )
        return
    library, driver, name, capability, memory = answer
    yield good(
        "CUDA",
        f"{name}, sm_{''.join(map(str, capability))}, {memory >> 20} MB; driver for CUDA "
        f"{driver // 1000}.{driver % 1000 // 10}, {library}",
    )


def preflight() -> Iterator[Finding]:
    """On a workstation: TensorRT for RTX, with which ``edge-qc export --preflight`` has NVIDIA's
    own compiler read a graph. It runs nothing, and no station needs it."""
    try:
        metadata.version("edge-qc-export")
    except metadata.PackageNotFoundError:
        yield none("pre-flight", "no workstation: edge-qc-export is not installed")
        return
    if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        yield note(
            "pre-flight",
            "TensorRT for RTX is not installed",
            "for 'edge-qc export --preflight', on Linux and x86-64: pip install "
            "'edge-qc-export[preflight]'",
        )
        return
    answer, failure = _ask(_PREFLIGHT)
    if answer is None:
        yield bad(
            "pre-flight",
            f"TensorRT for RTX makes no builder: {failure}",
            "pip install --force-reinstall 'edge-qc-export[preflight]'",
        )
        return
    yield good("pre-flight", f"TensorRT for RTX {answer[0]} builds graphs here, and runs none")


def opencv(settings: Settings | None) -> Iterator[Finding]:
    """Whether cv2 works with the installed numpy, with V4L2, and with GStreamer if a camera needs
    it."""
    answer, failure = _ask(_OPENCV)
    if answer is None:
        numpy = "numpy" in failure or "ARRAY_API" in failure
        yield bad(
            "OpenCV",
            f"cannot be imported: {failure}",
            "this cv2 was built for numpy 1: pip install 'numpy<2'"
            if numpy
            else "pip install opencv-python-headless, or on a Jetson apt's python3-opencv",
        )
        return
    version, file, numpy_version, gstreamer, v4l2 = answer
    seen = f"cv2 {version} ({file}), numpy {numpy_version}"
    schemes = set() if settings is None else {camera.source.scheme for camera in settings.camera}
    if "gst" in schemes and not gstreamer.startswith("YES"):
        yield bad(
            "OpenCV",
            f"{seen}, without GStreamer",
            "gst: needs apt's cv2: pip uninstall opencv-python-headless, apt install "
            "python3-opencv, and numpy<2",
        )
    elif "v4l2" in schemes and not v4l2.startswith("YES"):
        yield bad("OpenCV", f"{seen}, without V4L2", "pip install opencv-python-headless")
    elif gstreamer.startswith("YES"):
        yield good("OpenCV", f"{seen}, GStreamer {gstreamer.removeprefix('YES').strip(' ()')}")
    else:
        yield note("OpenCV", f"{seen}, without GStreamer", "only gst: sources need it")


def _sees_system_packages() -> bool:
    if sys.prefix == sys.base_prefix:
        return True
    try:
        text = Path(sys.prefix, "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return False
    return "include-system-site-packages = true" in text


def _ask(code: str) -> tuple[Any, str]:
    """Run the code and return the JSON it prints, or None and the reason in one line."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return None, lines[-1] if lines else f"it ended with status {done.returncode}"
    try:
        return json.loads(done.stdout.splitlines()[-1]), ""
    except (ValueError, IndexError):
        return None, "its output cannot be read"
