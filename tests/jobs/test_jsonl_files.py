"""JSON lines: whole or not there."""

import json

import pytest

from quire.jobs.jsonl import JsonLinesWriter, drop_partial_line, numbered_lines


def test_what_was_written_can_be_read_before_the_file_is_closed(tmp_path):
    writer = JsonLinesWriter(tmp_path / "a")
    writer.write([{"text": "ä\n", "half": "\ud800"}, {}])
    lines = (tmp_path / "a").read_bytes().decode().splitlines()
    assert [json.loads(line) for line in lines] == [{"text": "ä\n", "half": "\ud800"}, {}]
    writer.close()
    writer.close()


def test_a_file_that_exists_is_continued(tmp_path):
    for number in range(2):
        writer = JsonLinesWriter(tmp_path / "a")
        writer.write([{"n": number}])
        writer.close()
    assert (tmp_path / "a").read_text() == '{"n": 0}\n{"n": 1}\n'


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"", b""),
        (b"a\nb\n", b"a\nb\n"),
        (b"a\nb", b"a\n"),
        (b"ab", b""),
        (b"a\n" + b"x" * 200_000, b"a\n"),
        (b"x" * 200_000, b""),
        (b"x" * 65_535 + b"\ny", b"x" * 65_535 + b"\n"),
        (b"y\n" + b"x" * 65_536, b"y\n"),
    ],
)
def test_a_line_cut_short_is_dropped(tmp_path, content, kept):
    (tmp_path / "a").write_bytes(content)
    drop_partial_line(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == kept


def test_lines_are_numbered_with_the_blank_ones_left_out(tmp_path):
    (tmp_path / "a").write_bytes(b"\n one\n  \t\n\xff\r\nlast")
    assert list(numbered_lines(tmp_path / "a")) == [(2, b" one\n"), (4, b"\xff\r\n"), (5, b"last")]
