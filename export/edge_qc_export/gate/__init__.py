"""The gate to GOOD, set on labelled parts that were scored by what had not learned from them."""
