"""A Slurm of four virtual nodes on the loopback address, in a folder of its own.

Two nodes have the feature haswell, two knl; each has two CPUs, whatever the machine.
It needs root, and Debian's slurmctld, slurmd, slurm-client and munge.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager

import psutil

DAEMONS = ["munged", "slurmctld", "slurmd"]
PROGRAMS = [*DAEMONS, "sbatch", "srun", "squeue", "scancel"]
NODES = {"hsw1": "haswell", "hsw2": "haswell"} | dict.fromkeys(
    ["knl1", "knl2"], "knl,quad,cache"
)

CONFIGURATION = """
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool/%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SlurmctldTimeout=30
SlurmdTimeout=30
KillWait=5
PartitionName=regular Nodes={nodes} Default=YES MaxTime=01:00:00 State=UP
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 "
    "RealMemory=4000 Feature={feature} State=UNKNOWN\n"
)


def why_not():
    """What is missing to start one here; empty if nothing is."""
    os.environ["PATH"] += ":/usr/sbin"
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if os.geteuid() != 0:
        return "a throw-away Slurm needs root"
    return f"a throw-away Slurm needs {', '.join(missing)}" if missing else ""


@contextmanager
def running_slurm(folder):
    """Starts the daemons, sets SLURM_CONF, and ends them all."""
    for name in ["state", "log", "munge", *(f"spool/{node}" for node in NODES)]:
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "munge").chmod(0o755)
    key = folder / "munge" / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    configuration = _write_configuration(folder)
    os.environ["SLURM_CONF"] = str(configuration)
    # a test run that is ended ends its daemons too
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        munge = [f"--{n}-file={folder}/munge/munge.{s}" for n, s in MUNGE.items()]
        socket_ = f"--socket={folder}/munge/munge.socket"
        _start("munged", "--force", socket_, *munge)
        # an absolute path: the daemons change their folder before they read it
        _start("slurmctld", "-f", str(configuration))
        for node in NODES:
            _start("slurmd", "-f", str(configuration), "-N", node)
        _wait_for_idle_nodes(folder)
        yield folder
    finally:
        _end(folder)
        signal.signal(signal.SIGTERM, former)
        del os.environ["SLURM_CONF"]


MUNGE = {"key": "key", "pid": "pid", "log": "log", "seed": "seed"}


def _write_configuration(folder):
    host = socket.gethostname().partition(".")[0]
    ports = _free_ports(1 + len(NODES))
    lines = [
        NODE.format(name=name, host=host, port=port, feature=feature)
        for (name, feature), port in zip(NODES.items(), ports[1:], strict=True)
    ]
    text = CONFIGURATION.replace("PartitionName", "".join(lines) + "PartitionName")
    path = folder / "slurm.conf"
    path.write_text(
        text.format(host=host, folder=folder, ports=ports, nodes=",".join(NODES))
    )
    return path


def _free_ports(n):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _start(*words):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"


def _wait_for_idle_nodes(folder):
    deadline = time.monotonic() + 60
    words, states = ["sinfo", "-h", "-N", "-o", "%T"], []
    while states != ["idle"] * len(NODES):
        if time.monotonic() > deadline:
            log = (folder / "log" / "slurmctld.log").read_text()
            raise AssertionError(f"nodes must be idle; got {states}\n{log[-2000:]}")
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        states = done.stdout.split()
        time.sleep(0.1)  # a poll of another program's state


def _end(folder):
    daemons = processes_with(str(folder), in_words=True)
    for daemon in daemons:
        daemon.terminate()
    _, alive = psutil.wait_procs(daemons, timeout=5)
    for daemon in alive:
        daemon.kill()
    psutil.wait_procs(alive, timeout=5)
    assert processes_with(str(folder), in_words=True) == []


def processes_with(mark, *, in_words=False):
    """Living processes with a word on their command line or in their environment.

    The latter without the daemons, which have the environment of the first test.
    """
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline() if in_words else process.environ().values()
            is_ours = any(mark in word for word in words)
            is_daemon = not in_words and process.name() in DAEMONS
            is_dead = process.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            continue  # it has just ended
        if is_ours and not is_daemon and not is_dead and process.pid != os.getpid():
            found.append(process)
    return found
