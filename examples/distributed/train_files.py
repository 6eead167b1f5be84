import xpnn
from xpnn.data import Standardizer

group = xpnn.distributed.launched()
rows = xpnn.distributed.parquet("rows/*.parquet", target="moon")
scaler = xpnn.distributed.fit_encoder(Standardizer(), rows, group)
rows = xpnn.distributed.encoded(rows, scaler)
net = xpnn.mlp([2, 32, 32, 2], seed=0)
trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.01), seed=0)
trainer.fit(rows, epochs=3, batch_size=256, group=group)
if group is None or group.rank == 0:
    print("loss", trainer.history["loss"][-1].hex())
