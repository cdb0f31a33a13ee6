"""Networks of an ensemble learn by themselves, and disagree where nothing was seen."""

import pytest
import torch

from surrogates.acquisition import disagreement
from surrogates.deep_ensemble import DeepEnsemble
from surrogates.training import DivergenceError


def data(n, low, high):
    x = torch.linspace(low, high, n)[:, None]
    return x, torch.cat([torch.sin(3 * x), 100 + 20 * x], 1)


@pytest.fixture(scope="module")
def fitted():
    model = DeepEnsemble(4, 1, 2)
    model.fit(*data(40, -1, 1), n_steps=800)
    return model


def test_every_network_fits_in_the_units_of_the_outputs(fitted):
    x, y = data(33, -1, 1)
    with torch.no_grad():
        gap = (fitted(x) - y).square().mean(1).sqrt()  # (networks, outputs)
    assert (gap < 0.05 * y.std(0)).all()


def test_networks_disagree_where_there_are_no_data(fitted):
    seen, unseen = data(50, -1, 1)[0], data(50, 2, 3)[0]
    with torch.no_grad():
        near, far = (disagreement(fitted(x), fitted.scale) for x in (seen, unseen))
    assert far.min() > 5 * near.mean()


def test_a_network_learns_the_same_whatever_the_others_are():
    x, y = data(20, -1, 1)
    outputs = []
    for other in (0.0, 1.0):
        model = DeepEnsemble(2, 1, 2)
        with torch.no_grad():
            for weight in model.weights:
                weight[1] += other
        model.fit(x, y, n_steps=30)
        outputs.append(model(x)[0].detach())
    torch.testing.assert_close(*outputs)


def test_a_constant_output_is_refused():
    x = torch.linspace(0, 1, 5)[:, None]
    with pytest.raises(ValueError, match=r"got constant outputs \[1\]"):
        DeepEnsemble(2, 1, 2).fit(x, torch.cat([x, torch.ones_like(x)], 1), n_steps=1)


def test_a_huge_learning_rate_ends_in_a_divergence_error():
    with pytest.raises(
        DivergenceError, match=r"Lower the learning rate \(now 1e\+30\)"
    ):
        DeepEnsemble(2, 1, 2).fit(*data(20, -1, 1), n_steps=9, learning_rate=1e30)
