"""Why: popularity bias, hard negatives, the metric bound, magnitude and degree, geometry."""

from ssmrec.analysis.run import Effort, Run, analyze, write_analysis

__all__ = ["Effort", "Run", "analyze", "write_analysis"]
