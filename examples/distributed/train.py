import xpnn

group = xpnn.distributed.launched()  # None where nobody else was started
X, y = xpnn.data.make_moons(2000, noise=0.2, seed=0)
net = xpnn.mlp([2, 32, 32, 2], norm="batch", dropout=0.1, seed=0)
trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.01), seed=0)
trainer.fit(X, y, epochs=3, batch_size=256, shards=8, group=group)
if group is None or group.rank == 0:
    xpnn.save(net, "moons.safetensors")
    print("loss", trainer.history["loss"][-1].hex())
