"""The example that the README shows for a user's own program."""

import shutil
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).parents[3] / "README.md"


@pytest.mark.skipif(shutil.which("awk") is None, reason="no awk on PATH")
def test_the_example_of_the_readme_runs(capsys):
    section = README.read_text().split("## Your own simulator")[1]
    example = section.split("```python\n")[1].split("```")[0]
    names = {}
    exec(compile(example, str(README), "exec"), names)
    assert names["failures"] == {}
    assert list(names["results"]) == list(range(8))
    for member, result in names["results"].items():
        conductivity = names["members"][member]["conductivity"]
        exact = -np.cumsum(0.1 / conductivity)
        # awk prints six digits
        np.testing.assert_allclose(result["head"], exact, rtol=1e-5)
    assert capsys.readouterr().out.startswith("mean head at the end: -")
