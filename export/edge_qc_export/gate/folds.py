"""Labelled parts divided into folds, so that each can be scored by what the others taught."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from edge_qc.errors import DataError
from edge_qc.parts import GOOD

FOLDS = 5


def assign_folds(
    labels: Sequence[str], groups: NDArray[np.intp], count: int, seed: int = 0
) -> NDArray[np.intp]:
    """(n,): the fold of each part, stratified by label; parts of one group stay together.

    count: lessened to the number of groups that show GOOD. A class of fewer groups than folds is
    missing from some. Raises DataError where GOOD has fewer than two groups.
    """
    names = np.asarray(labels)
    of_good = len(np.unique(groups[names == GOOD]))
    if of_good < 2:
        raise DataError(
            f"{of_good} group of {GOOD} images: wanted at least 2, so that some can be scored by "
            "what the others taught. All are near-duplicates of each other, or of one group: add "
            f"images of other {GOOD} parts"
        )
    folds = np.zeros(len(names), np.intp)
    splitter = StratifiedGroupKFold(min(count, of_good), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class of few groups: it is scored as if never seen where its fold holds it all.
        warnings.filterwarnings("ignore", "The least populated class")
        for fold, (_, rows) in enumerate(splitter.split(names, names, groups)):
            folds[rows] = fold
    for fold in range(folds.max() + 1):
        if (names[folds != fold] != GOOD).all():
            raise DataError(
                f"all {GOOD} images are of groups that cannot be divided: name finer groups, or "
                f"add images of other {GOOD} parts"
            )
    return folds
