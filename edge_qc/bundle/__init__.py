"""The model bundle: its manifest, its die table, its verification, and the installed slots."""
