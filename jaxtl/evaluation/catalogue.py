"""Every metric that jaxtl writes or shows, once: its names, what it is, its range, who proposed it.

To add a metric: one row here, at the place where it is to stand in files and tables, and one call in
`jaxtl.evaluation.scoring` that computes it. Scores, claims, tables, figures, the page and the scaling study
take names and directions from here, and a test finds each that is spelled elsewhere.

Metrics of the change, image by image, come first: they stand in `jaxtl/evaluation/change_catalogue.py`.

Nothing is imported but the works that are cited, so that help and tables stay light.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from jaxtl.errors import shown
from jaxtl.evaluation import sources
from jaxtl.evaluation.change_catalogue import CHANGE as CHANGE
from jaxtl.evaluation.change_catalogue import KEEPING as KEEPING
from jaxtl.evaluation.change_catalogue import KEPT as KEPT
from jaxtl.evaluation.change_catalogue import KNN_OUTCOMES as KNN_OUTCOMES
from jaxtl.evaluation.change_catalogue import MOVED as MOVED
from jaxtl.evaluation.change_catalogue import P_VALUES as P_VALUES
from jaxtl.evaluation.change_catalogue import PROBE_OUTCOMES as PROBE_OUTCOMES
from jaxtl.evaluation.change_catalogue import Outcomes as Outcomes
from jaxtl.evaluation.metric import DOWN as DOWN
from jaxtl.evaluation.metric import METRICS as METRICS
from jaxtl.evaluation.metric import N_NEIGHBORS as N_NEIGHBORS
from jaxtl.evaluation.metric import UP as UP
from jaxtl.evaluation.metric import Metric as Metric

_SHARE, _FROM_0, _FROM_1, _ANY = (0, 1), (0, inf), (1, inf), (-inf, inf)

# Whether the classes stand apart in a space: the features, or the plane of an embedding.
FIVE_FOLDS = Metric(
    "10-NN accuracy, 5 folds",
    "mean over 5 stratified folds of the share of images whose class is the commonest among their 10 "
    "nearest images in other folds: scikit-learn's cross_val_score of KNeighborsClassifier(10)",
    _SHARE,
    UP,
    sources.COVER_HART,
)
LEAVE_ONE_OUT = Metric(
    "10-NN accuracy, leave one out",
    "share of the mapped images whose class is the commonest among their 10 nearest others",
    _SHARE,
    UP,
    sources.COVER_HART,
    short="10-NN accuracy",
)
NEIGHBORHOOD_HIT = Metric(
    "neighbourhood hit",
    "mean share of an image's 10 nearest others that have its class",
    _SHARE,
    UP,
    sources.PAULOVICH,
)
SILHOUETTE = Metric(
    "silhouette",
    "mean of how much nearer an image is to its own class than to the next, relative to the larger distance",
    (-1, 1),
    UP,
    sources.ROUSSEEUW,
)
DAVIES_BOULDIN = Metric(
    "Davies-Bouldin",
    "mean over classes of the worst ratio of two classes' spreads to the distance of their means",
    _FROM_0,
    DOWN,
    sources.DAVIES_BOULDIN,
)
CALINSKI_HARABASZ = Metric(
    "Calinski-Harabasz",
    "scatter between classes over scatter within, each by its degrees of freedom",
    _FROM_0,
    UP,
    sources.CALINSKI_HARABASZ,
)
NMI = Metric(
    "k-means NMI",
    "normalised mutual information of the classes and as many clusters found by k-means",
    _SHARE,
    UP,
    sources.STREHL_GHOSH,
)
ARI = Metric(
    "k-means ARI",
    "adjusted Rand index of the classes and as many clusters found by k-means; 0 by chance",
    (-0.5, 1),
    UP,
    sources.HUBERT_ARABIE,
)
CLUSTERS = Metric(
    "clusters found",
    "number of groups of at least 1 % of the images that stand apart in the map, by a method (HDBSCAN) that "
    "is not told how many there are",
    _FROM_0,
    "",
    sources.CAMPELLO,
)
CLUSTERS_MATCHED = Metric(
    "clusters that are classes",
    "share of all clusters found and all classes that pair up, a cluster and a class being a pair where they "
    "have more than half of their images in common; 1 where each class is one cluster",
    _SHARE,
    UP,
    sources.CAMPELLO,
    sources.KIRILLOV,
)
TRAIN_TO_TEST = Metric(
    "10-NN accuracy, training to test",
    "share of images whose class is the commonest among their 10 nearest training images",
    _SHARE,
    UP,
    sources.COVER_HART,
)
RIDGE_PROBE = Metric(
    "ridge probe accuracy",
    "share of images that a ridge regression trained on training images classifies correctly",
    _SHARE,
    UP,
    sources.ALAIN_BENGIO,
    sources.HOERL_KENNARD,
    sources.ALLEN,
)
LOGISTIC_PROBE = Metric(
    "logistic probe accuracy",
    "share of images that a logistic regression trained on training images classifies correctly",
    _SHARE,
    UP,
    sources.ALAIN_BENGIO,
)
RIDGE_PROBE_FOLDS = Metric(
    "ridge probe accuracy, 5 folds",
    "share of images that a ridge regression trained on the other four of 5 folds classifies correctly",
    _SHARE,
    UP,
    sources.ALAIN_BENGIO,
    sources.HOERL_KENNARD,
    sources.ALLEN,
)
LOGISTIC_PROBE_FOLDS = Metric(
    "logistic probe accuracy, 5 folds",
    "share of images that a logistic regression trained on the other four of 5 folds classifies correctly",
    _SHARE,
    UP,
    sources.ALAIN_BENGIO,
)
# Each class has a share of its own of these.
PER_CLASS = (LEAVE_ONE_OUT, NEIGHBORHOOD_HIT, SILHOUETTE)
# One question asked in three ways, the headline first.
KNN_ACCURACIES = (LEAVE_ONE_OUT, FIVE_FOLDS, TRAIN_TO_TEST)

# What features are like.
EFFECTIVE_RANK = Metric(
    "effective rank",
    "exp of the entropy of the singular values' shares: how many dimensions the features spread over",
    _FROM_1,
    "",
    sources.ROY_VETTERLI,
)
PARTICIPATION_RATIO = Metric(
    "participation ratio",
    "square of the summed variances over their summed squares: how many principal axes carry the variance",
    _FROM_1,
    "",
    sources.GAO,
)
INTRINSIC_DIMENSION = Metric(
    "intrinsic dimension",
    "dimension of the surface on which the features lie, by the distances of the first two neighbours",
    _FROM_0,
    "",
    sources.FACCO,
)
ZEROS = Metric("share of zeros", "mean share of an image's features that are 0", _SHARE, "", sources.GLOROT)
HOYER = Metric(
    "Hoyer sparsity",
    "mean over images of 0 where all features are equally active, 1 where one alone is",
    _SHARE,
    "",
    sources.HOYER,
)

# How good the map after of a method that begins with the map before would be without that.
_NOT_ALIGNED = "of a map made of the same features that does not begin with the map before (--no-align)"
FREE_LEAVE_ONE_OUT = Metric(
    f"{LEAVE_ONE_OUT}, free map",
    f"{LEAVE_ONE_OUT} {_NOT_ALIGNED}",
    _SHARE,
    UP,
    sources.COVER_HART,
    short="10-NN accuracy, free",
)
FREE_TRUSTWORTHINESS = Metric(
    "trustworthiness, free map",
    f"trustworthiness {_NOT_ALIGNED}",
    _SHARE,
    UP,
    sources.VENNA_KASKI_2001,
    sources.VENNA_KASKI_2006,
    short="trust, free",
)

# How true an embedding is to its features.
TRUSTWORTHINESS = Metric(
    "trustworthiness",
    "lower when the map puts images side by side that are far apart in the features",
    _SHARE,
    UP,
    sources.VENNA_KASKI_2001,
    sources.VENNA_KASKI_2006,
    short="trust",
)
CONTINUITY = Metric(
    "continuity",
    "lower when the map puts images far apart that are among the 10 nearest in the features",
    _SHARE,
    UP,
    sources.VENNA_KASKI_2001,
    sources.VENNA_KASKI_2006,
)
SHEPARD = Metric(
    "Shepard correlation",
    "Spearman correlation of the distances of random pairs of images with those in the features",
    (-1, 1),
    UP,
    sources.SHEPARD,
    sources.SPEARMAN,
)
QNX_AUC = Metric(
    "Q_NX AUC",
    "share of k nearest neighbours kept, minus chance (R_NX), averaged over all k with weights 1 / k",
    (-1, 1),
    UP,
    sources.LEE_VERLEYSEN,
    sources.LEE_2015,
)
FEATURES_KEPT = Metric(
    "10 nearest of the features kept",
    "mean share of an image's 10 nearest in the features that are among its 10 nearest in the map",
    _SHARE,
    UP,
    sources.LEE_VERLEYSEN,
)
RESEED_KEPT = Metric(
    "10 nearest kept under another seed",
    "mean share of an image's 10 nearest in the map that stay so where the same features are drawn with "
    "another seed: what the map keeps where nothing changed",
    _SHARE,
    UP,
    sources.WATTENBERG,
)
FAITHFULNESS = (TRUSTWORTHINESS, CONTINUITY, SHEPARD, QNX_AUC, FEATURES_KEPT, RESEED_KEPT)

# What features promise for a task before anything is trained.
LOG_ME = Metric(
    "LogME",
    "log evidence per image of the best Bayesian linear regression of the classes on the features",
    _ANY,
    UP,
    sources.YOU,
)
H_SCORE = Metric(
    "H-score, shrunk",
    "variance between classes as the features' covariance, shrunk towards a sphere, measures it",
    _FROM_0,
    UP,
    sources.BAO,
    sources.IBRAHIM,
    sources.LEDOIT_WOLF,
    short="H-score",
)
TRANSFERABILITY = (LOG_ME, H_SCORE)
PROMISES = (*TRANSFERABILITY, LOGISTIC_PROBE, RIDGE_PROBE)

# What fine-tuning did to features, or to a layer's outputs, as a whole.
LINEAR_CKA = Metric(
    "linear CKA",
    "likeness of features before and after, debiased: 1 for a rotation, about 0 for unrelated ones",
    (-1, 1),
    "",
    sources.KORNBLITH,
    sources.SONG,
    sources.NGUYEN,
)
PROCRUSTES = Metric(
    "Procrustes disparity",
    "difference of features before and after that is left when shifted, scaled, rotated and reflected",
    _SHARE,
    "",
    sources.SCHONEMANN,
)

SEEDS_CKA = Metric(
    "linear CKA of two seeds",
    "likeness of features after fine-tuning under two seeds, mean of all pairs: what chance alone changes",
    (-1, 1),
    "",
    sources.KORNBLITH,
    sources.NGUYEN,
)
SEEDS_KEPT = Metric(
    "10 nearest kept by two seeds",
    "mean share of an image's 10 nearest under one seed that are so under another, mean of all pairs",
    _SHARE,
    "",
    sources.LEE_VERLEYSEN,
)

# Of fine-tuning, by epoch. The keys are columns of history.csv.
LOSS = Metric("loss", "mean cross-entropy of the training images, as they were learned from", _FROM_0, DOWN)
ACCURACY = Metric(
    "accuracy", "share of training images classified correctly, as they were learned from", _SHARE, UP
)
TEST_LOSS = Metric(
    "test_loss", "mean cross-entropy of all test images after the epoch", _FROM_0, DOWN, label="test loss"
)
TEST_ACCURACY = Metric(
    "test_accuracy",
    "share of all test images classified correctly after the epoch",
    _SHARE,
    UP,
    label="test accuracy",
)

# What methods say of their own embeddings; comparable within a method alone.
KL_DIVERGENCE = Metric(
    "KL divergence",
    "divergence of the neighbourhoods drawn from those of the features, which t-SNE makes small",
    _FROM_0,
    DOWN,
    sources.VAN_DER_MAATEN_HINTON,
)
RECONSTRUCTION_ERROR = Metric(
    "reconstruction error",
    "squared error of points rebuilt from their neighbours by the features' weights, which LLE makes small",
    _FROM_0,
    DOWN,
    sources.ROWEIS_SAUL,
)
EXPLAINED_VARIANCE = Metric(
    "explained variance", "share of the features' variance that PCA's axes keep", _SHARE, UP, sources.PEARSON
)
# By their names in the record of an embedding.
DIAGNOSTICS = {"kl_divergence": KL_DIVERGENCE, "reconstruction_error": RECONSTRUCTION_ERROR}

# What an embedding costs, in a scaling study.
SECONDS = Metric("seconds", "median wall time of one reduction", _FROM_0, DOWN)
MEMORY = Metric("bytes", "most memory beyond what the process held before, features included", _FROM_0, DOWN)
MEMORY_BEFORE = Metric("bytes before", "memory of the process before it read the features", _FROM_0, "")
MEMORY_PEAK = Metric("bytes at the peak", "most memory of the process, files not counted", _FROM_0, DOWN)
RESIDENT_PEAK = Metric(
    "bytes at the peak, files included", "most memory of the process, mapped files included", _FROM_0, DOWN
)
DEVICE_PEAK = Metric(
    "bytes of the GPU at the peak", "most memory of the GPU in use, by all processes", _FROM_0, DOWN
)

# What files of earlier versions call them, in which one name stood for more than one number.
FORMER_SCORES = {"10-NN accuracy": FIVE_FOLDS}
FORMER_LAYERS = {
    "10-NN accuracy": LEAVE_ONE_OUT,
    "ridge probe accuracy": RIDGE_PROBE_FOLDS,
    "CKA": LINEAR_CKA,
}


def current(key: str, former: Mapping[str, str]) -> str:
    """The key of today of what an earlier version may have written."""
    return former.get(key, key)


def label_of(key: str) -> str:
    """The label of a metric that a file names; its own name where the catalogue does not know it."""
    return METRICS[key].label if key in METRICS else shown(key)


def headed(key: str) -> str:
    """As `Metric.headed`; the name alone where the catalogue does not know it."""
    return METRICS[key].headed if key in METRICS else shown(key)
