"""The seeded mistakes go with the code: each still finds the lines that it changes. Otherwise only
the long fault run would tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.mutants import MUTANTS, Mutant, seeded
from tests.faults.output_mutants import OUTPUT_MUTANTS


@pytest.mark.parametrize("mutant", [*MUTANTS, *OUTPUT_MUTANTS], ids=lambda mutant: mutant.name)
def test_a_mutant_finds_its_lines(tmp_path: Path, mutant: Mutant) -> None:
    source = seeded(mutant, tmp_path)
    for name, _, changed in mutant.changes:
        text = (source / "edge_qc" / name).read_text(encoding="utf-8")
        assert changed in text
        compile(text, name, "exec")
