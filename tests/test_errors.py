"""Errors keep what they are about as fields, and say it late."""

import pickle

import pytest
import torch

from qsit_metric import errors
from qsit_metric.errors import CheckpointError, DependencyError, ImageError, InputError, QSiTError
from qsit_metric.evaluation import EvaluationError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, QSiTError)]


def test_fields_are_kept_and_make_the_message():
    error = InputError.about("stride", 0, "a number of pixels", "Leave it out.")
    assert (error.argument, error.got, error.expected, error.hint) == (
        "stride",
        0,
        "a number of pixels",
        "Leave it out.",
    )
    assert str(error) == "`stride`: got 0, expected a number of pixels. Leave it out."
    assert error.reason == "expected a number of pixels. Leave it out."
    assert repr(error) == "InputError('`stride`: got 0, expected a number of pixels. Leave it out.')"


def test_a_change_of_a_field_changes_the_message():
    error = ImageError.about("image", "a.jpg", "an existing file")
    error.index, error.done = 3, (1.0,)
    told = error.retold(argument="picture", hint="Look again.", where="labels.csv, row 2")
    assert str(told) == "labels.csv, row 2: `picture`: got 'a.jpg', expected an existing file. Look again."
    assert str(error) == "`image`: got 'a.jpg', expected an existing file."
    assert (type(told), told.index, told.done) == (ImageError, 3, (1.0,))
    assert str(told.retold(hint="", where="")) == "`picture`: got 'a.jpg', expected an existing file."


@pytest.mark.parametrize("kind", [*KINDS, EvaluationError])
def test_pickled_and_copied_they_say_the_same(kind):
    error = kind.about("model", "x", "y", "Do z.")
    error.index = 2
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.index, again.hint) == (kind, str(error), 2, "Do z.")


@pytest.mark.parametrize("kind", KINDS)
def test_a_sentence_of_its_own(kind):
    error = pickle.loads(pickle.dumps(kind("step 3 failed")))
    assert (str(error), error.argument, error.reason) == ("step 3 failed", "", "step 3 failed")
    assert str(error.retold(where="run 1", hint="Go on.")) == "run 1: step 3 failed Go on."


def test_an_error_may_turn_into_one_of_another_class():
    error = InputError.about("question", "x", "another", "Ask.").retold(where="recipe.json")
    told = error.turned(CheckpointError)
    assert (type(told), str(told), told.hint) == (CheckpointError, str(error), "Ask.")
    assert str(InputError("a sentence").turned(EvaluationError)) == "a sentence"


def test_a_value_that_is_large_is_shown_and_not_kept():
    tensor = torch.zeros(2, 3)
    error = InputError.about("image", tensor, "a tensor of another shape")
    assert not isinstance(error.got, torch.Tensor)
    assert str(error).startswith("`image`: got tensor([[0.")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(InputError.about("sizes", [1, 2], "three of them")) == "`sizes`: got [1, 2], expected three of them."


def test_the_built_in_kinds_stay():
    assert isinstance(CheckpointError.about("model", "x", "y"), OSError)
    assert isinstance(DependencyError.about("model", "x", "y"), ImportError)
