"""The promises of staging, each on real files, with real processes and kills."""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import pytest

from data.durable_files import StagingError, sweep_partial_files
from data.staging import Handle, Staging, Tier, bytes_by_edge

ROOT = Path(__file__).parents[3]
SIZE = 1000


def content(k):
    return bytes([k]) * SIZE


def tiers(folder, memory=2500, nvme=5000):
    return [
        Tier("memory", str(folder / "memory"), memory, True, "node"),
        Tier("nvme", str(folder / "nvme"), nvme, True, "node"),
        Tier("file_system", str(folder / "file_system"), None, False, "site"),
    ]


@pytest.fixture
def events():
    return []


@pytest.fixture
def staging(tmp_path, events):
    with Staging(tiers(tmp_path), {}, events.append) as opened:
        yield opened


def put_last(folder, k):
    """An object that only the last tier has."""
    path = folder / "file_system" / f"object/{k}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content(k))
    return Handle(f"object/{k}", SIZE, google_crc32c.value(content(k)))


def read(staging, handle):
    descriptor = staging.open(handle)
    try:
        return os.pread(descriptor, 2 * handle.n_bytes, 0)
    finally:
        os.close(descriptor)


def files(folder, tier):
    paths = (folder / tier).rglob("*")
    return sorted(p.name for p in paths if p.is_file() and p.name != ".lock")


def used(folder, tier):
    """Bytes in a tier, counted under its lock: a move would count twice or vanish."""
    with (folder / tier / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return sum(p.stat().st_size for p in (folder / tier).rglob("*") if p.is_file())


def test_an_object_goes_to_the_fastest_tier_with_room(tmp_path, staging, events):
    handles = [staging.put(f"a/{k}", [content(k)]) for k in range(4)]
    assert files(tmp_path, "memory") == ["0", "1"]
    assert files(tmp_path, "nvme") == ["2", "3"]
    assert [read(staging, handle) for handle in handles] == [*map(content, range(4))]
    assert bytes_by_edge(events) == {
        ("task", "memory"): 2 * SIZE,
        ("task", "nvme"): 2 * SIZE,
    }
    assert all(event["seconds"] > 0 for event in events)


def test_parts_make_one_object(staging):
    handle = staging.put("a", [b"ab", b"", b"c"])
    assert handle == Handle("a", 3, google_crc32c.value(b"abc"))
    assert read(staging, handle) == b"abc"


def test_a_promoted_object_is_read_from_the_fastest_tier(tmp_path, staging, events):
    handle = put_last(tmp_path, 1)
    assert staging.promote(handle) == "memory"
    assert staging.promote(handle) == "memory"  # is there: not copied again
    assert bytes_by_edge(events) == {("file_system", "memory"): SIZE}
    (tmp_path / "file_system" / handle.key).unlink()
    assert read(staging, handle) == content(1)


def test_what_is_used_least_makes_room(tmp_path, staging, events):
    handles = [put_last(tmp_path, k) for k in range(3)]
    for handle in handles[:2]:
        staging.promote(handle)
    for k, handle in enumerate(handles[:2]):  # times of use a second apart
        path = tmp_path / "memory" / handle.key
        os.utime(path, (k, k))
    read(staging, handles[0])
    assert staging.promote(handles[2]) == "memory"
    assert files(tmp_path, "memory") == ["0", "2"]


def test_the_only_copy_is_never_evicted(tmp_path, staging):
    mine = [staging.put(f"a/{k}", [content(k)]) for k in range(2)]
    other = put_last(tmp_path, 7)
    assert staging.promote(other) == "file_system"
    staging.evict()
    assert files(tmp_path, "memory") == ["0", "1"]
    staging.stage_out(mine[0]).result()
    assert staging.promote(other) == "memory"
    assert files(tmp_path, "memory") == ["1", "7"]
    assert read(staging, mine[0]) == content(0)


def test_a_lower_copy_counts_only_with_the_same_bytes(tmp_path, staging):
    handle = staging.put("a", [content(1)])
    staging.stage_out(handle).result()
    copy = tmp_path / "file_system" / "a"
    copy.write_bytes(content(2))
    staging.evict()
    assert read(staging, handle) == content(1)
    assert files(tmp_path, "memory") == ["a"]
    copy.write_bytes(content(1))
    staging.evict()
    assert files(tmp_path, "memory") == []


def test_a_full_last_tier_refuses_by_name(tmp_path):
    small = Tier("file_system", str(tmp_path / "last"), 1500, False, "site")
    with Staging([small], {}, lambda event: None) as staging:
        staging.put("a", [content(1)])
        with pytest.raises(StagingError, match=r"must have room for b of 1000 bytes"):
            staging.put("b", [content(2)])


def test_a_quota_below_one_object_is_refused_at_once(tmp_path):
    with Staging(tiers(tmp_path, memory=999), {}, lambda event: None) as staging:
        message = r"tier memory must hold .* a of 1000 bytes; its quota is 999 bytes"
        with pytest.raises(StagingError, match=message):
            staging.put("a", [content(1)])
        handle = put_last(tmp_path, 1)
        with pytest.raises(StagingError, match="its quota is 999 bytes"):
            staging.promote(handle)


FULL_DEVICE = """
import subprocess, sys
from pathlib import Path
from data.staging import Staging, Tier

memory, last = Path(sys.argv[1]), sys.argv[2]
mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(memory)]
if subprocess.run(mount).returncode:
    sys.exit("cannot mount")
tiers = [Tier("memory", str(memory), 10**6, True, "node")]
tiers += [Tier("file_system", last, None, False, "site")]
with Staging(tiers, {}, lambda event: None) as staging:
    handle = staging.put("a", [bytes(10**5)])
    print(staging.verify(handle), [p.name for p in memory.iterdir()])
"""


def test_a_full_device_has_no_room_either(tmp_path):
    (tmp_path / "memory").mkdir()
    command = ["unshare", "--mount", sys.executable, "-c", FULL_DEVICE]
    command += [str(tmp_path / "memory"), str(tmp_path / "last")]
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, for a mount of its own")
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    if "cannot mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("a small device can be mounted by root only")
    assert done.stdout == "['file_system'] ['.lock']\n", done.stderr


def test_the_quota_counts_files_found_at_start(tmp_path, staging):
    found = tmp_path / "memory" / "left/behind"
    found.parent.mkdir()
    found.write_bytes(bytes(2000))
    staging.put("a", [content(1)])
    assert files(tmp_path, "memory") == ["behind"]
    assert files(tmp_path, "nvme") == ["a"]


WRITER = """
import sys
from pathlib import Path
from data.staging.tier_folder import TierFolder

def chunks():
    yield bytes(10)
    print("reserved", flush=True)
    input()
    yield bytes(990)

folder = TierFolder("memory", Path(sys.argv[1]), 2500, True)
print(folder.write("theirs", 1000, chunks(), lambda key: False), flush=True)
"""


def start_writer(folder):
    """A process that has reserved 1000 bytes and written 10 of them."""
    command = [sys.executable, "-c", WRITER, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    writer = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
    assert writer.stdout.readline() == "reserved\n"
    return writer


def test_the_quota_counts_what_another_process_is_writing(tmp_path, staging):
    writer = start_writer(tmp_path / "memory")
    staging.put("a", [content(1)])
    staging.put("b", [content(2)])
    assert files(tmp_path, "nvme") == ["b"]
    assert not (tmp_path / "memory" / "theirs").exists()  # no reader sees a part
    assert writer.communicate("\n", timeout=60)[0] == "True\n"
    assert files(tmp_path, "memory") == ["a", "theirs"]


def test_a_killed_writer_leaves_no_lock_and_no_reservation(tmp_path, staging):
    writer = start_writer(tmp_path / "memory")
    writer.kill()
    writer.communicate(timeout=60)
    staging.put("a", [content(1)])
    staging.put("b", [content(2)])
    assert files(tmp_path, "memory") == ["a", "b"]


def test_many_threads_never_exceed_a_quota(tmp_path, staging):
    handles = [put_last(tmp_path, k) for k in range(40)]
    sizes = []

    def use(handle):
        staging.promote(handle)
        sizes.append(used(tmp_path, "memory"))
        return read(staging, handle)

    with ThreadPoolExecutor(8) as threads:
        found = [*threads.map(use, handles)]
    assert found == [content(k) for k in range(40)]
    assert max(sizes) <= 2500


def test_what_is_open_is_pinned(tmp_path, staging):
    handles = [put_last(tmp_path, k) for k in range(3)]
    for handle in handles[:2]:
        staging.promote(handle)
    descriptors = [staging.open(handle) for handle in handles[:2]]
    assert staging.promote(handles[2]) == "file_system"
    assert files(tmp_path, "memory") == ["0", "1"]
    for descriptor in descriptors:
        os.close(descriptor)
    assert staging.promote(handles[2]) == "memory"


def test_a_pin_dies_with_its_process(tmp_path, staging):
    handles = [put_last(tmp_path, k) for k in range(3)]
    for handle in handles[:2]:
        staging.promote(handle)
    hold = (
        "import sys; from pathlib import Path\n"
        "from data.staging.tier_folder import TierFolder\n"
        "folder = TierFolder('memory', Path(sys.argv[1]), 2500, True)\n"
        "held = [folder.open(f'object/{k}') for k in range(2)]\n"
        "print(len(held), flush=True); input()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path / "memory")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as holder:
        assert holder.stdout.readline() == "2\n"
        assert staging.promote(handles[2]) == "file_system"
        holder.kill()
    assert staging.promote(handles[2]) == "memory"


@pytest.mark.parametrize("damage", ["flipped bit", "truncated"])
def test_a_corrupt_replica_is_fetched_again_from_below(
    tmp_path, staging, events, damage
):
    handle = put_last(tmp_path, 1)
    staging.promote(handle)
    replica = tmp_path / "memory" / handle.key
    broken = bytearray(content(1))
    broken[500] ^= 1
    replica.write_bytes(broken if damage == "flipped bit" else broken[:500])
    assert read(staging, handle) == content(1)
    assert replica.read_bytes() == content(1)
    assert [event["event"] for event in events] == ["moved", "corrupt replica", "moved"]


def test_a_corrupt_only_copy_is_an_error_and_stays(tmp_path, staging):
    handle = staging.put("a", [content(1)])
    path = tmp_path / "memory" / "a"
    path.write_bytes(content(2))
    for attempt in (staging.open, staging.promote, staging.verify):
        with pytest.raises(StagingError, match=r"memory/a \(corrupt\).*\(missing\)"):
            attempt(handle)
    assert path.read_bytes() == content(2)


def test_verify_names_the_tiers_with_a_valid_replica(tmp_path, staging):
    handle = put_last(tmp_path, 1)
    staging.promote(handle)
    assert staging.verify(handle) == ["memory", "file_system"]
    (tmp_path / "memory" / handle.key).write_bytes(content(2))
    assert staging.verify(handle) == ["file_system"]
    assert files(tmp_path, "memory") == []


def test_prefetch_promotes_in_the_background(tmp_path, staging, events):
    handles = [put_last(tmp_path, k) for k in range(2)]
    staging.prefetch(handles).result()
    assert files(tmp_path, "memory") == ["0", "1"]
    lost = Handle("object/9", SIZE, 0)
    with pytest.raises(StagingError, match="object/9 must have a replica"):
        staging.prefetch([lost]).result()


def test_drain_saves_what_only_fast_tiers_have(tmp_path, staging, events):
    handles = [staging.put(f"a/{k}", [content(k)]) for k in range(4)]
    with pytest.raises(StagingError, match=r"4 of 4 are not, the first is a/0"):
        staging.drain(handles, deadline=time.time() - 1)
    staging.drain(handles, deadline=time.time() + 600)
    staging.drain(handles, deadline=time.time() - 1)  # nothing is left to do
    assert files(tmp_path, "file_system") == ["0", "1", "2", "3"]
    assert bytes_by_edge(events)["memory", "file_system"] == 2 * SIZE
    staging.evict()
    assert files(tmp_path, "memory") == files(tmp_path, "nvme") == []
    assert [read(staging, handle) for handle in handles] == [*map(content, range(4))]


@pytest.mark.parametrize("key", ["", ".", "/etc/passwd", "../a", "a/../../b", ".lock"])
def test_a_key_stays_below_its_tier(staging, key):
    with pytest.raises(ValueError, match="a key must be a path below the tier"):
        staging.put(key, [b"a"])


def test_a_missing_variable_is_named_with_the_fallback(tmp_path, events):
    burst = Tier("burst_buffer", "${BB_ROOT}/run", None, True, "job")
    with pytest.raises(StagingError, match=r"variable BB_ROOT is not .* no fallback"):
        Staging([burst], {}, events.append)
    with Staging([burst], {"BB_ROOT": str(tmp_path)}, events.append) as staging:
        staging.put("a", [b"a"])
    assert (tmp_path / "run" / "a").read_bytes() == b"a"
    assert not [event for event in events if event["event"] == "tier fallback"]
    spare = Tier("burst_buffer", "${BB_ROOT}", None, True, "job", "${SPARE}/here")
    with pytest.raises(StagingError, match=r"BB_ROOT .* the fallback \$\{SPARE\}/here"):
        Staging([spare], {}, events.append)
    with Staging([spare], {"SPARE": str(tmp_path)}, events.append) as staging:
        staging.put("b", [b"b"])
    assert (tmp_path / "here" / "b").exists()
    assert events[-2] == {
        "event": "tier fallback",
        "tier": "burst_buffer",
        "variable": "BB_ROOT",
        "folder": str(tmp_path / "here"),
    }


def test_a_tier_without_a_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    tier = Tier("nvme", str(tmp_path / "file" / "below"), None, True, "node")
    with pytest.raises(StagingError, match="tier nvme must have a folder"):
        Staging([tier], {}, lambda event: None)


# Puts three objects, promotes, stages out and evicts, in a child of this program. Of
# the system calls of the child that change files, the given one, if any, is the last
# thing that it does; another child then starts anew on a copy of what it left.
MOVER = """
import os, shutil, signal, sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[2]).parent))
from test_staging import content, tiers
from data.staging import Staging

def kill_at(doomed):
    def counted(call):
        def wrapped(*arguments, **named):
            global calls
            result = call(*arguments, **named)
            calls += 1
            if calls == doomed:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return wrapped
    for name in ("replace", "truncate", "write", "unlink", "fsync"):
        setattr(os, name, counted(getattr(os, name)))

def move(folder):
    with Staging(tiers(folder), {}, lambda event: None) as staging:
        for k in range(3):
            handle = staging.put(f"object/{k}", [content(k)])
            staging.stage_out(handle).result()
            staging.evict()
            staging.promote(handle)

def in_child(folder, doomed):
    child = os.fork()
    if child == 0:
        try:
            kill_at(doomed)
            move(folder)
            (folder / "calls").write_text(str(calls))
        finally:
            os._exit((folder / "calls").exists() - 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

calls, root = 0, Path(sys.argv[1])
assert in_child(root / "whole", 0) == 0
n_calls = int((root / "whole" / "calls").read_text())
for doomed in range(1, n_calls + 1):
    killed, continued = root / "killed" / str(doomed), root / "continued" / str(doomed)
    assert in_child(killed, doomed) == -signal.SIGKILL, doomed
    shutil.copytree(killed, continued)
    assert in_child(continued, 0) == 0, doomed
print(n_calls)
"""


def test_a_kill_at_any_step_and_a_new_start_give_the_same_bits(tmp_path):
    command = [sys.executable, "-c", MOVER, str(tmp_path), __file__]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3 * 10, "each object is written, copied, removed"
    assert len([*(tmp_path / "killed").iterdir()]) == int(done.stdout)
    for path in (tmp_path / "killed").rglob("object/*"):
        if path.suffix != ".partial":  # complete or absent
            assert path.read_bytes() == content(int(path.name))
    whole = [files(tmp_path / "whole", name) for name in ("memory", "nvme")]
    for folder in (tmp_path / "continued").iterdir():
        sweep_partial_files(folder / "file_system")  # as its owner does at the start
        assert [files(folder, name) for name in ("memory", "nvme")] == whole
        assert files(folder, "file_system") == ["0", "1", "2"]
        for path in folder.rglob("object/*"):
            assert path.read_bytes() == content(int(path.name))
