"""The package that pins are reached by: ``gpiod`` of libgpiod 2. Triggers and outputs need it."""

from __future__ import annotations

from edge_qc.errors import SettingsError
from edge_qc.extras import how_to_install


def require_gpiod(whose: str) -> None:
    """See that it is there. whose: what needs it, for the message.

    Raises SettingsError if it is missing, or is of libgpiod 1, whose module has the same name.
    """
    try:
        import gpiod
    except ImportError as error:
        raise SettingsError(
            f"{whose}: the package gpiod is not installed ({error}). Install it with: "
            + how_to_install("gpio")
        ) from error
    try:
        import gpiod.line
    except ImportError as error:
        raise SettingsError(
            f"{whose}: the package gpiod here, {gpiod.__file__}, is of libgpiod 1 ({error}). "
            f"That of libgpiod 2 is wanted. Install it with: {how_to_install('gpio')}"
        ) from error
