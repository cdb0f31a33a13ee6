import fcntl
import pickle

import pytest
import torch

from data.processes import start
from surrogates.distributed.checkpoint import (
    load_checkpoint,
    save_checkpoint,
    sole_writer,
)


class Harmful:
    def __reduce__(self):
        return print, ("code from a checkpoint ran",)


def test_tensors_and_plain_values_come_back(tmp_path):
    state = {"weights": {"a": torch.arange(5.0)}, "epoch": 3, "units": {"head": "m"}}
    save_checkpoint(tmp_path / "c.pt", state)
    loaded = load_checkpoint(tmp_path / "c.pt")
    assert torch.equal(loaded["weights"]["a"], state["weights"]["a"])
    assert loaded["epoch"] == 3
    assert loaded["units"] == {"head": "m"}


def test_equal_states_are_equal_bytes(tmp_path):
    for name in ("a.pt", "b.pt"):
        save_checkpoint(tmp_path / name, {"x": torch.ones(3), "n": 1})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_code_in_a_checkpoint_is_refused(tmp_path, capsys):
    torch.save({"x": Harmful()}, tmp_path / "harmful.pt")
    with pytest.raises(ValueError, match="UnpicklingError"):
        load_checkpoint(tmp_path / "harmful.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Harmful(), protocol=2))
    with pytest.raises(ValueError, match="tensors and plain values"):
        load_checkpoint(tmp_path / "plain.pt")
    assert "ran" not in capsys.readouterr().out


def test_a_flipped_bit_is_found(tmp_path):
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"x": torch.arange(1000.0)})
    content = bytearray(path.read_bytes())
    where = content.index(torch.tensor([500.0, 501.0]).numpy().tobytes())
    content[where] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="must be a complete file"):
        load_checkpoint(path)


def test_a_truncated_checkpoint_names_the_file(tmp_path):
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"x": torch.ones(100)})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"c\.pt"):
        load_checkpoint(path)


def test_a_checkpoint_is_held_until_the_last_rank_of_its_attempt_has_ended(tmp_path):
    with sole_writer(tmp_path / "c.pt") as lock:
        log = tmp_path / "ranks.log"
        ranks = start(["sleep", "1000"], log, n=2, pass_fds=(lock,))
    with (tmp_path / "c.pt.lock").open() as younger:
        for rank in ranks:
            with rank, pytest.raises(BlockingIOError):
                fcntl.flock(younger, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(younger, fcntl.LOCK_EX | fcntl.LOCK_NB)
