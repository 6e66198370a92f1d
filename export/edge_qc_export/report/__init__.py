"""One run as one page: ``write_report(run folder, ...)`` leaves ``report.html`` and PNGs.

``material`` gathers what is shown, the drawing modules make one figure each from it (``curves``,
``matrices``, ``embedding_map``, ``good_share``, ``drift_histograms``), ``mistakes`` cuts the
pictures, ``sections`` and ``page`` write the HTML. ``scoring`` and ``metrics`` compute the figures,
never these modules.
"""

from edge_qc_export.report.writing import Report, write_report

__all__ = ["Report", "write_report"]
