"""Replayed traces: each format read as it is published, times scaled, prefixes shared, errors named."""

import hashlib
import json
from itertools import pairwise

import pytest

from quire.errors import UserError
from quire.interfaces.workload import WorkloadContext
from quire_plugins.workloads.azure import Azure, AzureConfig
from quire_plugins.workloads.azure_code import AzureCode, AzureCodeConfig
from quire_plugins.workloads.azure_conv import AzureConv, AzureConvConfig
from quire_plugins.workloads.burstgpt import BurstGpt, BurstGptConfig
from quire_plugins.workloads.limits import TooLong
from quire_plugins.workloads.mooncake import Mooncake, MooncakeConfig
from quire_plugins.workloads.qwen_bailian import QwenBailian, QwenBailianConfig

AZURE_2023 = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 23:59:59.9799600,374,44
2023-11-17 00:00:00.0319601,39,10
2023-11-17 00:00:02.9799600,8,1"""
AZURE_2024 = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:00.017335+00:00,2399,6
2024-05-10 00:00:01+00:00,76,15
"""
BURSTGPT = """\
Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
118,GPT-4,417,276,693,API log
185,ChatGPT,1360,0,1360,Conversation log
"""
MOONCAKE = """\
{"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]}
{"timestamp": 3000, "input_length": 1024, "output_length": 7, "hash_ids": [0, 1]}
{"timestamp": 3500, "input_length": 600, "output_length": 3, "hash_ids": [0, 9]}
"""
BAILIAN = """\
{"chat_id": 7, "parent_chat_id": -1, "timestamp": 61.1, "input_length": 20, "output_length": 9, "type": "text", "turn": 1, "hash_ids": [5, 6]}
{"chat_id": 8, "parent_chat_id": 7, "timestamp": 62.5, "input_length": 33, "output_length": 8, "type": "text", "turn": 2, "hash_ids": [5, 7, 8]}
{"chat_id": 9, "parent_chat_id": 8, "timestamp": 63.0, "input_length": 16, "output_length": 1, "type": "text", "turn": 3, "hash_ids": [4]}
"""  # noqa: E501 - as published
GOLDEN = {"azure": "ade94290495acf38", "mooncake": "7239da60669ef1fe"}


def replay(tmp_path, kind, text, *, longest=4096, seed=0, **options):
    """The workload and its requests."""
    path = tmp_path / "trace"
    path.write_text(text)
    workload = kind(config=kind.Config(path=str(path), **options))
    context = WorkloadContext(seed=seed, vocab_size=1000, max_model_tokens=longest, tokenizer=None)
    assert len(workload) > 0
    return workload, list(workload.requests(context))


def shapes(requests) -> list[tuple[float, int, int]]:
    return [(r.arrival_time, len(r.prompt_token_ids), r.forced_output_tokens) for r in requests]


def digest(requests) -> str:
    """Of all that a workload decides."""
    fields = [
        (r.id, r.prompt_token_ids, r.arrival_time, r.forced_output_tokens, r.sampling.max_tokens, r.tenant)
        for r in requests
    ]
    return hashlib.sha256(repr(fields).encode()).hexdigest()[:16]


@pytest.mark.parametrize("kind", [Azure, AzureConv, AzureCode])
def test_azure_2023_is_read_to_a_tenth_of_a_microsecond_across_midnight(tmp_path, kind):
    _, requests = replay(tmp_path, kind, AZURE_2023)
    assert shapes(requests) == [(0.0, 374, 44), (0.052, 39, 10), (3.0, 8, 1)]
    assert requests[0].id == f"{kind.name}-2"


def test_azure_2024_is_read_with_its_offsets(tmp_path):
    _, requests = replay(tmp_path, Azure, AZURE_2024)
    assert shapes(requests) == [(0.0, 2162, 5), (0.007405, 2399, 6), (0.99007, 76, 15)]


def test_burstgpt_leaves_out_what_failed_and_says_so(tmp_path):
    workload, requests = replay(tmp_path, BurstGpt, BURSTGPT)
    assert shapes(requests) == [(0.0, 472, 18), (40.0, 1087, 230), (113.0, 417, 276)]
    assert workload.notes() == {"left_out_as_failed_in_the_trace": 1}
    _, requests = replay(tmp_path, BurstGpt, BURSTGPT, model="GPT-4")
    assert shapes(requests) == [(0.0, 417, 276)]


def test_mooncake_prompts_begin_alike_as_far_as_their_blocks_do(tmp_path):
    _, requests = replay(tmp_path, Mooncake, MOONCAKE)
    assert shapes(requests) == [(0.0, 1100, 5), (3.0, 1024, 7), (3.5, 600, 3)]
    one, two, three = (r.prompt_token_ids for r in requests)
    assert one[:1024] == two
    assert one[:512] == three[:512]
    assert sum(a == b for a, b in zip(one[512:600], three[512:], strict=True)) < 5  # 88 in 1000 by chance


def test_bailian_has_short_blocks_seconds_and_conversations(tmp_path):
    _, requests = replay(tmp_path, QwenBailian, BAILIAN)
    assert shapes(requests) == [(0.0, 20, 9), (1.4, 33, 8), (1.9, 16, 1)]
    assert requests[0].prompt_token_ids[:16] == requests[1].prompt_token_ids[:16]
    assert {r.session for r in requests} == {"7"}


def test_time_is_stretched_by_a_factor_or_to_a_rate(tmp_path):
    _, requests = replay(tmp_path, Mooncake, MOONCAKE, time_scale=0.5)
    assert [r.arrival_time for r in requests] == [0.0, 1.5, 1.75]
    _, requests = replay(tmp_path, Mooncake, MOONCAKE, rate=2.0)  # three requests have two gaps: one second
    assert [r.arrival_time for r in requests] == [0.0, pytest.approx(6 / 7, abs=1e-6), 1.0]


def test_lines_are_skipped_and_limited(tmp_path):
    _, requests = replay(tmp_path, Mooncake, MOONCAKE, skip=1, limit=1)
    assert shapes(requests) == [(0.0, 1024, 7)]


def test_outputs_are_hidden_behind_what_is_declared(tmp_path):
    _, requests = replay(tmp_path, Mooncake, MOONCAKE, longest=2000)
    assert [r.sampling.max_tokens for r in requests] == [900, 976, 1400]
    workload, requests = replay(tmp_path, Mooncake, MOONCAKE, longest=2000, output_cap=6)
    assert [(r.forced_output_tokens, r.sampling.max_tokens) for r in requests] == [(5, 6), (6, 6), (3, 6)]
    assert workload.notes() == {"outputs_cut_to_the_cap": 1}


def test_what_is_too_long_is_left_out_or_shortened_and_counted_or_refused(tmp_path):
    workload, requests = replay(tmp_path, Mooncake, MOONCAKE, longest=1031)
    assert [r.id for r in requests] == ["mooncake-2", "mooncake-3"]
    assert workload.notes() == {"left_out_as_too_long": 1}
    workload, requests = replay(tmp_path, Mooncake, MOONCAKE, longest=1027, too_long=TooLong.clip)
    assert [shape[1:] for shape in shapes(requests)] == [(1022, 5), (1020, 7), (600, 3)]
    assert workload.notes() == {"shortened_as_too_long": 2}
    with pytest.raises(UserError, match=r"too_long=refuse: line 1 has 1100 \+ 5 tokens, more than the 1031"):
        replay(tmp_path, Mooncake, MOONCAKE, longest=1031, too_long=TooLong.refuse)


def test_the_same_bytes_in_every_process(tmp_path):
    for kind, text in ((Azure, AZURE_2023), (Mooncake, MOONCAKE)):
        assert digest(replay(tmp_path, kind, text)[1]) == GOLDEN[kind.name]
        assert digest(replay(tmp_path, kind, text, seed=1)[1]) != GOLDEN[kind.name]


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (Azure, "", "trace: is empty; its first line must name TIMESTAMP"),
        (Azure, AZURE_2023.replace("Generated", "Made"), "line 1, column GeneratedTokens: is missing"),
        (
            Azure,
            AZURE_2023.replace("39,10", "-39,10"),
            "line 3, column ContextTokens: '-39': must be at least 1",
        ),
        (
            Azure,
            AZURE_2023.replace("39,10", "39,1.5"),
            "line 3, column GeneratedTokens: '1.5': must be a whole",
        ),
        (Azure, AZURE_2023[:-2], "line 4, column GeneratedTokens: the line has 2 fields, the header 3"),
        (Azure, AZURE_2023.replace(",39,10", ""), "line 3, column ContextTokens: the line has 1 fields"),
        (
            Azure,
            AZURE_2023.replace("17 00:00:02", "15 00:00:02"),
            "line 4, column TIMESTAMP: is earlier than",
        ),
        (
            Azure,
            AZURE_2023.replace("2023-11-17 00:00:02", "soon"),
            "line 4, column TIMESTAMP: 'soon.*must be",
        ),
        (Azure, AZURE_2023.splitlines()[0], "has no requests"),
        (Mooncake, MOONCAKE[:-12], "line 3, column 6[0-9]: is not JSON: .*the file ends within the line"),
        (Mooncake, MOONCAKE.replace("3000", "4000"), "line 3, column timestamp: is earlier than"),
        (
            Mooncake,
            MOONCAKE.replace("[0, 9]", "[0]"),
            "line 3, column hash_ids: 1 blocks of 512 tokens; must be 2",
        ),
        (
            Mooncake,
            MOONCAKE.replace('"output_length": 7', '"output": 7'),
            "line 2, column output_length: is miss",
        ),
        (Mooncake, "[1]\n", "line 1, column 1: must be an object"),
        (BurstGpt, BURSTGPT.replace("45,", "x,"), "line 3, column Timestamp: 'x': must be a finite number"),
    ],
)
def test_what_is_wrong_with_a_file_is_named_by_line_and_column(tmp_path, kind, text, message):
    with pytest.raises(UserError, match=message):
        replay(tmp_path, kind, text)


def test_a_path_is_needed_and_must_exist(tmp_path):
    with pytest.raises(
        UserError, match=r"workload\.path=null: must be the trace's file where workload=mooncake"
    ):
        len(Mooncake(config=MooncakeConfig()))
    with pytest.raises(UserError, match=r"workload\.path='.*nowhere': cannot be read: No such file"):
        len(Azure(config=AzureConfig(path=str(tmp_path / "nowhere"))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, r"workload\.rate=0\.0"),
        ({"time_scale": -1.0}, r"workload\.time_scale=-1\.0"),
        ({"rate": 1.0, "time_scale": 2.0}, r"workload\.time_scale=2\.0: must be 1 where"),
        ({"skip": -1}, r"workload\.skip=-1"),
        ({"limit": 0}, r"workload\.limit=0"),
    ],
)
@pytest.mark.parametrize("config", [AzureConfig, BurstGptConfig, QwenBailianConfig])
def test_impossible_options_are_named(config, options, message):
    with pytest.raises(UserError, match=message):
        config(**options)


@pytest.mark.parametrize(
    ("workload", "rate"),
    [
        (AzureConv(config=AzureConvConfig(limit=400, too_long=TooLong.clip)), 5.53),
        (AzureConv(config=AzureConvConfig(limit=400, rate=2.0, too_long=TooLong.clip)), 2.0),
        (AzureCode(config=AzureCodeConfig(limit=400, too_long=TooLong.clip)), None),
    ],
)
def test_without_a_file_requests_are_drawn_like_the_traces(workload, rate):
    context = WorkloadContext(seed=0, vocab_size=1000, max_model_tokens=8192, tokenizer=None)
    requests = list(workload.requests(context))
    assert len(requests) == len(workload) == 400
    assert "drawn" in workload.notes()
    times = [r.arrival_time for r in requests]
    assert all(a <= b for a, b in pairwise(times))
    if rate is not None:
        assert len(times) / times[-1] == pytest.approx(rate, rel=0.2)


def test_traces_are_json_that_python_writes(tmp_path):
    """Spaces and order of fields do not matter."""
    rows = [json.loads(line) for line in MOONCAKE.splitlines()]
    text = "\n".join(json.dumps(dict(reversed(row.items())), separators=(",", ":")) for row in rows)
    assert replay(tmp_path, Mooncake, text)[1] == replay(tmp_path, Mooncake, MOONCAKE)[1]
