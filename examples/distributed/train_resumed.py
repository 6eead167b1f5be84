import os

import xpnn

group = xpnn.distributed.launched()
X, y = xpnn.data.make_moons(2000, noise=0.2, seed=0)
keep = xpnn.Checkpoint("run.safetensors", None, trainer=True, every_seconds=60)
if os.path.exists(keep.path):
    trainer = xpnn.Trainer.load(keep.path, callbacks=[keep])
else:
    net = xpnn.mlp([2, 32, 32, 2], norm="batch", dropout=0.1, seed=0)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.01), callbacks=[keep], seed=0)
if trainer.epoch < 20 or trainer.suspended:
    trainer.fit(X, y, epochs=20 - trainer.epoch, batch_size=256, shards=8, group=group)
if group is None or group.rank == 0:
    print("loss", trainer.history["loss"][-1].hex())
