"""A program that uses every public name. Nobody runs it: a type checker reads it, as it would a user's."""

from pathlib import Path
from typing import assert_type

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import jaxtl
from jaxtl import (
    Dataset,
    Embedding,
    Features,
    FinetuneConfig,
    Images,
    JaxtlError,
    LocallyLinearEmbedding,
    MobileNetV2,
    MobileNetV2Config,
    Network,
    ResNet,
    ResNetConfig,
    RunConfig,
    Score,
)

assert_type(jaxtl.__version__, str)

data = jaxtl.load("mnist", "test", image_size=48, data_dir=Path("data"))
assert_type(data, Dataset)
assert_type(data.images, NDArray[np.uint8])
assert_type(data.labels, NDArray[np.int32])
assert_type(data.class_names, tuple[str, ...])
assert_type(data.take(100), Dataset)

own = Dataset.from_arrays(data.images, ["a", "b"], ids=[1, 2], name="own")
assert_type(own, Dataset)
assert_type(own.notes, tuple[str, ...])
done = jaxtl.run(RunConfig(test_share=0.5), (own, own), out="run", progress=True)
assert_type(done.path, Path | None)
assert_type(done.plot(), Figure)
assert_type(jaxtl.load_run("runs/mnist-2000").score("after", "features", "silhouette"), Score | None)

model = jaxtl.load_model()
assert_type(model, Network)
assert_type(model.config.classes, int | None)
assert_type(jaxtl.load_model("resnet.safetensors", model="resnet18"), Network)
if isinstance(model, MobileNetV2):
    assert_type(model.config, MobileNetV2Config)
if isinstance(model, ResNet):
    assert_type(model.config, ResNetConfig)
assert_type(ResNetConfig(depth=50, classes=10).bn_epsilon, float)

images = Images(image_size=48, preprocessing="keras")
features = jaxtl.extract(model, data, images, batch_size=32, precision="bf16", progress=print, notify=print)
features = jaxtl.extract(model, data, engine="jax")
assert_type(features, Features)
assert_type(features.values, NDArray[np.float32])
assert_type(features.labels, NDArray[np.int32] | None)
assert_type(features.meta["weights_digest"], object)
assert_type(Features.load("features.npz"), Features)
assert_type(jaxtl.extract(model, data, layer="block_13_expand_relu", progress=True), Features)
assert_type(Features([[0.0, 1.0], [2.0, 3.0]], ["a", "b"]).class_names, tuple[str, ...])
assert_type(Features(features.values, labels=np.arange(3), ids=["x", "y", "z"]), Features)

config = FinetuneConfig(trainable="10", epochs=1)
tuned, history = jaxtl.finetune(model, data, data, config, images)
assert_type(tuned, Network)
assert_type(history, list[dict[str, float]])

embedding = jaxtl.reduce(features, "tsne", perplexity=50, landmarks=1000, progress=print)
assert_type(embedding, Embedding)
assert_type(embedding.coords, NDArray[np.float32])
assert_type(jaxtl.reduce([[0.0, 1.0]] * 9, "pca", n_components=1, progress=True), Embedding)
assert_type(Embedding(np.zeros((3, 2)), [0, 1, 1], method="UMAP"), Embedding)
assert_type(embedding.plot(title="digits"), Figure)
assert_type(jaxtl.plot(embedding, embedding), Figure)
assert_type(embedding.diagnostics["kl_divergence"], object)

compared = jaxtl.compare(
    "before.npz", features, training_features=("a.npz", "b.npz"), perplexity=20, out="runs/x"
)
assert_type(compared, jaxtl.Comparison)
assert_type(compared.features["after"].labels, NDArray[np.int32] | None)
assert_type(compared.embeddings["after", "tsne"], Embedding)
assert_type(compared.score("both", "features", "linear CKA"), Score | None)
assert_type(compared.scores, list[Score])
assert_type(compared.folder, Path | None)
assert_type(compared.plot(), Figure)

swept = jaxtl.sweep(RunConfig(epochs=1), own, trainable=("none", 10), image_size=[48, 96], seeds=3, out="s")
assert_type(swept, jaxtl.SweepResult)
assert_type(swept.rows, tuple[jaxtl.SweepRow, ...])
assert_type(swept.best, jaxtl.SweepRow | None)
assert_type(swept.words, str)
assert_type(swept.plot(), Figure)
if swept.cheapest and swept.cheapest.test_accuracy:
    assert_type(swept.cheapest.seconds, float | None)

estimator = LocallyLinearEmbedding(n_neighbors=12, random_state=0)
assert_type(estimator.fit(features.values), LocallyLinearEmbedding)
assert_type(estimator.fit_transform(features.values), NDArray[np.float64])
assert_type(estimator.transform([[0.0] * 1280]), NDArray[np.float64])

accuracy, of_folds = jaxtl.knn_accuracy(embedding.coords, embedding.labels)
assert_type(jaxtl.knn_accuracy([[0.0, 1.0]], ["a"])[0], float)
assert_type(accuracy, float)

assert_type(Score("before", "tsne", "10-NN accuracy", 0.7).low, float | None)
assert_type(RunConfig().methods, tuple[str, ...])
assert_type(RunConfig().reduction("tsne"), dict[str, bool | int | float | str])

try:
    jaxtl.load("mnits")
except JaxtlError as error:
    assert_type(error, JaxtlError)

# What is wrong is told: mypy complains of a comment that stands where there is nothing to complain of.
jaxtl.extarct(model, data)  # type: ignore[attr-defined]
jaxtl.load(28)  # type: ignore[arg-type]
jaxtl.compare("before.npz")  # type: ignore[call-arg]
jaxtl.reduce(features, "tsne", perplexity=[50])  # type: ignore[arg-type]
jaxtl.extract(model, data, precision="float64")  # type: ignore[arg-type]
