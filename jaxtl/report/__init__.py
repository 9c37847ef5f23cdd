"""The report page: a run folder, or several, as one HTML file that needs nothing else."""

from jaxtl.report.document import build_page
from jaxtl.runs.data import RunData, load_run

__all__ = ["RunData", "build_page", "load_run"]
