"""Generators of the random inputs: latent variables in, fields on the mesh out."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from simulators.random_fields import KarhunenLoeve

MESH_LATENT = 64
NEAR_ZERO = 1e-3
N_SCALED = 256  # members by which a mesh generator is scaled at first
MESH_WIDTHS = (256, 512)


class KarhunenLoeveGenerator(nn.Module):
    """Fields m + Φ √λ c with coordinates c = s ⊙ z + W z + b + MLP(z), z ~ N(0, I).

    The latent is as large as the truncations together: a smaller one keeps the marginal
    deviations but loses the rank of the covariance. At first s = 1, W = b = 0 and the
    MLP is small: the fields are those of the expansions.

    Args:
        expansions: by name of the field; independent of each other at the start.
        width: of the two hidden layers.
        seed: of the initial weights.
    """

    def __init__(
        self, expansions: Mapping[str, KarhunenLoeve], width: int, seed: int = 0
    ) -> None:
        super().__init__()
        self.expansions, self.width = dict(expansions), width
        self.sizes = {name: len(e.eigenvalues) for name, e in expansions.items()}
        self.n_latent = sum(self.sizes.values())
        for name, expansion in expansions.items():
            basis = expansion.modes * expansion.eigenvalues.sqrt()
            self.register_buffer(f"basis_{name}", basis.float().mT, persistent=False)
            self.register_buffer(
                f"mean_{name}", expansion.mean.float(), persistent=False
            )
        self.scale = nn.Parameter(torch.ones(self.n_latent))
        self.linear = nn.Linear(self.n_latent, self.n_latent)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        widths = (self.n_latent, width, width, self.n_latent)
        self.curved = perceptron(widths, torch.Generator().manual_seed(seed))

    def block(self, name: str) -> slice:
        """Which of the coordinates belong to a field."""
        names = list(self.sizes)
        start = sum(self.sizes[before] for before in names[: names.index(name)])
        return slice(start, start + self.sizes[name])

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        """Fields (members, cells), float32, of latent variables (members, n_latent)."""
        coordinates = self.scale * z + self.linear(z) + self.curved(z)
        parts = coordinates.split(list(self.sizes.values()), dim=-1)
        return {
            name: getattr(self, f"mean_{name}") + part @ getattr(self, f"basis_{name}")
            for name, part in zip(self.sizes, parts, strict=True)
        }


class MeshGenerator(nn.Module):
    """Fields m + d MLP(z) straight on the cells: no covariance is assumed.

    Args:
        means: by name of the field, the mean (cells,) to start from.
        deviations: by name of the field, the standard deviation d to start from.
        seed: of the initial weights.
    """

    def __init__(
        self,
        means: Mapping[str, Tensor],
        deviations: Mapping[str, float],
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.means, self.deviations = dict(means), dict(deviations)
        self.n_latent = MESH_LATENT
        sizes = [len(mean) for mean in means.values()]
        for name, mean in means.items():
            self.register_buffer(f"mean_{name}", mean.float(), persistent=False)
        generator = torch.Generator().manual_seed(seed)
        widths = (MESH_LATENT, *MESH_WIDTHS, sum(sizes))
        self.network = perceptron(widths, generator, 1.0)
        with torch.no_grad():  # no mean and unit variance at the start
            out = self.network(torch.randn(N_SCALED, MESH_LATENT, generator=generator))
            deviation = (out - out.mean(0)).std()
            last = cast("nn.Linear", self.network[-1])
            last.weight /= deviation
            last.bias.copy_(-out.mean(0) / deviation)

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        """Fields (members, cells), float32, of latent variables (members, n_latent)."""
        parts = self.network(z).split([len(m) for m in self.means.values()], dim=-1)
        return {
            name: getattr(self, f"mean_{name}") + self.deviations[name] * part
            for name, part in zip(self.means, parts, strict=True)
        }


def perceptron(
    widths: Sequence[int], generator: torch.Generator, last_deviation: float = NEAR_ZERO
) -> nn.Sequential:
    """Linear layers with SiLU between them; deviation of the last one's weights.

    All weights are of the generator: torch's own is shared by the threads of a process.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        last = nn.Linear(n_in, n_out)
        bound = n_in**-0.5  # as torch draws them
        nn.init.uniform_(last.weight, -bound, bound, generator=generator)
        nn.init.uniform_(last.bias, -bound, bound, generator=generator)
        layers += [last, nn.SiLU()]
    nn.init.normal_(last.weight, std=last_deviation, generator=generator)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers[:-1])
