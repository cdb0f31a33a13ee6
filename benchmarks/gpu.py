"""What a GPU gains: evaluations of the shallow-water equations, batched over members.

    python -m benchmarks.gpu [--markdown] [--members 64]

The same tendencies (nine transforms) on the GPU and on one core of the CPU, in one run:
time per member and evaluation, their ratio, and the largest difference between the two
results over the largest value. Says so and ends where there is no GPU.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.rows import parser_of, print_row
from simulators.shallow_water.constants import GRAVITY
from simulators.shallow_water.equations import ShallowWater
from simulators.sphere import SphericalHarmonics, gauss_grid_for

TRUNCATIONS = (42, 85, 170)
MIN_SECONDS = 0.5
CPU_MEMBERS = 16  # the CPU is fastest in chunks of so many


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds per member and evaluation, and the tendencies of the first members."""

    seconds: float
    tendency: Tensor


def main() -> None:
    """Prints a line or a table row per truncation and dtype."""
    parser = parser_of(str(__doc__))
    parser.add_argument("--members", type=int, default=64, help="on the GPU at once")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU: nothing is measured")
        return
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    show = partial(print_row, markdown=options.markdown)
    for truncation in TRUNCATIONS:
        for dtype in (torch.float32, torch.float64):
            cpu = measure(truncation, dtype, "cpu", CPU_MEMBERS)
            gpu = measure(truncation, dtype, "cuda", options.members)
            gap = (gpu.tendency - cpu.tendency).abs().amax((0, 2))
            error = float((gap / cpu.tendency.abs().amax((0, 2))).max())
            show(
                (
                    f"T{truncation} {str(dtype).removeprefix('torch.')}",
                    f"{gpu.seconds * 1e6:.1f} us per member, differs by {error:.1e}",
                    f"one core: {cpu.seconds * 1e6:.0f} us",
                    f"{cpu.seconds / gpu.seconds:.1f} x",
                )
            )


def measure(truncation: int, dtype: torch.dtype, device: str, members: int) -> Measured:
    """Times the tendencies of random smooth states on a device."""
    harmonics = SphericalHarmonics(
        gauss_grid_for(truncation), truncation, dtype=dtype, device=device
    )
    model = ShallowWater(harmonics)
    n = truncation + 1
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(members, 3, n, n, 2, generator=generator, dtype=torch.float64)
    degree = torch.arange(n, dtype=torch.float64)[:, None, None]
    draws *= torch.tensor([1e-5, 1e-6, 1e3], dtype=torch.float64)[:, None, None, None]
    draws /= (1 + degree) ** 2
    draws[:, 2, 0, 0, 0] += 1e4 * GRAVITY * 2**0.5
    coefficients = torch.view_as_complex(draws).tril()
    coefficients[..., 0] = coefficients[..., 0].real + 0j
    fields = coefficients.transpose(0, 1).to(device)
    rows = model.transform.pack(fields).to(dtype)
    seconds = seconds_per_call(lambda: model.explicit_tendency(rows), device)
    tendency = model.explicit_tendency(rows)[..., :CPU_MEMBERS].cpu()
    return Measured(seconds / members, tendency)


def seconds_per_call(call: Callable[[], Tensor], device: str) -> float:
    """Mean time of calls that follow each other for `MIN_SECONDS`."""
    for _ in range(3):
        call()
    _wait(device)
    n_calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < MIN_SECONDS:
        for _ in range(5):
            call()
        _wait(device)
        n_calls += 5
    return (time.perf_counter() - began) / n_calls


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
