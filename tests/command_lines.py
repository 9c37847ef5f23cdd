"""Arguments of commands on small files."""

import shlex

SMALL = ["--image-size", 32]


def words(text, **names):
    return [word.format(**names) for word in shlex.split(text)]


RUN = "run --dataset {few} --out {new} --samples 60 --image-size 32 "


REDUCE = "reduce {files}/good.npz --method pca --out {new}.npz "
