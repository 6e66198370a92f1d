"""The processes that train together: one, or those that ``torchrun`` started.

torch.distributed does the work, over NCCL where every process has a GPU and gloo elsewhere; here
is only what training asks of it, and of the device of each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

_PATIENCE = timedelta(hours=2)
"""How long the others wait while the first process decodes pictures."""


@dataclass(frozen=True, slots=True)
class Processes:
    """This process's place among ``count``; rank 0 writes files and shows progress."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            dist.barrier()

    def total(self, values: Tensor) -> Tensor:
        """The sum over processes, in place."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def joined(self, module: nn.Module) -> nn.Module:
        """The module whose gradients are averaged over processes."""
        if self.count == 1:
            return module
        return nn.parallel.DistributedDataParallel(
            module, device_ids=[self.device.index] if self.device.type == "cuda" else None
        )


def half_of(device: torch.device) -> torch.dtype | None:
    """The type of half the width in which the device multiplies faster than in float32; None where
    there is none. A processor has one where it multiplies bfloat16 itself."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "cpu" and _processor_flags() & {"avx512_bf16", "amx_bf16"}:
        return torch.bfloat16
    return None


def _processor_flags() -> set[str]:
    """What the processor can do, in Linux's words; nothing elsewhere."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    return set()


@contextmanager
def joined_processes(device: str | None = None) -> Iterator[Processes]:
    """The processes that torchrun's environment names, joined for the time of the context."""
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device is None:
        cuda = torch.cuda.is_available() and local < torch.cuda.device_count()
        device = f"cuda:{local}" if cuda else "cpu"
    place = torch.device(device)
    if count == 1:
        yield Processes(0, 1, place)
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    # Figures are summed on the CPU, gradients where the network is.
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield Processes(rank, count, place)
    finally:
        dist.destroy_process_group()
