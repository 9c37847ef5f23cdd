"""How many layers should learn? The same training with less and less of the network frozen, as a table.

"none" trains the head alone; "block_16" also the last block, "block_14" the last three. A number, such as
"10", counts layers from the end, and "all" freezes none. Give images of your own, by `jaxtl.load` or
`jaxtl.Dataset.from_arrays`, in place of the digits.

Run it with `python examples/choosing_what_to_freeze.py`, or cell by cell in an editor that knows `# %%`.
"""

# %% Images, and a network that learned from others
import jaxtl

train = jaxtl.load("mnist", "train").take(600)
test = jaxtl.load("mnist", "test").take(300)
images = jaxtl.Images(image_size=32)
model = jaxtl.load_model()

# %% One training for each choice; with few images the statistics of batch normalisation lag: they are
# computed anew at the end
rows = []
for trainable in ("none", "block_16", "block_14"):
    config = jaxtl.FinetuneConfig(trainable=trainable, epochs=3, batch_norm="recalibrated")
    tuned, history = jaxtl.finetune(model, train, test, config, images)
    features = jaxtl.extract(tuned, test, images)
    neighbours, _ = jaxtl.knn_accuracy(features.values, features.labels)
    rows.append((trainable, history[-1]["accuracy"], history[-1]["test_accuracy"], neighbours))

# %% Training accuracy far above test accuracy means that too much learns from too few images
print(f"{'trainable':<10} {'training':>9} {'test':>6} {'10-NN':>6}")
for trainable, training, testing, neighbours in rows:
    print(f"{trainable:<10} {training:9.3f} {testing:6.3f} {neighbours:6.3f}")
