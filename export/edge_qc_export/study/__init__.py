"""The report's whole study: every configuration of its tables, and the constant prediction.

``configurations`` is the list, ``settings`` its settings, ``running`` trains and measures (a
finished configuration is not run again), ``results`` holds and writes the table. A run that
predicts one class is COLLAPSED whatever its PWA.
"""

from edge_qc_export.study.configurations import CONFIGURATIONS, Configuration
from edge_qc_export.study.results import Row, Study
from edge_qc_export.study.running import run_study
from edge_qc_export.study.settings import StudySettings

__all__ = ["CONFIGURATIONS", "Configuration", "Row", "Study", "StudySettings", "run_study"]
