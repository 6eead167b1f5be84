"""The scripts that the page on several machines shows run as it says, and print the same number by every engine."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from places import PROJECT

import xpnn
from xpnn.data import TableEncoder
from xpnn.distributed import ArrayShards

FOLDER = PROJECT / "examples" / "distributed"
WATCHDOG = 280.0
pytestmark = pytest.mark.skipif("XPNN_ENGINES" not in os.environ, reason="starts many processes: ci/distributed.sh")


def mpiexec(n):
    pytest.importorskip("mpi4py", reason="needs mpi4py: pip install 'xpnn[mpi]'")
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    return [found, "-n", str(n), sys.executable, "-m", "mpi4py"]


def torchrun(n):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("needs PyTorch: pip install torch")
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]


def result(script, folder, launcher=None, **environment):
    """The number that a script prints."""
    env = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | environment
    command = [*(launcher or [sys.executable]), str(FOLDER / script)]
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:  # which processes of theirs may keep
        done = subprocess.run(
            command,
            cwd=folder,
            env=env | environment,
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            timeout=WATCHDOG,
        )
    text = (folder / "out").read_text()
    assert done.returncode == 0, text + (folder / "err").read_text()
    return re.search(r"^loss (\S+)$", text, re.MULTILINE)[1], text


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return result("train.py", tmp_path_factory.mktemp("alone"))[0]


@pytest.mark.parametrize("launcher", [mpiexec, torchrun])
def test_one_script_for_all_launchers(alone, launcher, tmp_path):
    assert result("train.py", tmp_path, launcher(2))[0] == alone
    assert xpnn.load(tmp_path / "moons.safetensors").n_in == 2


def test_ray(alone, tmp_path):
    pytest.importorskip("ray", reason="needs Ray: pip install 'ray[train]' torch")
    own = {"RAY_AIR_LOCAL_CACHE_DIR": str(tmp_path), "HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"}
    assert result("train_ray.py", tmp_path, **own)[0] == alone


def test_spark(alone, tmp_path):
    pytest.importorskip("pyspark", reason="needs Spark: pip install pyspark torch pyarrow, and Java")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("needs Java")
    assert result("train_spark.py", tmp_path, PYSPARK_PYTHON=sys.executable)[0] == alone


def test_files_that_each_process_reads_by_itself(tmp_path):
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'xpnn[files]'")
    page = (PROJECT / "docs" / "distributed.md").read_text()
    [block] = [text for text in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S) if "write_table" in text]
    subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(PROJECT)}, check=True
    )
    assert result("train_files.py", tmp_path)[0] == result("train_files.py", tmp_path, mpiexec(2))[0]


def test_a_run_goes_on_and_ends(tmp_path):
    first = result("train_resumed.py", tmp_path, mpiexec(2))[0]
    assert result("train_resumed.py", tmp_path)[0] == first


def test_dask(tmp_path):
    pytest.importorskip("distributed", reason="needs Dask: pip install 'xpnn[dask]'")
    loss, text = result("train_dask.py", tmp_path)
    X, y = xpnn.data.make_moons(2000, noise=0.2, seed=0)
    encoder = TableEncoder(bins=8).fit({"east": X[:, 0], "north": X[:, 1]})
    encoded = encoder.transform({"east": X[:, 0], "north": X[:, 1]})
    net = xpnn.mlp([encoded.shape[1], 32, 2], seed=0)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.01), seed=0)
    trainer.fit(ArrayShards([(encoded[a], y[a]) for a in np.split(np.arange(2000), 8)]), epochs=3, batch_size=256)
    assert loss == trainer.history["loss"][-1].hex()
    assert float(text.split("right ")[1]) > 0.9


SRUN = """#!/bin/bash
# Starts on this machine what SLURM would start on its nodes.
tasks=$SLURM_NTASKS
while [[ $1 == -* ]]; do
  if [[ $1 == -n ]]; then tasks=$2; fi
  case $1 in --*=*) shift ;; *) shift 2 ;; esac
done
for ((k = 0; k < tasks; k++)); do
  SLURM_PROCID=$k SLURM_LOCALID=$k SLURM_NODEID=0 "$@" &
done
wait
touch srun-was-here
"""


def test_the_script_for_slurm(tmp_path):
    """With the variables that SLURM sets, by which MPICH calls srun, whose place something else takes."""
    mpiexec(2)
    assert subprocess.run(["bash", "-n", str(FOLDER / "train.slurm")], check=False).returncode == 0
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    shutil.copy(FOLDER / "train_resumed.py", tmp_path)
    host = platform.node()
    slurm = {"JOB_ID": "7", "JOBID": "7", "NTASKS": "2", "NPROCS": "2", "CPUS_PER_TASK": "1", "TASKS_PER_NODE": "2"}
    slurm |= {"NNODES": "1", "JOB_NUM_NODES": "1", "NODELIST": host, "JOB_NODELIST": host}
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {f"SLURM_{name}": value for name, value in slurm.items()} | {"PATH": path}
    found = result("train.slurm", tmp_path, ["bash"], **own)[0]
    assert (tmp_path / "srun-was-here").exists()
    (tmp_path / "run.safetensors").unlink()
    assert result("train_resumed.py", tmp_path)[0] == found


def test_the_manifest_for_kubernetes(tmp_path):
    """Its command in two pods, with the variables that the training operator sets."""
    yaml = pytest.importorskip("yaml", reason="needs PyYAML: pip install pyyaml")
    torchrun(2)
    spec = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text())["spec"]
    assert spec["pytorchReplicaSpecs"]["Worker"]["replicas"] == 4
    [pod] = spec["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"]
    with socket.create_server(("127.0.0.1", 0)) as door:
        endpoint = f"127.0.0.1:{door.getsockname()[1]}"
    operator = {"NNODES": "2:2", "RDZV_BACKEND": "c10d", "RDZV_ENDPOINT": endpoint, "RDZV_ID": "moons"}
    operator |= {"MAX_RESTARTS": str(spec["elasticPolicy"]["maxRestarts"])}
    environment = os.environ | {f"PET_{name}": value for name, value in operator.items()}
    environment |= {one["name"]: one["value"] for one in pod["env"]} | {"PYTHONPATH": str(PROJECT)}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # of few cores
    shutil.copy(FOLDER / "train_resumed.py", tmp_path)
    words = [str(Path(sys.executable).with_name(pod["command"][0])), *pod["command"][1:]]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    pods = [subprocess.Popen(words, cwd=tmp_path, env=environment, **pipes) for _ in range(2)]
    said = [one.communicate(timeout=WATCHDOG)[0] for one in pods]
    assert [one.returncode for one in pods] == [0, 0], said
    (tmp_path / "run.safetensors").unlink()
    assert f"loss {result('train_resumed.py', tmp_path)[0]}" in "".join(said)
