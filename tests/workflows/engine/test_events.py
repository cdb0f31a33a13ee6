"""Events: a line per record, merged in time, whatever was torn."""

from workflows.engine.watching.events import close_event_logs, event_log, read_events


def test_writers_are_merged_in_the_order_of_time(tmp_path):
    first, second = event_log(tmp_path, "a"), event_log(tmp_path, "b")
    for number in range(6):
        (first if number % 2 else second)({"number": number})
    close_event_logs(tmp_path)
    assert [e["number"] for e in read_events(tmp_path)] == list(range(6))
    assert sorted(p.name for p in (tmp_path / "events").iterdir()) == [
        "a.jsonl",
        "b.jsonl",
    ]


def test_torn_line_is_dropped_and_the_rest_is_read(tmp_path):
    log = event_log(tmp_path, "a")
    log({"number": 1})
    log({"number": 2})
    close_event_logs(tmp_path)
    path = tmp_path / "events" / "a.jsonl"
    path.write_bytes(path.read_bytes()[:-3])
    assert [e["number"] for e in read_events(tmp_path)] == [1]


def test_run_without_events_has_none(tmp_path):
    assert read_events(tmp_path) == []
