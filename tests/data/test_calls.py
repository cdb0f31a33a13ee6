"""Results and errors of functions come back from another process as they were."""

import pytest

from data.calls import LostProcessError, TimeLimitError, call
from data.failures import is_permanent

FUNCTIONS = """
import os
import time


class OddError(Exception):
    def __init__(self, value, depth):
        super().__init__(f"{value} at {depth} m is odd")


class LostTierError(OSError):
    def __init__(self, tier, *, node):
        super().__init__(f"{tier} of {node} must answer")


def double(*, values):
    return {name: 2 * value for name, value in values.items()}


def refuse():
    raise ValueError("value must be even; got 3.")


def annotate():
    error = KeyError("depth")
    error.add_note("of well 7")
    raise error


def open_nothing():
    open("/nowhere/grid.nc")


def refuse_in_own_words():
    raise OddError(3, 0.5)


def lose_tier():
    raise LostTierError("nvme", node="n1")


def call_another():
    error = LookupError("of the inner call")
    error.remote_traceback, error.is_deterministic = "in inner()", False
    raise error


def return_no_json():
    return {"value": object()}


def end():
    print("step 12", flush=True)
    os._exit(3)


def hang():
    print("step 12", flush=True)
    time.sleep(1000)
"""


@pytest.fixture
def answer(tmp_path, monkeypatch):
    """`answer(function)`: what a function of `FUNCTIONS` gives from another process."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "called_functions.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    (tmp_path / "call").mkdir()

    def answered(name, arguments=(), **options):
        function = f"called_functions:{name}"
        return call(function, arguments, tmp_path / "call", name=name, **options)

    return answered


def test_results_are_those_of_the_function(answer):
    values = {"Tiefe in ü": 0.1, "b": 1e300}
    assert answer("double", {"values": values}) == {"Tiefe in ü": 0.2, "b": 2e300}


@pytest.mark.parametrize(
    ("function", "kind", "text", "is_final"),
    [
        ("refuse", ValueError, "value must be even; got 3.", True),
        ("annotate", KeyError, "'depth'", True),
        (
            "open_nothing",
            FileNotFoundError,
            "[Errno 2] No such file or directory: '/nowhere/grid.nc'",
            True,
        ),
        # classes that are not built from what they keep
        ("refuse_in_own_words", RuntimeError, "OddError: 3 at 0.5 m is odd", True),
        ("lose_tier", RuntimeError, "LostTierError: nvme of n1 must answer", False),
        (
            "return_no_json",
            TypeError,
            "Object of type object is not JSON serializable",
            True,
        ),
    ],
)
def test_errors_keep_class_words_judgement_and_traceback(
    answer, function, kind, text, is_final
):
    with pytest.raises(kind) as caught:
        answer(function)
    error = caught.value
    assert (type(error), str(error)) == (kind, text)
    assert is_permanent(error) == is_final
    assert "Traceback" in error.remote_traceback
    assert getattr(error, "__notes__", []) == ["of well 7"] * (function == "annotate")


def test_the_innermost_of_calls_within_calls_is_told(answer):
    with pytest.raises(LookupError) as caught:
        answer("call_another")
    assert caught.value.remote_traceback == "in inner()"
    assert not is_permanent(caught.value)


def test_lost_processes_are_told_with_their_output_and_may_be_tried_again(answer):
    with pytest.raises(
        LostProcessError, match=r"exited with 3\.\n.*\n    step 12$"
    ) as it:
        answer("end")
    assert not is_permanent(it.value)


def test_a_time_limit_kills_and_shows_the_output(answer):
    message = r"hang must end within 1.5 s; it was killed(?s:.)*\n    step 12$"
    with pytest.raises(TimeLimitError, match=message) as caught:
        answer("hang", time_limit_s=1.5)
    assert is_permanent(caught.value)
