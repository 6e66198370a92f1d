"""Never seen before: PaDiM for where a part is odd, the embedding for what is like no class."""
