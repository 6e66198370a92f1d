"""Drift detection: PaDiM shows where a part is unusual, the embedding whether it is like any class.

Docstrings here and in ``graph`` give the shape of every array that passes: N images or views, C
classes, E the length of the embedding, (gh, gw) PaDiM's grid, (c, h, w) a level's map.
``patches``, ``channels`` and ``groups`` (one, or one for each class) are spelled out.
"""
