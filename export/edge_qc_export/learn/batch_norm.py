"""The statistics of batch norm, measured again after an epoch.

The running averages lag behind weights that move fast: on small sets they are wrong for many
epochs, and evaluation mode with them. They are replaced by the plain average over a pass without
dropout, "precise batch norm" (Wu and Johnson 2021, *Rethinking "Batch" in BatchNorm*).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from edge_qc_export.learn.network import Network
from edge_qc_export.learn.processes import Processes
from edge_qc_export.learn.trunk_cache import States


def measure_batch_norm(network: Network, batches: Iterable[States], processes: Processes) -> None:
    """Replace the statistics of every batch norm that learns; the network is left in evaluation
    mode. batches: what ``Network.learning`` takes; this process's share."""
    network.train()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    network.eval()
    if not norms:
        return
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for the plain average
    with torch.no_grad():
        for states in batches:
            network.learning(states)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
        norm.eval()
        for statistic in (norm.running_mean, norm.running_var):
            assert statistic is not None
            processes.total(statistic).div_(processes.count)
