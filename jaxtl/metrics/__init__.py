"""Numbers that say what a picture shows."""

from jaxtl.metrics.separability import check_knn as check_knn
from jaxtl.metrics.separability import knn_accuracy as knn_accuracy
