"""The die table: how each die's band lies in its photograph.

A die has an angle (degrees counter-clockwise, the canvas grown to hold the turned picture) and a
place in that canvas: a ``box`` in pixels (left, upper, right, lower), or a ``center`` (width,
height) about the canvas's centre for images of several sizes. The table belongs to the model and
travels in the bundle, where each die also names the frame sizes that the model learned. What is
done with it lives in ``view``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from edge_qc.errors import DataError

Pixels = Annotated[int, Field(gt=0)]


class Die(BaseModel):
    """One row of the table; exactly one of ``box`` and ``center`` is given.

    frame_sizes: (width, height) of the frames that the model learned the die from, written by the
    export; None if that is not known, and then any size is judged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    angle: float = Field(allow_inf_nan=False)
    box: tuple[int, int, int, int] | None = None
    center: tuple[Pixels, Pixels] | None = None
    frame_sizes: Annotated[tuple[tuple[Pixels, Pixels], ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Die:
        if (self.box is None) == (self.center is None):
            raise ValueError("give exactly one of box and center")
        if self.box is not None:
            left, upper, right, lower = self.box
            if right <= left or lower <= upper:
                raise ValueError(
                    f"box {list(self.box)} is empty: right must exceed left, lower upper"
                )
        return self

    def unlearned(self, width: int, height: int) -> str:
        """Why a frame of this size cannot be judged, naming both sizes; "" if it can be."""
        if self.frame_sizes is None or (width, height) in self.frame_sizes:
            return ""
        learned = ", ".join(f"{w}x{h}" for w, h in self.frame_sizes)
        return (
            f"is {width}x{height} pixels, the bundle learned this die from {learned}. Set the "
            "camera to that size, or train with images of this one"
        )


CHALLENGE_DIES: Mapping[str, Die] = {
    "Die01": Die(angle=55, box=(340, 120, 500, 680)),
    "Die02": Die(angle=-44, box=(480, 210, 640, 930)),
    "Die03": Die(angle=134, box=(460, 200, 620, 920)),
    "Die04": Die(angle=35, box=(310, 130, 470, 690)),
}
"""The benchmark's own table (Challenge Data ENS no. 157)."""

_TABLE = TypeAdapter(dict[str, Die])


def read_dies(file: Path) -> dict[str, Die]:
    """The die table in a JSON file: ``{name: {"angle": …, "box": […]}}``.

    Raises DataError naming the file and every entry that is wrong.
    """
    try:
        table = _TABLE.validate_python(json.loads(file.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"die table {file}: cannot be read as JSON ({error})") from error
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
        )
        raise DataError(
            f"die table {file}: {faults}. Wanted: for each die an angle, and a box "
            "[left, upper, right, lower] or a center [width, height]"
        ) from error
    if not table:
        raise DataError(f"die table {file}: names no die")
    return table
