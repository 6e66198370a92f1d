"""What a bundle does to labelled parts, as an auditor asks it: ``edge-qc qualify``.

A station's own inspection judges each photograph (``judging`` beside this room). Here ``counting``
says what the counts prove, ``repeatability`` disturbs photographs and counts verdicts that flip,
``page`` writes it down for people and ``writing`` signs it. Nothing here knows how a verdict is
reached.
"""

from edge_qc_export.qualification.writing import Qualification, qualify

__all__ = ["Qualification", "qualify"]
