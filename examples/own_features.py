"""Compare features of your own, before and after training, without any network of jaxtl's.

Any library may have computed them. Here scikit-learn does: the 64 pixels of small digits stand for features
before, the hidden layer of a network that learned from other digits for features after. Rows are matched by
their ids, in whatever order the two sets have them.

Run it with `python examples/own_features.py`, or cell by cell in an editor that knows `# %%`.
"""

# %% Features from anywhere: arrays or lists [n, d], labels as numbers or names, ids
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

import jaxtl

pixels, digits = load_digits(return_X_y=True)
names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])[digits]
ids = np.array([f"scan-{k}" for k in range(len(digits))])
shown, learned = slice(0, 300), slice(300, 900)

network = MLPClassifier((32,), max_iter=300, tol=1e-3, random_state=0)
network.fit(pixels[learned], names[learned])
hidden = np.maximum(pixels @ network.coefs_[0] + network.intercepts_[0], 0)

before = jaxtl.Features(pixels[shown], names[shown], ids=ids[shown])
after = jaxtl.Features(hidden[shown][::-1], names[shown][::-1], ids=ids[shown][::-1])
print(before)
print(after)

# %% Numbers with intervals, claims, embeddings; `out="digits"` would keep all of it with a page
compared = jaxtl.compare(before, after, methods=["pca"])
for stage in ("before", "after"):
    print(compared.score(stage, "features", "10-NN accuracy, leave one out"))
for claim in compared.claims:
    print(f"{claim['verdict']}: {claim['text']}")

# %% Pictures: in a notebook the last line of a cell is enough
compared.plot().savefig("own_features.png")
