import pytest

from data.sources.measurements import parse_measurements

GOOD = "cell,log_transmissivity\n0,7.5\n 12 , 8.25\n\n3,-0.5\n99,6\n"


def test_a_table_is_read_in_its_order():
    measurements = parse_measurements(GOOD, 100)
    assert measurements.cells.tolist() == [0, 12, 3, 99]
    assert measurements.log_transmissivity.tolist() == [7.5, 8.25, -0.5, 6.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must begin with the line cell,log_transmissivity; got nothing"),
        ("id,lnT\n1,2\n", "got id,lnT"),
        (GOOD.replace("99", "100"), r"0 to 99; line 6 has 100\. Ids are 0-based"),
        (GOOD.replace("12", "-1"), "line 3 has -1"),
        (GOOD.replace("3,-0.5", "12,1"), "line 5 has cell 12 again"),
        (GOOD.replace("8.25", "nan"), "must be finite; line 3 has nan"),
        (GOOD.replace("8.25", "high"), "line 3 is  12 , high"),
        (GOOD.replace("7.5", "7.5,1"), "line 2 is 0,7.5,1"),
        ("cell,log_transmissivity\n1,2\n", "at least 4 measurements.*got 1"),
    ],
)
def test_a_bad_table_is_refused_by_its_line(text, message):
    with pytest.raises(ValueError, match=message):
        parse_measurements(text, 100)


def test_a_byte_order_mark_before_the_header_is_no_part_of_it():
    text = "cell,log_transmissivity\n0,7.1\n1,7.2\n2,7.4\n3,7.0\n"
    marked = text.encode("utf-8-sig").decode("utf-8")
    assert marked != text
    found = parse_measurements(marked, 10).log_transmissivity
    assert found.tolist() == [7.1, 7.2, 7.4, 7.0]
