"""What the figures stand beside, and whether it is here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.rig.programs import PACKAGES, find


def beside(peer: str, *figures: str) -> bool:
    """Whether a peer, a Python module or a program, is installed here.

    Asked before anything is measured: where it is not, the figures that need it are named and left
    out.
    """
    if peer in PACKAGES:
        here, how = find(peer) is not None, f"apt install {PACKAGES[peer]}"
    else:
        here = importlib.util.find_spec(peer) is not None
        how = "pip install -r bench/requirements.txt"
    if not here:
        print(
            f"  {', '.join(figures)}: left out, {peer} is not installed here ({how})",
            file=sys.stderr,
            flush=True,
        )
    return here
