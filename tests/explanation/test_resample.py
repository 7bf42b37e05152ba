"""Intervals and tests over patients, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap, permutation_test

from pneumolit.explanation.resample import mean_interval, ratio_interval, sign_test

RNG = np.random.default_rng(0)
ONE_EACH = np.arange(80)


def test_an_interval_of_a_mean_is_that_of_scipys_bootstrap_where_every_patient_has_one_image() -> None:
    values = RNG.gamma(2.0, size=80)
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    assert mean_interval(values, ONE_EACH) == pytest.approx(list(theirs), rel=0.02)


def test_an_interval_of_a_ratio_is_that_of_scipys_bootstrap_of_pairs() -> None:
    above, below = RNG.gamma(2.0, size=80), RNG.gamma(9.0, size=80)
    theirs = bootstrap(
        (above, below), lambda a, b, axis: a.sum(axis) / b.sum(axis), method="percentile", paired=True,
        n_resamples=20_000, rng=1,
    ).confidence_interval  # fmt: skip
    assert ratio_interval(above, below, ONE_EACH) == pytest.approx(list(theirs), rel=0.03)


def test_a_sign_test_is_the_exact_permutation_test_of_paired_samples() -> None:
    differences = RNG.normal(0.5, 1.0, size=10)
    exact = permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_test(differences, np.arange(10)) == pytest.approx(exact, abs=0.015)


def test_images_of_one_patient_are_drawn_and_flipped_together() -> None:
    values = np.repeat(RNG.normal(size=20), 4)
    patients = np.repeat(np.arange(20), 4)
    assert mean_interval(values, patients) == pytest.approx(mean_interval(values[::4], np.arange(20)))
    assert sign_test(values, patients) == pytest.approx(sign_test(values[::4], np.arange(20)))
    as_if_many = mean_interval(values, np.arange(80))
    assert as_if_many is not None
    low, high = mean_interval(values, patients) or (0, 0)
    assert high - low > 1.5 * (as_if_many[1] - as_if_many[0])


def test_one_patient_tells_nothing_of_others() -> None:
    assert mean_interval(np.ones(3), np.array(["a"] * 3)) is None
    assert sign_test(np.ones(3), np.array(["a"] * 3)) is None


def test_a_ratio_whose_denominator_may_vanish_has_no_interval() -> None:
    assert ratio_interval(np.ones(3), np.array([0.0, 0.0, 1.0]), np.arange(3)) is None


def test_a_p_value_is_never_zero() -> None:
    p = sign_test(np.full(60, 1.0), np.arange(60))
    assert p is not None and 0 < p < 0.001
