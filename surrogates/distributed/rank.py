"""The child's side of the launcher: `python -m surrogates.distributed.rank FOLDER`."""

import json
import os
import sys
import threading
import traceback
from pathlib import Path
from pkgutil import resolve_name

import torch

from data.durable_files import write_durably
from data.failures import is_permanent


def end_with_parent() -> None:
    """Ends this process when its parent's end of standard input closes."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run(folder: Path) -> int:
    """Makes the call that `call.json` describes; writes the result or the cause."""
    call = json.loads((folder / "call.json").read_text())
    torch.set_num_threads(call["n_threads"])
    try:
        result = json.dumps(resolve_name(call["function"])(**call["arguments"]))
    except Exception as error:
        traceback.print_exc()
        told = {
            "cause": f"{type(error).__name__}: {error}",
            "is_permanent": is_permanent(error),
            "traceback": traceback.format_exc(),
        }
        write_durably(folder / "error.json", [json.dumps(told).encode()])
        return 1
    write_durably(folder / "result.json", [result.encode()])
    return 0


if __name__ == "__main__":
    end_with_parent()
    code = run(Path(sys.argv[1]))
    sys.stdout.flush()
    # not sys.exit: shutdown would wait for the read in which the watching thread sits
    os._exit(code)
