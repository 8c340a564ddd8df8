"""A page's parts are replaced, each between its own marks, and nothing else of the page."""

import pytest

from quire.errors import UserError
from quire.report.marked_page import rewritten, write_parts

PAGE = (
    "Before.\n<!-- one -->\nold\n<!-- end of one -->\nBetween.\n<!-- two -->\n<!-- end of two -->\nAfter.\n"
)


def test_each_part_comes_to_its_place(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(PAGE)
    write_parts(path, {"two": "2\n", "one": "1\n1\n"})
    expected = PAGE.replace("old\n", "1\n1\n").replace("<!-- two -->\n", "<!-- two -->\n2\n")
    assert path.read_text() == expected
    assert rewritten(expected, {"two": "2\n"}) == expected


def test_a_part_without_a_place_writes_nothing(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(PAGE)
    with pytest.raises(UserError, match="<!-- three -->"):
        write_parts(path, {"one": "1\n", "three": "3\n"})
    assert path.read_text() == PAGE
