"""Run every benchmark here and write ``bench/results/latest.json`` and ``docs/figures.md``.

A benchmark is a module of this folder whose ``figures()`` yields dictionaries with name, ratio,
ours_median_s, theirs_median_s, runs and note. Each is written as soon as it is measured, and takes
the place of what was measured before on the same kind of processor: a ratio on another one is
another figure. One whose peer is not installed is left out. Both sides of a ratio are timed in turn
in one run, since machines are shared and noisy. ``python bench/run.py NAME …`` runs some.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from page import page, processor

import edge_qc  # noqa: F401 - before any benchmark imports ONNX Runtime

HERE = Path(__file__).parent
# fleet and startup take arguments of their own and keep results of their own.
_NOT_ONE = ("run", "timing", "page", "peers", "fleet", "startup", "daemon_run")
_PACKAGES = (
    "numpy",
    "opencv-python",
    "opencv-python-headless",
    "onnxruntime",
    "torch",
    "openvino",
    "anomalib",
)


def machine() -> dict[str, Any]:
    """What the figures were taken on. Virtual machines hide the processor's name, but not what it
    can: an engine's ratio to another differs with that."""
    model, flags = platform.processor(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                model = value.strip()
            elif name.strip() in ("flags", "Features"):
                flags = value
    wide = sorted(f for f in flags.split() if f.startswith(("avx", "amx", "asimd", "sve")))
    return {
        "cpu": model,
        "instructions": " ".join(wide),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def main() -> int:
    """Run what was named, all by default; 1 where a benchmark failed, 2 where there is none."""
    modules = sorted(path for path in HERE.glob("*.py") if path.stem not in _NOT_ONE)
    known = {path.stem for path in modules}
    wanted = set(sys.argv[1:]) or known
    if wanted - known:
        print(
            f"no benchmark {', '.join(sorted(wanted - known))}; there are "
            f"{', '.join(sorted(known))}",
            file=sys.stderr,
        )
        return 2
    sys.path.insert(0, str(HERE))
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    target = results / "latest.json"
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    if target.exists():
        for figure in json.loads(target.read_text())["figures"]:
            kept[figure["name"], processor(figure["machine"])] = figure

    def keep(figure: dict[str, Any]) -> None:
        taken = datetime.now(timezone.utc).isoformat(timespec="seconds")
        here = machine()
        kept[figure["name"], processor(here)] = {**figure, "taken": taken, "machine": here}
        print(f"  {figure['name']}: {figure['ratio']:.3g}", file=sys.stderr, flush=True)
        document = {"figures": [kept[key] for key in sorted(kept)]}
        target.write_text(json.dumps(document, indent=2) + "\n")
        (HERE.parent / "docs" / "figures.md").write_text(page(document["figures"]))

    failed = []
    for path in modules:
        if path.stem not in wanted:
            continue
        print(f"{path.stem} …", file=sys.stderr, flush=True)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        # Known by its name, as dataclasses want the module that they are in.
        module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            for figure in module.figures():
                keep(figure)
        except Exception as error:  # one benchmark that fails must not take the others with it
            failed.append(path.stem)
            print(f"  failed: {error}", file=sys.stderr, flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
