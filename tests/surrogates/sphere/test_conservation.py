import pytest
import torch

from simulators.sphere import equiangular_grid, gauss_grid
from surrogates.sphere import area_weighted_squared_error, conserve

GRIDS = [gauss_grid(16, 32), equiangular_grid(12, 20)]
SCALE = torch.tensor([1e-5, 1e-6, 1e4])[:, None, None]
OFFSET = torch.tensor([3e-6, -2e-7, 8e4])[:, None, None]


def states(grid, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(4, 3, *grid.shape, generator=generator, dtype=dtype)
    return SCALE.to(dtype) * noise + OFFSET.to(dtype)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_conserved_means_are_exact_to_rounding(grid, dtype):
    state, prediction = states(grid, dtype), states(grid, dtype, seed=1)
    means = grid.area_mean(conserve(prediction, state, grid))
    # no sum loses digits: what is left is the rounding of single values
    tolerance = torch.finfo(dtype).eps * torch.tensor([1e-5, 1e-6, 1e5]).double()
    expected = grid.area_mean(state) * torch.tensor([0, 0, 1])
    assert ((means - expected).abs() <= tolerance).all()
    assert ((grid.area_mean(prediction) - expected).abs() > 1e3 * tolerance).all()


def test_conservation_moves_fields_uniformly_and_once():
    grid = GRIDS[0]
    state = states(grid, torch.float64)
    prediction = states(grid, torch.float64, seed=1)
    once = conserve(prediction, state, grid)
    change = (once - prediction) / SCALE
    assert (change - change[..., :1, :1]).abs().max() < 1e-10
    torch.testing.assert_close(
        conserve(once, state, grid) / SCALE, once / SCALE, rtol=0, atol=1e-13
    )


def test_conservation_passes_gradients():
    grid = gauss_grid(4, 6)
    state = states(grid, torch.float64)[:1] / SCALE
    prediction = (states(grid, torch.float64, 1)[:1] / SCALE).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: conserve(x, state, grid), prediction)


def test_conservation_refuses_other_shapes():
    grid = GRIDS[0]
    state = states(grid, torch.float32)
    with pytest.raises(ValueError, match=r"must both be .* 3, 16, 32\)"):
        conserve(state[:, :2], state[:, :2], grid)
    with pytest.raises(ValueError, match="must both be"):
        conserve(state[:1], state, grid)


def test_loss_weights_by_area():
    grid = GRIDS[0]
    target = torch.zeros(2, 3, *grid.shape)
    # the area mean of sin² of the latitude is 1/3
    prediction = target + grid.latitude.sin()[:, None].float()
    loss = area_weighted_squared_error(prediction, target, grid)
    assert loss.dtype == torch.float64
    assert abs(float(loss) - 1 / 3) < 1e-7


def test_loss_refuses_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match="one shape"):
        area_weighted_squared_error(
            torch.zeros(2, 3, 16, 32), torch.zeros(2, 1, 16, 32), GRIDS[0]
        )
