"""Proves which lines of a file `eventport import` takes, and that the ids of events are kept."""

from __future__ import annotations

import json

from io import BytesIO
from pathlib import Path

import pytest

from tests.cli_files import Command, Line, event_log, ndjson, stored

from eventport.cli import importing
from eventport.cli.ndjson import parse


ID = "6d1c3b1e-5a66-4d7e-9e7b-0a4f7c9a2f11"


BAD_LINES = {
    '{"stream":"a","type":"t"}': "needs either `data` or `data_base64`",
    '{"stream":"a","type":"t","data":1,"data_base64":""}': "needs either `data` or `data_base64`",
    '{"stream":"a","type":"t","data_base64":"A-_8"}': "Invalid base64 encoded string",
    '{"stream":"a","type":"t","data_base64":1}': ".data_base64",
    '{"stream":"a","type":"t","data":1,"extra":1}': "unknown field `extra`",
    '{"stream":"a","type":"t","data":1,"version":7}': "goes from version 2 to 7",
    '{"type":"t","data":1}': "missing required field `stream`",
    '{"stream":"a","data":1}': "missing required field `type`",
    '{"stream":7,"type":"t","data":1}': "Expected `str`, got `int` at .stream",
    '{"stream":"","type":"t","data":1}': "stream name is empty",
    '{"stream":"$a","type":"t","data":1}': "reserved",
    '{"stream":"a\\u0007","type":"t","data":1}': "control character",
    '{"stream":"%s","type":"t","data":1}' % ("é" * 251): "502 UTF-8 bytes",
    '{"stream":"a","type":"","data":1}': "event type is empty",
    '{"stream":"a","type":"t","data":1,"metadata":[]}': "Expected `object`, got `array`",
    '{"stream":"a","type":"t","data":1,"metadata":null}': "Expected `object`, got `null`",
    '{"stream":"a","type":"t","data":1,"id":"x"}': "Invalid UUID",
    '{"stream":"a","type":"t","data":NaN}': "malformed",
    '{"stream":"a","type":"t","data":1e999}': "out of range",
    '{"stream":"a","type":"t","data":9223372036854775808}': "beyond int64",
    '{"stream":"a","type":"t","data":{"\\u0000":1}}': "U+0000",
    '{"stream":"a","type":"t","data":"\\ud800"}': "",
    '{"stream":"a","type":"t","data":%s}' % ("[" * 65 + "]" * 65): "nested deeper",
    '{"stream":"a","type":"t","data":%s}' % ("[" * 9999): "",
    '[{"stream":"a","type":"t","data":1}]': "Expected `object`, got `array`",
    '{"stream":"a","type":"t","data":1} {}': "trailing characters",
    '{"stream":"a","type":"t","da': "malformed",
    "nonsense": "malformed",
    "\ufeff{}": "malformed",
}


@pytest.mark.parametrize(("bad", "reason"), BAD_LINES.items(), ids=range(len(BAD_LINES)))
def test_a_bad_line_is_named_by_its_number_and_reason(bad: str, reason: str) -> None:
    good = '{"stream":"a","type":"t","data":1}\n'
    file = BytesIO(f"{good}\n{good}{bad}\n{good}".encode())
    with pytest.raises(ValueError, match=r"^line 4: .") as caught:
        importing.check_all(file, lambda _: None)
    assert reason in str(caught.value)


@pytest.mark.parametrize("source", ["-", "bad.ndjson"])
def test_nothing_is_written_of_a_file_with_a_bad_line(
    eventport: Command, tmp_path: Path, source: str
) -> None:
    text = ndjson([*event_log(3000, 30), {"stream": "a", "type": "t"}])
    (tmp_path / "bad.ndjson").write_text(text)
    refused = eventport("import", source, stdin=text)
    assert refused.returncode == 1
    assert refused.stderr == "eventport: line 3001: needs either `data` or `data_base64`\n"
    assert not (tmp_path / "s.db").exists()


def test_a_line_that_is_not_utf_8_is_named() -> None:
    file = BytesIO(b'{"stream":"a","type":"t","data":"\xff"}')
    with pytest.raises(ValueError, match=r"(?i)^line 1: .*utf-8"):
        importing.check_all(file, lambda _: None)


def test_the_id_of_a_line_never_changes() -> None:
    """A release that derived other ids would take events it has imported for foreign ones."""
    lines = (
        b'{"stream":"a","type":"t","data":{"x":1.0}}\n'
        b'{ "data": {"x": 1.0}, "metadata": {}, "type": "t", "stream": "a" }\n'
        b'{"stream":"a","type":"t","data_base64":"AP8="}\n'
        b'{"stream":"a","type":"t","data":1,"id":"%b"}\n' % ID.encode()
    )
    ids = [str(parsed.event.id) for parsed in parse(BytesIO(lines), len(lines))]
    assert ids == [
        "a4b46394-cc51-5c4e-965d-c3c700e0d125",
        "047ac001-a202-5dae-a6f5-bf8520d8d885",  # the same line again, as the stream's second
        "36bfd83d-f6bc-5d5d-91e7-9065dcfb3969",
        ID,
    ]


def test_equal_lines_are_different_events(eventport: Command, tmp_path: Path) -> None:
    assert (
        "3 events written"
        in eventport(
            "import", "-", stdin=ndjson([{"stream": "a", "type": "t", "data": 1}] * 3)
        ).stderr
    )
    assert stored(tmp_path) == 3


def test_tags_come_out_as_they_went_in(eventport: Command, tmp_path: Path) -> None:
    old = {"recorded_at": "2026-01-01T00:00:00Z", "metadata": {}, "version": 1}
    lines: list[Line] = [
        {"stream": "a", "type": "T", "data": 1, "tags": ["course:1", "é"]},
        {"stream": "b", "type": "T", "data": 1, "tags": ["x"], **old},
    ]
    (tmp_path / "in").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert eventport("import", "in").returncode == 0
    exported = eventport("export", "out")
    assert exported.returncode == 0, exported.stderr
    found = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [line["tags"] for line in found] == [["course:1", "é"], ["x"]]


def test_ids_are_kept_even_if_a_stream_has_one_twice(eventport: Command) -> None:
    lines = [{"stream": "a", "type": "t", "data": data, "id": ID} for data in (1, 2)]
    assert "2 events written" in eventport("import", "-", stdin=ndjson(lines)).stderr
    assert "0 events written" in eventport("import", "-", stdin=ndjson(lines)).stderr
    assert [json.loads(line)["id"] for line in eventport("export").stdout.splitlines()] == [ID, ID]
