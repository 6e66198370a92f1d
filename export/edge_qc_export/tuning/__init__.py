"""``edge-qc tune``: what another bound, other costs and another mix would do to labelled parts.

``ground`` judges the parts once, as the station does, and keeps what no slider moves; ``moves``
decides all of them again for a setting; ``site`` is the page. ``edge_qc.inspection.decision`` says
what the numbers mean, and a test holds ``moves`` to it, part by part.
"""
