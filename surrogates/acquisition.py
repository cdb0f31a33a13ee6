"""Which members to simulate next: where networks disagree, or an error is indicated.

Members are drawn without replacement with probability proportional to a power of their
score. Drawing, unlike taking the highest scores, keeps a batch from consisting of near
copies of one bad point. Source: Kirsch et al. 2021, arXiv:2106.12059 (power sampling).
"""

import torch
from torch import Tensor


def disagreement(predictions: Tensor, scale: Tensor) -> Tensor:
    """Scatter of an ensemble (candidates,): rms over outputs of deviation over scale.

    Args:
        predictions: (networks, candidates, outputs).
        scale: of each output (outputs,), such as its deviation over the members.
    """
    return (predictions.std(0) / scale).square().mean(-1).sqrt()


def draw_by_score(
    scores: Tensor, n: int, exponent: float, generator: torch.Generator
) -> Tensor:
    """Indices (n,) of candidates, drawn in proportion to a power of their scores.

    Args:
        scores: (candidates,), not negative; 0 is drawn only when nothing else is left.
        n: how many, without repeats.
        exponent: 0 draws evenly, a large one takes the highest scores.
        generator: of the draw.

    Raises:
        ValueError: fewer candidates than are asked for, or a score that is no number.
    """
    if n > len(scores):
        raise ValueError(f"n must be at most the {len(scores)} candidates; got {n}.")
    if not torch.isfinite(scores).all() or (scores < 0).any():
        raise ValueError(
            "scores must be finite and not negative; got "
            f"{float(scores.min())} to {float(scores.max())}."
        )
    uniform = torch.rand(len(scores), generator=generator, dtype=torch.float64)
    gumbel = -torch.log(-torch.log(uniform))
    tiny = torch.finfo(torch.float64).tiny
    return (exponent * scores.double().clamp(min=tiny).log() + gumbel).topk(n).indices
