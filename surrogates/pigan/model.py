"""The generator of a physics-informed GAN: latent variables to all fields at once."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from simulators.random_fields import KarhunenLoeve
from simulators.subsurface import FlowMesh, Forcing
from surrogates.pigan.generators import KarhunenLoeveGenerator, MeshGenerator
from surrogates.pigan.heads import HEAD, HeadBasis, NetworkHead, SolverHead

FORMAT = 1  # of `pigan_state`; raised when its content changes
SAMPLE_BATCH = 250


class Pigan(nn.Module):
    """Random inputs by a generator, their head by the flow equations or a network.

    Args:
        inputs: generator of ln T and, where it is random, of the source.
        flow: solves for the head; with a network, tells how consistent its heads are.
        network: stands in for the solver, if given.
    """

    def __init__(
        self,
        inputs: KarhunenLoeveGenerator | MeshGenerator,
        flow: SolverHead,
        network: NetworkHead | None = None,
    ) -> None:
        super().__init__()
        self.inputs, self.flow, self.network = inputs, flow, network

    @property
    def n_latent(self) -> int:
        """Number of latent variables."""
        return self.inputs.n_latent

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        """Fields (members, cells) of latent variables (members, n_latent)."""
        generated: dict[str, Tensor] = self.inputs(z)
        head = self.flow if self.network is None else self.network
        return {**generated, HEAD: head(generated)}

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Fields (n, cells), float32, of n members drawn with a CPU generator."""
        z = torch.randn(n, self.n_latent, generator=generator)
        parts = [self(batch) for batch in torch.split(z, SAMPLE_BATCH)]
        return {
            name: torch.cat([part[name].float() for part in parts]) for name in parts[0]
        }


def pigan_state(model: Pigan) -> dict[str, Any]:
    """All that is needed to use the generator again, as tensors and plain values."""
    flow, network = model.flow, model.network
    return {
        "format": FORMAT,
        "mesh": _values(flow.mesh),
        "forcing": _values(flow.forcing),
        "inputs": _inputs_state(model.inputs),
        "network": network
        and {"basis": _values(network.constants), "width": network.width},
        "parameters": model.state_dict(),
        "units": {"log_transmissivity": "ln(m2/d)", "source": "m3/d", HEAD: "m"},
    }


def pigan_from_state(state: Mapping[str, Any]) -> Pigan:
    """The generator that `pigan_state` described.

    Raises:
        ValueError: the description has another format.
    """
    if state.get("format") != FORMAT:
        raise ValueError(
            f"a generator's description must have format {FORMAT}; got "
            f"{state.get('format')}. Train it again with this version."
        )
    network = state["network"]
    model = Pigan(
        _inputs_from_state(state["inputs"]),
        SolverHead(FlowMesh(**state["mesh"]), Forcing(**state["forcing"])),
        network and NetworkHead(HeadBasis(**network["basis"]), network["width"]),
    )
    model.load_state_dict(state["parameters"])
    return model


def _inputs_state(inputs: KarhunenLoeveGenerator | MeshGenerator) -> dict[str, Any]:
    if isinstance(inputs, MeshGenerator):
        return {"means": dict(inputs.means), "deviations": dict(inputs.deviations)}
    expansions = {name: _values(e) for name, e in inputs.expansions.items()}
    return {"expansions": expansions, "width": inputs.width}


def _inputs_from_state(
    state: Mapping[str, Any],
) -> KarhunenLoeveGenerator | MeshGenerator:
    if "means" in state:
        return MeshGenerator(state["means"], state["deviations"])
    expansions = {n: KarhunenLoeve(**e) for n, e in state["expansions"].items()}
    return KarhunenLoeveGenerator(expansions, state["width"])


def _values(record: Any) -> dict[str, Any]:  # noqa: ANN401  # any frozen dataclass
    """The fields of a dataclass, tensors as they are (`asdict` would copy them)."""
    return {field.name: getattr(record, field.name) for field in fields(record)}
