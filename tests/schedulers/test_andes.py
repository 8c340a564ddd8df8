"""andes: users who read at their own pace are served when they would otherwise have to wait."""

import pytest
from serving import request, served

from quire_plugins.schedulers.andes import Andes, AndesConfig
from quire_plugins.schedulers.fcfs import Fcfs, FcfsConfig
from quire_plugins.schedulers.reader import Reader

TTFT, RATE = 0.3, 20.0


def quality(record) -> float:
    """Quality of experience, integrated in steps of a millisecond until the last token is read."""
    read = actual = expected = 0.0
    dt, time, total = 0.001, 0.0, len(record.token_times)
    while read < total - 1e-9:
        time += dt
        delivered = sum(each - record.arrival <= time for each in record.token_times)
        read = min(delivered, read + RATE * dt) if delivered > read else read
        actual += read * dt
        expected += min(total, max(0.0, RATE * (time - TTFT))) * dt
    return min(1.0, actual / expected) if expected else 1.0


def burst():
    """Sixteen at once, for four places: outputs that take longer to read than to generate."""
    return [request(f"r{i}", at=0.001 * i, prompt=12, output=60) for i in range(16)]


@pytest.mark.parametrize("overlap", [False, True])
def test_experience_is_better_than_first_come_first_served(overlap):
    config = AndesConfig(ttft=TTFT, reading_rate=RATE, horizon=1.0, interval=0.1, max_preemptions=5)
    andes = served(Andes(config=config), burst(), sequences=4, overlap=overlap)
    first = served(Fcfs(config=FcfsConfig()), burst(), sequences=4, overlap=overlap)
    means = [sum(map(quality, each.records.values())) / 16 for each in (andes, first)]
    assert means[0] > means[1] + 0.05
    assert andes.preemptions > 0


def test_nobody_gives_way_more_often_than_may_be():
    for most in (0, 2):
        config = AndesConfig(ttft=TTFT, reading_rate=RATE, horizon=1.0, interval=0.02, max_preemptions=most)
        outcome = served(Andes(config=config), burst(), sequences=4)
        assert max(record.num_preemptions for record in outcome.records.values()) <= most


def test_where_there_is_room_for_all_it_is_first_come_first_served():
    config = AndesConfig(ttft=TTFT, reading_rate=RATE)
    andes = served(Andes(config=config), burst(), sequences=16, budget=2048)
    first = served(Fcfs(config=FcfsConfig()), burst(), sequences=16, budget=2048)
    assert [sorted(plan) for plan in andes.plans] == [sorted(plan) for plan in first.plans]


@pytest.mark.parametrize("token_rate", [0.0, 3.0, 10.0, 40.0])
@pytest.mark.parametrize("delivered", [0, 7])
def test_a_readers_area_is_that_under_the_curve(delivered, token_rate):
    reader = Reader(rate=10.0, time=0.0, read=2.0 if delivered else 0.0)
    read, area, dt = reader.read, 0.0, 1e-4
    for index in range(20000):
        there = delivered + token_rate * dt * (index + 1)
        before, read = read, min(there, read + 10.0 * dt)
        area += (before + read) / 2 * dt
    assert reader.area_ahead(2.0, delivered, token_rate) == pytest.approx(area, rel=1e-3, abs=1e-9)
    reader.read_until(0.3, delivered=delivered)
    assert reader.read == pytest.approx(min(delivered, 5.0) if delivered else 0.0)
