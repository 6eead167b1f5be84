from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession


def train():
    import xpnn

    group = xpnn.distributed.torch()  # of the processes that Spark has started
    X, y = xpnn.data.make_moons(2000, noise=0.2, seed=0)
    net = xpnn.mlp([2, 32, 32, 2], norm="batch", dropout=0.1, seed=0)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.01), seed=0)
    trainer.fit(X, y, epochs=3, batch_size=256, shards=8, group=group)
    return trainer.history["loss"][-1].hex(), net.state_dict()  # of rank 0


if __name__ == "__main__":
    spark = SparkSession.builder.master("local[2]").getOrCreate()
    loss, weights = TorchDistributor(num_processes=2, local_mode=False, use_gpu=False).run(train)
    print("loss", loss)
    spark.stop()
