import dask.dataframe
import pandas
from dask.distributed import Client, LocalCluster

import xpnn
from xpnn.data import TableEncoder


def main() -> None:
    X, y = xpnn.data.make_moons(2000, noise=0.2, seed=0)
    table = pandas.DataFrame({"east": X[:, 0], "north": X[:, 1], "moon": y})
    rows = dask.dataframe.from_pandas(table, npartitions=8)  # or dask.dataframe.read_parquet("rows/")
    inputs = rows[["east", "north"]]
    encoder = xpnn.distributed.dask.fit_encoder(TableEncoder(bins=8), inputs)
    net = xpnn.mlp([len(encoder.feature_names_out), 32, 2], seed=0)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.01), seed=0)
    trained = xpnn.distributed.dask.fit(
        trainer, rows, target="moon", encoder=encoder, epochs=3, batch_size=256, checkpoint="moons.safetensors"
    )
    print("loss", trained.history["loss"][-1].hex())
    found = xpnn.distributed.dask.predict(trained, inputs, encoder=encoder)
    print("right", (found.compute() == y).mean())


if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster):  # or Client("scheduler:8786")
        main()
