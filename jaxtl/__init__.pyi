"""What `jaxtl` offers, for type checkers: at run time each name is imported at its first use."""

from jaxtl.data import load as load
from jaxtl.errors import JaxtlError as JaxtlError
from jaxtl.experiment.compared import Comparison as Comparison
from jaxtl.experiment.comparison import compare as compare
from jaxtl.experiment.run import run as run
from jaxtl.lle.estimator import LocallyLinearEmbedding as LocallyLinearEmbedding
from jaxtl.metrics.separability import knn_accuracy as knn_accuracy
from jaxtl.models.mobilenet_v2 import MobileNetV2 as MobileNetV2
from jaxtl.models.mobilenet_v2 import MobileNetV2Config as MobileNetV2Config
from jaxtl.models.network import Network as Network
from jaxtl.models.resnet import ResNet as ResNet
from jaxtl.models.resnet import ResNetConfig as ResNetConfig
from jaxtl.models.weights import load_model as load_model
from jaxtl.network.extraction import extract as extract
from jaxtl.network.finetuning import finetune as finetune
from jaxtl.plots.shown import plot as plot
from jaxtl.records.arrays import Embedding as Embedding
from jaxtl.records.arrays import Features as Features
from jaxtl.records.dataset import Dataset as Dataset
from jaxtl.records.tables import Score as Score
from jaxtl.reduction import reduce as reduce
from jaxtl.runs.data import load_run as load_run
from jaxtl.settings import FinetuneConfig as FinetuneConfig
from jaxtl.settings import Images as Images
from jaxtl.settings import RunConfig as RunConfig
from jaxtl.sweeps.result import SweepResult as SweepResult
from jaxtl.sweeps.result import sweep as sweep
from jaxtl.sweeps.rows import SweepRow as SweepRow

__version__: str
