"""The founding experiment as one writes it by hand with Keras and scikit-learn.

    python benchmarks/plain_keras.py MNIST_FOLDER WEIGHTS.weights.h5 [--samples 2000] [--out .]

Writes before.png, after.png and scores.json, and prints the scores. `weights="imagenet"` would be what one
writes where Keras may download them; the benchmark passes a file with the same values.
"""

import argparse
import gzip
import json
import os
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, LocallyLinearEmbedding
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SIZE = 48
BATCH_SIZE = 32
LAST_LAYERS = 10


def load_mnist(folder, split):
    """Images uint8 [n, 28, 28] and labels uint8 [n]."""
    prefix = {"train": "train", "test": "t10k"}[split]
    with gzip.open(Path(folder) / f"{prefix}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(Path(folder) / f"{prefix}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images, labels


def prepare(images):
    """float32 [n, 48, 48, 3] in [0, 1]."""
    resized = tf.image.resize(images[..., None], (SIZE, SIZE)) / 255.0
    return tf.image.grayscale_to_rgb(resized).numpy()


def build(weights):
    """The extractor of pooled features, and the classifier that shares its layers."""
    base = keras.applications.MobileNetV2(input_shape=(SIZE, SIZE, 3), include_top=False, weights=weights)
    for layer in base.layers[:-LAST_LAYERS]:
        layer.trainable = False
    pooled = keras.layers.GlobalAveragePooling2D()(base.output)
    extractor = keras.Model(base.input, pooled)
    classifier = keras.Model(base.input, keras.layers.Dense(10, activation="softmax")(pooled))
    classifier.compile(keras.optimizers.Adam(1e-3), "categorical_crossentropy", metrics=["accuracy"])
    return extractor, classifier


def maps_of(features, seed):
    lle = LocallyLinearEmbedding(n_neighbors=12, n_components=2, random_state=seed)
    return {
        "pca": PCA(n_components=2, random_state=seed).fit_transform(features),
        "tsne": TSNE(n_components=2, perplexity=30, random_state=seed).fit_transform(features),
        "lle": lle.fit_transform(features),
    }


def knn_accuracy(values, labels):
    return float(cross_val_score(KNeighborsClassifier(10), values, labels, cv=StratifiedKFold(5)).mean())


def draw(maps, labels, path):
    figure, axes = plt.subplots(1, len(maps), figsize=(15, 5))
    for axis, (name, coords) in zip(axes, maps.items(), strict=True):
        points = axis.scatter(*coords.T, c=labels, cmap="tab10", s=5)
        axis.set_title(name)
    figure.colorbar(points, ax=axes)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mnist")
    parser.add_argument("weights")
    for name, default in (("samples", 2000), ("train-samples", 60000), ("epochs", 5), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path, default=Path("."))
    args = parser.parse_args()
    keras.utils.set_random_seed(args.seed)

    (train, train_labels), (test, labels) = load_mnist(args.mnist, "train"), load_mnist(args.mnist, "test")
    x_train, x_test = prepare(train[: args.train_samples]), prepare(test)
    y_train = keras.utils.to_categorical(train_labels[: args.train_samples], 10)
    y_test = keras.utils.to_categorical(labels, 10)
    sample, sample_labels = x_test[: args.samples], labels[: args.samples]
    extractor, classifier = build(args.weights)

    scores, seconds = {}, {}
    for stage in ("before", "after"):
        if stage == "after":
            began = time.perf_counter()
            history = classifier.fit(
                x_train,
                y_train,
                batch_size=BATCH_SIZE,
                epochs=args.epochs,
                validation_data=(x_test, y_test),
                verbose=2,
            )
            seconds["fit"] = time.perf_counter() - began
            scores["test_accuracy"] = history.history["val_accuracy"]
        began = time.perf_counter()
        features = extractor.predict(sample, batch_size=BATCH_SIZE, verbose=0)
        seconds[f"features {stage}"] = time.perf_counter() - began
        began = time.perf_counter()
        maps = maps_of(features, args.seed)
        seconds[f"maps {stage}"] = time.perf_counter() - began
        spaces = {"features": features, **maps}
        scores[stage] = {name: knn_accuracy(values, sample_labels) for name, values in spaces.items()}
        draw(maps, sample_labels, args.out / f"{stage}.png")

    text = json.dumps({**scores, "seconds": seconds}, indent=2)
    (args.out / "scores.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
