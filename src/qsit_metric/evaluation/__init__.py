"""Measure a metric against people: label files, correlations, LLVisionQA, LLDescribe, and the loop over a data set.

    from qsit_metric.evaluation import evaluate, read_scores

    evaluate(metric, read_scores("labels.csv", root="images")).correlations.srcc

Importing this package is cheap; scipy and the readers of optional formats are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .correlations import Correlations as Correlations
    from .correlations import bootstrap_interval as bootstrap_interval
    from .correlations import correlate as correlate
    from .correlations import krcc as krcc
    from .correlations import plcc as plcc
    from .correlations import plcc_fitted as plcc_fitted
    from .correlations import rmse as rmse
    from .correlations import srcc as srcc
    from .datasets import IQA_SETS as IQA_SETS
    from .datasets import IQASet as IQASet
    from .datasets import read_iqa as read_iqa
    from .errors import EvaluationError as EvaluationError
    from .errors import UndefinedError as UndefinedError
    from .loop import Evaluation as Evaluation
    from .loop import evaluate as evaluate
    from .manifest import Item as Item
    from .manifest import Manifest as Manifest
    from .qbench import Question as Question
    from .qbench import ToDescribe as ToDescribe
    from .qbench import check_counts as check_counts
    from .qbench import extract_images as extract_images
    from .qbench import read_lldescribe as read_lldescribe
    from .qbench import read_llvisionqa as read_llvisionqa
    from .qbench import write_llvisionqa as write_llvisionqa
    from .questions import RULES as RULES
    from .questions import Accuracy as Accuracy
    from .questions import QuestionReport as QuestionReport
    from .questions import evaluate_questions as evaluate_questions
    from .readers import FORMATS as FORMATS
    from .readers import read_scores as read_scores

_HOMES = {
    "Accuracy": "questions",
    "Correlations": "correlations",
    "Evaluation": "loop",
    "EvaluationError": "errors",
    "FORMATS": "readers",
    "IQASet": "datasets",
    "IQA_SETS": "datasets",
    "Item": "manifest",
    "Manifest": "manifest",
    "Question": "qbench",
    "QuestionReport": "questions",
    "RULES": "questions",
    "ToDescribe": "qbench",
    "UndefinedError": "errors",
    "bootstrap_interval": "correlations",
    "check_counts": "qbench",
    "correlate": "correlations",
    "evaluate": "loop",
    "evaluate_questions": "questions",
    "extract_images": "qbench",
    "krcc": "correlations",
    "plcc": "correlations",
    "plcc_fitted": "correlations",
    "read_iqa": "datasets",
    "read_lldescribe": "qbench",
    "read_llvisionqa": "qbench",
    "read_scores": "readers",
    "rmse": "correlations",
    "srcc": "correlations",
    "write_llvisionqa": "qbench",
}

__all__ = [
    "FORMATS",
    "IQA_SETS",
    "RULES",
    "Accuracy",
    "Correlations",
    "Evaluation",
    "EvaluationError",
    "IQASet",
    "Item",
    "Manifest",
    "Question",
    "QuestionReport",
    "ToDescribe",
    "UndefinedError",
    "bootstrap_interval",
    "check_counts",
    "correlate",
    "evaluate",
    "evaluate_questions",
    "extract_images",
    "krcc",
    "plcc",
    "plcc_fitted",
    "read_iqa",
    "read_lldescribe",
    "read_llvisionqa",
    "read_scores",
    "rmse",
    "srcc",
    "write_llvisionqa",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
