"""What a run is measured by: definitions of the metrics; `quire.metrics.summary` sums them up."""

from quire.metrics.definitions import METRICS, SampleMetric, StepMetric, TotalMetric
from quire.metrics.totals import Totals

__all__ = ["METRICS", "SampleMetric", "StepMetric", "TotalMetric", "Totals"]
