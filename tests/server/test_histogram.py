"""The bulk histogram against prometheus_client's own, value by value."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from quire.server.histogram import BulkHistogram

BUCKETS = (0.001, 0.01, 0.1, 1.0, 2.5)


def samples(registry):
    """What Prometheus reads, times of creation left out."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(st.lists(st.sampled_from((*BUCKETS, 0.0, 0.0005, 0.02, 3.0, 1e9)))))
def test_it_reads_like_prometheus_clients_own(batches):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bulk = BulkHistogram("gap", "of tokens", labels={"model": "m"}, buckets=BUCKETS, registry=ours)
    single = Histogram("gap", "of tokens", ("model",), buckets=BUCKETS, registry=theirs).labels(model="m")
    for batch in batches:
        bulk.observe(iter(batch))
        for value in batch:
            single.observe(value)
    assert samples(ours) == samples(theirs)
