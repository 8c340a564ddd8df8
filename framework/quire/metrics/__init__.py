"""What a run is measured by: definitions of the metrics, and their summary."""

from quire.metrics.definitions import METRICS, SampleMetric, StepMetric, TotalMetric
from quire.metrics.summary import Summary, distribution
from quire.metrics.totals import Totals

__all__ = ["METRICS", "SampleMetric", "StepMetric", "Summary", "TotalMetric", "Totals", "distribution"]
