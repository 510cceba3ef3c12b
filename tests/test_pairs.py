"""Pairs: the rules draw as many factors as they say, partners differ in nothing else, and are there."""

import dataclasses

import numpy as np
import pytest

from betavae.data.pairs import PAIR_RULES, Partners, drawn_anew


def test_rules_draw_as_many_factors_as_they_say():
    counts = {rule: drawn_anew(rule, 4000, 5, np.random.default_rng(0)).sum(1) for rule in PAIR_RULES}
    assert set(counts["one"]) == {1}
    assert set(counts["uniform"]) == set(counts["locatello"]) == {1, 2, 3, 4}
    assert np.mean(counts["uniform"] == 1) == pytest.approx(0.25, abs=0.03)
    assert np.mean(counts["locatello"] == 1) == pytest.approx(0.5 + 0.5 / 4, abs=0.03)


def test_every_factor_is_drawn_as_often():
    shares = drawn_anew("one", 4000, 5, np.random.default_rng(1)).mean(0)
    np.testing.assert_allclose(shares, 0.2, atol=0.03)


@pytest.mark.parametrize("rule", PAIR_RULES)
def test_partners_share_what_was_not_drawn(rule, grid):
    rows = np.random.default_rng(0).permutation(900)[:300]
    partners = Partners(grid, rule)(rows, np.random.default_rng(1))
    changed = (grid.factors[rows] != grid.factors[partners]).sum(1)
    assert changed.max() <= (1 if rule == "one" else 3)
    assert 0 in changed  # a value drawn anew may be the old one
    again = Partners(grid, rule)(rows, np.random.default_rng(1))
    assert np.array_equal(partners, again)


def test_partners_are_among_the_given_rows(grid):
    rows = np.random.default_rng(0).permutation(900)[:700]
    partners = Partners(grid, "locatello", rows)(rows[:200], np.random.default_rng(1))
    assert set(partners) <= set(rows)
    assert np.mean(partners != rows[:200]) > 0.7  # measured: 0.8; the rest drew their own values again


def test_images_of_the_same_factors_take_turns(grid):
    """Everything twice; partners are among the second copies and a few of the first."""
    twice = dataclasses.replace(
        grid, packed=np.concatenate([grid.packed[:]] * 2), factors=np.concatenate([grid.factors] * 2)
    )
    rows = np.concatenate([np.arange(900, 1800), np.arange(0, 900, 3)])
    partners = Partners(twice, "one", rows)(np.tile(rows, 20), np.random.default_rng(0))
    assert set(partners) == set(rows)
    both = np.flatnonzero(partners % 900 % 3 == 0)
    assert np.mean(partners[both] < 900) == pytest.approx(0.5, abs=0.03)
    changed = (twice.factors[np.tile(rows, 20)] != twice.factors[partners]).sum(1)
    assert changed.max() == 1


def test_a_lonely_image_is_its_own_partner(grid):
    square = np.flatnonzero((grid.factors[:, :2] == 0).all(1))
    lonely = np.array([899])
    partners = Partners(grid, "one", np.concatenate([square, lonely]))(lonely, np.random.default_rng(0))
    assert partners.tolist() == [899]


def test_data_without_pairs_are_refused(small, grid):
    with pytest.raises(
        ValueError, match=r"only 16 % of the partners that pair rule one draws are among the images of sprites"
    ):
        Partners(small, "one")
    thin = dataclasses.replace(grid, factors=grid.factors[:, :1], factor_names=("shape",), factor_sizes=(3,))
    with pytest.raises(ValueError, match="lattice has 1, and at least 2 are needed"):
        Partners(thin, "one")
