"""What a station says of its machine."""

from __future__ import annotations

from pathlib import Path

from edge_qc.line.health import available_memory

MB = 10**6


def machine(root: Path, **files: str) -> Path:
    for name, text in {
        "proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n",
        "proc/self/cgroup": "0::/unit\n",
        **{f"sys/fs/cgroup/unit/{name.replace('_', '.', 1)}": text for name, text in files.items()},
    }.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_files_that_the_kernel_keeps_in_memory_leave_room_for_another_bundle(
    tmp_path: Path,
) -> None:
    """After some hours they fill a unit's limit: each image, the ledger, what was kept."""
    stat = f"anon {150 * MB}\nfile {900 * MB}\nactive_file {300 * MB}\ninactive_file {600 * MB}\n"
    full = {"memory_max": str(1100 * MB), "memory_current": str(1060 * MB)}
    assert available_memory(machine(tmp_path / "a", **full)) == 40 * MB
    assert available_memory(machine(tmp_path / "b", **full, memory_stat=stat)) == 940 * MB
    assert available_memory(machine(tmp_path / "c", memory_max="max")) == 4000 * MB * 1024 // 1000
