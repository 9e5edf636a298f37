"""Measure a metric against people: label files, correlations, LLVisionQA, LLDescribe, and the loop over a data set.

    from qsit_metric.evaluation import evaluate, read_scores

    evaluate(metric, read_scores("labels.csv", root="images")).correlations.srcc

Importing this package is cheap; scipy and the readers of optional formats are imported when they are first used.
"""

import lazy_loader

# The names are listed in the stub beside this file, for the loader and for type checkers alike.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
