"""Training curves: what they take from the events of a run."""

import matplotlib.pyplot as plt
import pytest

from workflows.engine.pages.curves import training_curves


def epoch(number, error, training="net", epochs=2):
    return {
        "event": "epoch",
        "training": training,
        "epoch": number,
        "epochs": epochs,
        "held_out": error,
        "trained": error / 2,
    }


@pytest.fixture
def draw():
    def _draw(events, *names):
        colours = dict.fromkeys(names, "black")
        figure = training_curves(
            events, colours, held_out="held_out", training="trained", quantity="error"
        )
        return figure.axes[0].lines

    yield _draw
    plt.close("all")


def test_held_out_and_training_errors_are_drawn_by_name(draw):
    events = [{"event": "start"}, epoch(1, 0.5), epoch(1, 9.0, "other"), epoch(2, 0.4)]
    held_out, training = draw(events, "net")
    assert held_out.get_label() == "net"
    assert list(held_out.get_xdata()) == [0.5, 1.0]
    assert list(held_out.get_ydata()) == [0.5, 0.4]
    assert list(training.get_ydata()) == [0.25, 0.2]


def test_an_epoch_that_was_logged_twice_counts_once(draw):
    events = [epoch(1, 0.5), epoch(1, 0.6), epoch(2, 0.4)]
    held_out, _ = draw(events, "net")
    assert list(held_out.get_ydata()) == [0.6, 0.4]


def test_a_new_stage_goes_on_and_is_marked(draw):
    events = [epoch(1, 0.5), epoch(2, 0.4), epoch(1, 0.3, epochs=1)]
    held_out, _, mark = draw(events, "net")
    assert list(held_out.get_ydata()) == [0.5, 0.4, 0.3]
    assert list(held_out.get_xdata()) == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert mark.get_xdata()[0] == pytest.approx(1.0)
    assert mark.get_ydata()[0] == 0.3


def test_a_training_of_one_epoch_is_seen(draw):
    held_out, _ = draw([epoch(1, 0.5, epochs=1)], "net")
    assert held_out.get_marker() == "."
    assert draw([epoch(1, 0.5), epoch(2, 0.4)], "net")[0].get_marker() == "None"
