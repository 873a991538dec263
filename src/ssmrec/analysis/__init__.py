"""Why: popularity bias, hard negatives, the metric bound, magnitude and degree, geometry."""

from ssmrec.analysis.files import write_analysis
from ssmrec.analysis.run import Effort, Run, analyze

__all__ = ["Effort", "Run", "analyze", "write_analysis"]
