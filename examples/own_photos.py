"""The whole experiment on photos of your own: features before and after fine-tuning, scores, a page.

A folder with a folder for each class is enough. This one is drawn here, so that the example runs anywhere:
stripes that lie, stand or lean. Set `photos` to a folder of yours, `image_size` to 96 or more, and leave out
what makes the example small.

Run it with `python examples/own_photos.py`, or cell by cell in an editor that knows `# %%`.
"""

# %% A folder of photos: photos/CLASS/NAME.png
from pathlib import Path

import numpy as np
from PIL import Image

import jaxtl

photos = Path("photos")
rng = np.random.default_rng(0)
rows, columns = np.mgrid[:40, :40]
for name, angle in (("leaning", 0.8), ("lying", 0.0), ("standing", 1.6)):
    (photos / name).mkdir(parents=True, exist_ok=True)
    for number in range(30):
        along = rows * np.cos(angle) + columns * np.sin(angle)
        stripes = 127 + 80 * np.sin(along / rng.uniform(1.2, 2.5) + rng.uniform(0, 6))
        pixels = (stripes + rng.normal(0, 30, stripes.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).convert("RGB").save(photos / name / f"{number}.png")

# %% A third of each class is set aside for testing. With so few images the statistics of batch
# normalisation lag: they are computed anew at the end
config = jaxtl.RunConfig(
    image_size=32,
    test_share=0.33,
    trainable="2",
    batch_norm="recalibrated",
    epochs=3,
    methods=("pca",),
    layers=False,
)
run = jaxtl.run(config, str(photos), out="runs/photos")
print(run)

# %% What came of it. Called again, `jaxtl.run` returns at once what is in the folder
for stage in ("before", "after"):
    print(run.score(stage, "features", "10-NN accuracy, leave one out"))
run.plot().savefig("own_photos.png")
print("open", run.path / "report.html")
