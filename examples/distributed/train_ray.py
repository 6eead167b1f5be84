import ray
from ray.train import Checkpoint, ScalingConfig, report
from ray.train.torch import TorchConfig, TorchTrainer


def train():
    import tempfile

    import xpnn

    group = xpnn.distributed.torch()  # of the processes that Ray has started
    X, y = xpnn.data.make_moons(2000, noise=0.2, seed=0)
    net = xpnn.mlp([2, 32, 32, 2], norm="batch", dropout=0.1, seed=0)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.01), seed=0)
    trainer.fit(X, y, epochs=3, batch_size=256, shards=8, group=group)
    with tempfile.TemporaryDirectory() as folder:
        kept = None
        if group.rank == 0:
            xpnn.save(net, f"{folder}/moons.safetensors")
            kept = Checkpoint.from_directory(folder)
        report({"loss": trainer.history["loss"][-1].hex()}, checkpoint=kept)


if __name__ == "__main__":
    ray.init(num_cpus=2)
    result = TorchTrainer(
        train, scaling_config=ScalingConfig(num_workers=2), torch_config=TorchConfig(backend="gloo")
    ).fit()
    print("loss", result.metrics["loss"])
