"""Works that jaxtl cites, each once: for metrics, methods, libraries, the network and its data."""

from __future__ import annotations

from typing import NamedTuple


class Source(NamedTuple):
    """A work: authors, title, where and when it appeared; and its DOI, where it has one."""

    text: str
    doi: str = ""


# Of neighbours and classes.
COVER_HART = Source(
    "T. M. Cover, P. E. Hart: Nearest neighbor pattern classification. IEEE Transactions on Information "
    "Theory 13, 1967.",
    "10.1109/TIT.1967.1053964",
)
PAULOVICH = Source(
    "F. V. Paulovich, L. G. Nonato, R. Minghim, H. Levkowitz: Least square projection: A fast high-precision "
    "multidimensional projection technique and its application to document mapping. IEEE Transactions on "
    "Visualization and Computer Graphics 14, 2008.",
    "10.1109/TVCG.2007.70443",
)
ROUSSEEUW = Source(
    "P. J. Rousseeuw: Silhouettes: a graphical aid to the interpretation and validation of cluster "
    "analysis. Journal of Computational and Applied Mathematics 20, 1987.",
    "10.1016/0377-0427(87)90125-7",
)
DAVIES_BOULDIN = Source(
    "D. L. Davies, D. W. Bouldin: A cluster separation measure. IEEE Transactions on Pattern Analysis "
    "and Machine Intelligence 1, 1979.",
    "10.1109/TPAMI.1979.4766909",
)
CALINSKI_HARABASZ = Source(
    "T. Caliński, J. Harabasz: A dendrite method for cluster analysis. Communications in Statistics 3, 1974.",
    "10.1080/03610927408827101",
)
STREHL_GHOSH = Source(
    "A. Strehl, J. Ghosh: Cluster ensembles: A knowledge reuse framework for combining multiple partitions. "
    "Journal of Machine Learning Research 3, 2002."
)
HUBERT_ARABIE = Source(
    "L. Hubert, P. Arabie: Comparing partitions. Journal of Classification 2, 1985.", "10.1007/BF01908075"
)
CAMPELLO = Source(
    "R. J. G. B. Campello, D. Moulavi, J. Sander: Density-based clustering based on hierarchical density "
    "estimates. PAKDD 2013.",
    "10.1007/978-3-642-37456-2_14",
)
KIRILLOV = Source("A. Kirillov, K. He, R. Girshick, C. Rother, P. Dollár: Panoptic segmentation. CVPR 2019.")

# Of linear probes.
ALAIN_BENGIO = Source(
    "G. Alain, Y. Bengio: Understanding intermediate layers using linear classifier probes. ICLR workshop "
    "2017, arXiv:1610.01644."
)
HOERL_KENNARD = Source(
    "A. E. Hoerl, R. W. Kennard: Ridge regression: Biased estimation for nonorthogonal problems. "
    "Technometrics 12, 1970.",
    "10.1080/00401706.1970.10488634",
)
ALLEN = Source(
    "D. M. Allen: The relationship between variable selection and data augmentation and a method for "
    "prediction. Technometrics 16, 1974.",
    "10.1080/00401706.1974.10489157",
)

# Of how true an embedding is to the features.
VENNA_KASKI_2001 = Source(
    "J. Venna, S. Kaski: Neighborhood preservation in nonlinear projection methods: an experimental "
    "study. ICANN 2001.",
    "10.1007/3-540-44668-0_68",
)
VENNA_KASKI_2006 = Source(
    "J. Venna, S. Kaski: Local multidimensional scaling. Neural Networks 19, 2006.",
    "10.1016/j.neunet.2006.05.014",
)
SHEPARD = Source(
    "R. N. Shepard: The analysis of proximities: Multidimensional scaling with an unknown distance "
    "function. I. Psychometrika 27, 1962.",
    "10.1007/BF02289630",
)
SPEARMAN = Source(
    "C. Spearman: The proof and measurement of association between two things. American Journal of "
    "Psychology 15, 1904.",
    "10.2307/1412159",
)
LEE_VERLEYSEN = Source(
    "J. A. Lee, M. Verleysen: Quality assessment of dimensionality reduction: Rank-based criteria. "
    "Neurocomputing 72, 2009.",
    "10.1016/j.neucom.2008.12.017",
)
LEE_2015 = Source(
    "J. A. Lee, D. H. Peluffo-Ordóñez, M. Verleysen: Multi-scale similarities in stochastic neighbour "
    "embedding: Reducing dimensionality while preserving both local and global structure. Neurocomputing "
    "169, 2015.",
    "10.1016/j.neucom.2014.12.095",
)

# Of what features are like, and of how much they changed.
ROY_VETTERLI = Source(
    "O. Roy, M. Vetterli: The effective rank: a measure of effective dimensionality. EUSIPCO 2007."
)
GAO = Source(
    "P. Gao, E. Trautmann, B. Yu, G. Santhanam, S. Ryu, K. Shenoy, S. Ganguli: A theory of multineuronal "
    "dimensionality, dynamics and measurement. bioRxiv, 2017.",
    "10.1101/214262",
)
FACCO = Source(
    "E. Facco, M. d'Errico, A. Rodriguez, A. Laio: Estimating the intrinsic dimension of datasets by a "
    "minimal neighborhood information. Scientific Reports 7, 2017.",
    "10.1038/s41598-017-11873-y",
)
GLOROT = Source("X. Glorot, A. Bordes, Y. Bengio: Deep sparse rectifier neural networks. AISTATS 2011.")
HOYER = Source(
    "P. O. Hoyer: Non-negative matrix factorization with sparseness constraints. Journal of Machine "
    "Learning Research 5, 2004."
)
KORNBLITH = Source(
    "S. Kornblith, M. Norouzi, H. Lee, G. Hinton: Similarity of neural network representations "
    "revisited. ICML 2019."
)
SONG = Source(
    "L. Song, A. Smola, A. Gretton, J. Bedo, K. Borgwardt: Feature selection via dependence maximization. "
    "Journal of Machine Learning Research 13, 2012."
)
NGUYEN = Source(
    "T. Nguyen, M. Raghu, S. Kornblith: Do wide and deep networks learn the same things? Uncovering how "
    "neural network representations vary with width and depth. ICLR 2021."
)
SCHONEMANN = Source(
    "P. H. Schönemann: A generalized solution of the orthogonal Procrustes problem. Psychometrika 31, 1966.",
    "10.1007/BF02289451",
)

# Of what became of each image.
BOGGUST = Source(
    "A. Boggust, B. Carter, A. Satyanarayan: Embedding Comparator: Visualizing differences in global "
    "structure and local neighborhoods via small multiples. IUI 2022.",
    "10.1145/3490099.3511122",
)
SIVARAMAN = Source(
    "V. Sivaraman, Y. Wu, A. Perer: Emblaze: Illuminating machine learning representations through "
    "interactive comparison of embedding spaces. IUI 2022.",
    "10.1145/3490099.3511137",
)
MANN_WHITNEY = Source(
    "H. B. Mann, D. R. Whitney: On a test of whether one of two random variables is stochastically larger "
    "than the other. Annals of Mathematical Statistics 18, 1947.",
    "10.1214/aoms/1177730491",
)
WILSON = Source(
    "E. B. Wilson: Probable inference, the law of succession, and statistical inference. Journal of the "
    "American Statistical Association 22, 1927.",
    "10.1080/01621459.1927.10502953",
)
MCNEMAR = Source(
    "Q. McNemar: Note on the sampling error of the difference between correlated proportions or "
    "percentages. Psychometrika 12, 1947.",
    "10.1007/BF02295996",
)
BONETT_PRICE = Source(
    "D. G. Bonett, R. M. Price: Adjusted Wald confidence interval for a difference of binomial proportions "
    "based on paired data. Journal of Educational and Behavioral Statistics 37, 2012.",
    "10.3102/1076998611411915",
)
WATTENBERG = Source(
    "M. Wattenberg, F. Viégas, I. Johnson: How to use t-SNE effectively. Distill, 2016.",
    "10.23915/distill.00002",
)

# Of what features promise.
YOU = Source(
    "K. You, Y. Liu, J. Wang, M. Long: LogME: Practical assessment of pre-trained models for transfer "
    "learning. ICML 2021."
)
BAO = Source(
    "Y. Bao, Y. Li, S.-L. Huang, L. Zhang, L. Zheng, A. Zamir, L. Guibas: An information-theoretic approach "
    "to transferability in task transfer learning. ICIP 2019."
)
IBRAHIM = Source(
    "S. Ibrahim, N. Ponomareva, R. Mazumder: Newer is not always better: Rethinking transferability "
    "metrics, their peculiarities, stability and performance. ECML PKDD 2022.",
    "10.1007/978-3-031-26387-3_42",
)
LEDOIT_WOLF = Source(
    "O. Ledoit, M. Wolf: A well-conditioned estimator for large-dimensional covariance matrices. Journal of "
    "Multivariate Analysis 88, 2004.",
    "10.1016/S0047-259X(03)00096-4",
)

# Of methods and their libraries.
PEARSON = Source(
    "K. Pearson: On lines and planes of closest fit to systems of points in space. Philosophical "
    "Magazine 2, 1901.",
    "10.1080/14786440109462720",
)
VAN_DER_MAATEN_HINTON = Source(
    "L. van der Maaten, G. Hinton: Visualizing data using t-SNE. Journal of Machine Learning Research 9, "
    "2008."
)
VAN_DER_MAATEN = Source(
    "L. van der Maaten: Accelerating t-SNE using tree-based algorithms. Journal of Machine Learning Research "
    "15, 2014."
)
ROWEIS_SAUL = Source(
    "S. T. Roweis, L. K. Saul: Nonlinear dimensionality reduction by locally linear embedding. Science "
    "290, 2000.",
    "10.1126/science.290.5500.2323",
)
POLICAR = Source(
    "P. G. Poličar, M. Stražar, B. Zupan: openTSNE: A modular Python library for t-SNE dimensionality "
    "reduction and embedding. Journal of Statistical Software 109, 2024.",
    "10.18637/jss.v109.i03",
)
RASCHKA = Source(
    "S. Raschka, J. Patterson, C. Nolet: Machine learning in Python: Main developments and technology "
    "trends in data science, machine learning, and artificial intelligence. Information 11, 2020.",
    "10.3390/info11040193",
)

# Of the network and its data.
SANDLER = Source(
    "M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen: MobileNetV2: Inverted residuals and linear "
    "bottlenecks. CVPR 2018.",
    "10.1109/CVPR.2018.00474",
)
HE = Source(
    "K. He, X. Zhang, S. Ren, J. Sun: Deep residual learning for image recognition. CVPR 2016.",
    "10.1109/CVPR.2016.90",
)
RUSSAKOVSKY = Source(
    "O. Russakovsky et al.: ImageNet large scale visual recognition challenge. International Journal of "
    "Computer Vision 115, 2015.",
    "10.1007/s11263-015-0816-y",
)
LECUN = Source(
    "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-based learning applied to document "
    "recognition. Proceedings of the IEEE 86, 1998.",
    "10.1109/5.726791",
)
