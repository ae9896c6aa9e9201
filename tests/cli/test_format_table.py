"""Tables of the commands that show data of a running exporter."""

from __future__ import annotations

from exporter.cli.running_exporter import format_table


def test_columns_are_aligned_without_spaces_at_the_end() -> None:
    assert format_table([("ID", "REASON"), ("long-id", ""), ("x", "a b")]) == "ID       REASON\nlong-id\nx        a b\n"


def test_control_characters_cannot_break_a_table() -> None:
    assert format_table([("A",), ("x\x1b[2J\ny",)]) == "A\nx\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}y\n"
