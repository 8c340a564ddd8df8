"""One seed, one workload: the same bytes in every process, under every hash seed and Python version.

The digests below were made with Python 3.11.7, 3.12.1 and 3.13.0 alike (`golden_workloads` is a script).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import golden_workloads
import pytest

import quire
import quire_plugins

GOLDEN = {
    "synthetic, arrivals poisson": "94f357bf9b03a0aa",
    "synthetic, arrivals gamma": "02d291aa0985ae9f",
    "synthetic, arrivals weibull": "b714bbcdfb5df8e7",
    "synthetic, arrivals on_off": "d013c2ba83a90150",
    "synthetic, arrivals diurnal": "a572bda965d83714",
    "synthetic, lengths lognormal": "59bf24a4515de6dd",
    "synthetic, lengths azure_conv": "e3a9c69d31100762",
    "synthetic, lengths azure_code": "4ebdd899785be4a2",
    "synthetic, lengths sharegpt": "35b782f074fa4c81",
    "synthetic, lengths mooncake": "16af993f297307fb",
    "synthetic, lengths knots": "e2667d70a740cc50",
    "synthetic, closed": "e8a5c209f41c01b1",
    "synthetic, turns": "0ee2898945db34b1",
    "synthetic, prefixes": "bd1b9b75b13e5152",
    "synthetic, tenants": "d979bb12b4e3d744",
    "Azure": "8669fb16e2de0cc1",
    "BurstGpt": "791d5e34d778704e",
    "Mooncake": "43493553db3eabbb",
    "QwenBailian": "83f46710bb94b91b",
    "ShareGpt": "367c8a9ce1cca7dd",
    "JsonlWorkload": "183c30c54c682ca3",
    "demo": "ae8185a8f98d1712",
}


def test_every_workload_makes_the_bytes_that_it_always_made(tmp_path):
    assert golden_workloads.digests(tmp_path) == GOLDEN


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_the_order_of_sets_and_hashes_of_strings_have_no_part_in_it(hash_seed):
    places = [Path(package.__path__[0]).parent for package in (quire, quire_plugins)]
    places.append(Path(golden_workloads.__file__).parent)
    environment = {
        **os.environ,
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join(map(str, places)),
    }
    script = [sys.executable, golden_workloads.__file__]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == GOLDEN
