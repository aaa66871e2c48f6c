"""A Slurm cluster of two nodes on this machine, for as long as a block runs; takes root and slurm-wlm."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONF = """
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort=27817
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
KillWait=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port=27811 CPUs={cpus} State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port=27812 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def two_nodes(folder: Path) -> Iterator[None]:
    """Start the daemons, and end them and what they have started."""
    for tool in ("slurmctld", "slurmd", "srun"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is not installed: apt-get install slurm-wlm")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "state").mkdir(parents=True)
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, host=os.uname().nodename, cpus=os.cpu_count()))
    os.environ["SLURM_CONF"] = str(conf)
    # Nodes' names are no hosts' here.
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    commands = [["slurmctld", "-D"], *(["slurmd", "-D", "-N", node] for node in ("n1", "n2"))]
    daemons = [
        subprocess.Popen(one, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for one in commands
    ]
    try:
        end = time.monotonic() + 60
        while (idle := said("sinfo", "-h", "-o", "%T")) != "idle":
            if time.monotonic() > end:
                sys.exit(f"the nodes are {idle!r}, not idle; see {folder}/*.log")
            time.sleep(0.5)
        yield
    finally:
        said("scancel", "--state=RUNNING")
        while said("squeue", "-h"):  # or what runs outlives the daemons
            time.sleep(0.5)
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()


def said(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()
