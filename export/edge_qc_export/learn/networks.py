"""The networks by name: the report's two CNNs, EfficientNet-Lite0 and torchvision's ResNets."""

from __future__ import annotations

from edge_qc.errors import UsageError
from edge_qc_export.learn import pretrained
from edge_qc_export.learn.convolutional import ConvolutionalNetwork
from edge_qc_export.learn.efficientnet_lite import EfficientNetLite0
from edge_qc_export.learn.network import Network
from edge_qc_export.learn.residual import ResidualNetwork

_CNN_WIDTHS = {"cnn-basic": ((32, 64), 128), "cnn-deep": ((32, 64, 128, 256), 256)}

DEFAULT_NETWORK = "efficientnet-lite0"

TRUNKS = (DEFAULT_NETWORK, "resnet18", "resnet50", "resnet101")
"""Networks with a trunk that starts from weights, and of which a part may stay frozen."""

NETWORKS = (*TRUNKS, *_CNN_WIDTHS)


def build_network(
    name: str,
    classes: int,
    size: tuple[int, int],
    *,
    unfreeze: int | None = None,
    dropout: float | None = None,
    weights: str = "none",
) -> Network:
    """A network by name, for ``classes`` classes and views of ``size`` (rows, columns).

    unfreeze: how much of a trunk learns, see ``ResidualNetwork`` and ``EfficientNetLite0``; None:
    all. dropout: before the last dense layer; None takes the report's (0.5 in the CNNs, 0 behind a
    trunk). weights: ``none``, ``imagenet`` or a file (see ``pretrained``), for a trunk alone.
    Initial values follow torch's global generator. Raises UsageError for what does not go together,
    DataError for weights that do not fit.
    """
    if dropout is not None and not 0 <= dropout < 1:
        raise UsageError(f"dropout {dropout}: wanted a share of at least 0 and below 1")
    if name in _CNN_WIDTHS:
        if unfreeze is not None or weights != "none":
            flag = "unfreeze" if unfreeze is not None else "weights"
            raise UsageError(
                f"{name} is trained whole and from nothing; leave {flag} out, or take one of "
                f"{', '.join(TRUNKS)}"
            )
        widths, dense = _CNN_WIDTHS[name]
        return ConvolutionalNetwork(
            widths, dense, classes, size, 0.5 if dropout is None else dropout
        )
    if name not in TRUNKS:
        raise UsageError(f"network {name!r} is not known; wanted one of {', '.join(NETWORKS)}")
    network: EfficientNetLite0 | ResidualNetwork
    if name == "efficientnet-lite0":
        network = EfficientNetLite0(classes, size, unfreeze, dropout or 0.0)
    else:
        network = ResidualNetwork(name, classes, unfreeze, dropout or 0.0)
    if weights != "none":
        pretrained.load_weights(network.trunk, name, weights)
    return network
