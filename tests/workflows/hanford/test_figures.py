"""Figures: what they select from the events of a run."""

import matplotlib.pyplot as plt

from workflows.hanford.figures import training_curves


def test_training_curves_leave_other_trainings_out():
    epoch = {"event": "epoch", "epochs": 2, "training_rmse_m": 0.3}
    small = {**epoch, "members": 8, "training": "network on 8 members"}
    large = {**epoch, "members": 16, "training": "network on 16 members"}
    events = [
        {"event": "start", "task": "train_network"},
        {**large, "epoch": 1, "held_out_rmse_m": 0.2},
        {**small, "epoch": 1, "held_out_rmse_m": 0.5},
        {"event": "epoch", "training": "sampler", "members": 9, "epoch": 7},
        {**small, "epoch": 2, "held_out_rmse_m": 0.4},
    ]
    figure = training_curves(events)
    held_out, training, other, _ = figure.axes[0].lines
    plt.close(figure)
    assert held_out.get_label() == "network on 8 members"
    assert list(held_out.get_ydata()) == [0.5, 0.4]
    assert list(training.get_ydata()) == [0.3, 0.3]
    assert other.get_label() == "network on 16 members"
