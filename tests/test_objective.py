"""Objectives: the papers' equations in numpy, identities between terms, hand values, neutral settings."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from betavae.model import VAE, Posterior
from betavae.objectives import elbo
from betavae.objectives import tc as tc_file
from betavae.objectives.api import Batch
from betavae.objectives.elbo import evidence, vae
from betavae.objectives.needs import schedule_of
from betavae.objectives.registry import objective_of
from betavae.objectives.settings import TC, Annealed, Beta, Vae
from betavae.objectives.terms import gaussian_kl, gaussian_log_density, reconstruction_error
from betavae.objectives.total_correlation import total_correlation
from tests import references


def at(step, function):
    """An objective's function at a step of its schedule."""

    def scheduled(settings, model, batch):
        return function(settings, model, batch._replace(schedule=schedule_of(settings, step)))

    return scheduled


beta, annealed, tc = (at(50, function) for function in (elbo.beta, elbo.annealed, tc_file.tc))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return VAE("higgins", (1, 4, 4), 3)


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(1)
    images = (torch.rand(6, 1, 4, 4, generator=generator) > 0.5).float()
    return Batch(images, torch.randn(6, 3, generator=generator))


def posterior_of(count, latents, seed=0):
    rng = np.random.default_rng(seed)
    mean, log_var = rng.normal(size=(count, latents)), rng.normal(size=(count, latents))
    sample = mean + np.exp(log_var / 2) * rng.normal(size=(count, latents))
    return [torch.from_numpy(array) for array in (sample, mean, log_var)]


def test_reconstruction_is_the_papers():
    rng = np.random.default_rng(0)
    logits, images = rng.normal(size=(5, 2, 3, 3)), rng.random((5, 2, 3, 3))
    ours = reconstruction_error(torch.from_numpy(logits), torch.from_numpy(images))
    np.testing.assert_allclose(ours, references.bernoulli_error(logits, images), rtol=1e-12)


def test_gaussian_reconstruction_is_a_log_density():
    means, images = torch.rand(2, 1, 3, 3), torch.rand(2, 1, 3, 3)
    density = torch.distributions.Normal(means, 1.0).log_prob(images).sum((1, 2, 3))
    torch.testing.assert_close(reconstruction_error(means, images, "gaussian"), -density)


def test_rate_is_the_papers():
    _, mean, log_var = posterior_of(7, 4)
    np.testing.assert_allclose(
        gaussian_kl(mean, log_var).sum(1), references.rate(mean.numpy(), log_var.numpy()), rtol=1e-12
    )


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_rate_is_a_divergence(mean, log_var):
    kl = gaussian_kl(torch.tensor([mean], dtype=torch.float64), torch.tensor([log_var], dtype=torch.float64))
    assert float(kl) >= -1e-12
    normal = torch.distributions.Normal(mean, math.exp(log_var / 2))
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0))
    assert float(kl) == pytest.approx(float(expected), rel=1e-4, abs=1e-5)


def test_total_correlation_is_the_papers():
    z, mean, log_var = posterior_of(16, 3)
    joint, product = references.weighted_sampling(z.numpy(), mean.numpy(), log_var.numpy())
    assert float(total_correlation(z, Posterior(mean, log_var))) == pytest.approx((joint - product).mean(), rel=1e-10)


def test_rate_splits_into_information_correlation_and_dimensions():
    """MI + TC + dimension-wise KL, each by the same estimate, telescope to log q(z|x) - log p(z)."""
    z, mean, log_var = posterior_of(16, 3)
    joint, product = (
        torch.from_numpy(term) for term in references.weighted_sampling(z.numpy(), mean.numpy(), log_var.numpy())
    )
    conditional = gaussian_log_density(z, mean, log_var).sum(1)
    prior = gaussian_log_density(z, torch.zeros_like(z), torch.zeros_like(z)).sum(1)
    information, dimensions = (conditional - joint).mean(), (product - prior).mean()
    total = information + total_correlation(z, Posterior(mean, log_var)) + dimensions
    assert float(total) == pytest.approx(float((conditional - prior).mean()), rel=1e-10)


def test_total_correlations_gradient_is_that_of_finite_differences():
    z, mean, log_var = (tensor.requires_grad_() for tensor in posterior_of(6, 3))
    given = (z[:4].detach().requires_grad_(), mean, log_var)
    assert torch.autograd.gradcheck(lambda z, mean, log_var: total_correlation(z, Posterior(mean, log_var)), given)


def test_total_correlation_of_far_latents_is_finite():
    z, mean, log_var = torch.zeros(2, 2), torch.tensor([[0.0, 0.0], [900.0, 900.0]]), torch.full((2, 2), -8.0)
    assert float(total_correlation(z, Posterior(mean, log_var))) == pytest.approx(math.log(2), rel=1e-6)


def test_total_correlation_of_one_latent_is_zero():
    z, mean, log_var = posterior_of(16, 1)
    assert float(total_correlation(z, Posterior(mean, log_var))) == pytest.approx(0, abs=1e-12)


def test_total_correlation_sees_a_copied_latent():
    """Two latents that are one have far more total correlation than two of their own."""
    _, mean, log_var = posterior_of(256, 2)
    log_var = log_var - 4
    copied = [torch.stack([array[:, 0]] * 2, 1) for array in (mean, mean, log_var)]
    own = total_correlation(mean, Posterior(mean, log_var))
    assert total_correlation(copied[0], Posterior(copied[1], copied[2])) > own + 1  # measured: 2.5 nats apart


def test_others_widen_the_mixture():
    """With others total correlation is that of the whole mixture, at the latents of the batch."""
    z, mean, log_var = posterior_of(16, 3)
    joint, product = references.weighted_sampling(z.numpy(), mean.numpy(), log_var.numpy())
    first, rest = Posterior(mean[:4], log_var[:4]), Posterior(mean[4:], log_var[4:])
    assert float(total_correlation(z[:4], first, rest)) == pytest.approx((joint - product)[:4].mean(), rel=1e-10)


def test_memory_keeps_the_last_posteriors(model, batch):
    settings = TC(beta=6.0, memory_images=8)
    first = tc(settings, model, batch)
    assert first.memory["mean"].shape == (6, 3)
    torch.testing.assert_close(first.loss, tc(TC(beta=6.0), model, batch).loss)
    second = tc(settings, model, batch._replace(memory=first.memory))
    assert second.memory["mean"].shape == (8, 3)
    assert not second.memory["mean"].requires_grad
    torch.testing.assert_close(second.memory["mean"][6:], first.memory["mean"][:2])
    far = {"mean": first.memory["mean"] + 5, "log_var": first.memory["log_var"]}
    assert tc(settings, model, batch._replace(memory=far)).loss != second.loss


def test_neutral_settings_are_the_vae(model, batch):
    expected = vae(Vae(), model, batch).loss
    for settings in (Beta(beta=1.0), TC(beta=1.0)):
        torch.testing.assert_close(at(50, objective_of(settings).loss)(settings, model, batch).loss, expected)


def test_beta_weighs_the_summed_kl(model, batch):
    seen = evidence(model, batch)
    loss = beta(Beta(beta=4.0, warmup_steps=100), model, batch)  # step 50 of 100: half of 4
    torch.testing.assert_close(loss.loss, seen.reconstruction + 2 * seen.rate)
    assert loss.terms["beta"] == 2


def test_annealed_presses_the_mean_rate_to_the_capacity(model, batch):
    seen = evidence(model, batch)
    loss = annealed(Annealed(gamma=10.0, capacity_nats=8.0, capacity_steps=100), model, batch)
    torch.testing.assert_close(loss.loss, seen.reconstruction + 10 * (seen.rate - 4).abs())
    assert loss.terms["capacity_nats"] == 4


def test_tc_weighs_total_correlation(model, batch):
    seen = evidence(model, batch)
    correlation = total_correlation(seen.latents, seen.posterior)
    loss = tc(TC(beta=6.0, warmup_steps=100), model, batch)
    torch.testing.assert_close(loss.loss, seen.reconstruction + 0.5 * (seen.rate + 5 * correlation))


def test_tc_warms_up_again_where_beta_falls(model, batch):
    seen = evidence(model, batch)
    falling = TC(beta=6.0, final_beta=1.0, anneal_after=30, anneal_steps=1, second_warmup_steps=80)
    torch.testing.assert_close(tc(falling, model, batch).loss, seen.reconstruction + 0.25 * seen.rate)
    correlation = total_correlation(seen.latents, seen.posterior)
    before = tc(replace(falling, anneal_after=51), model, batch).loss
    torch.testing.assert_close(before, seen.reconstruction + seen.rate + 5 * correlation)


@pytest.mark.parametrize("past", [False, True])
def test_second_derivatives_of_total_correlation_are_those_of_finite_differences(past):
    """Also where the mixture, of past images, has no gradient."""
    torch.manual_seed(0)
    latents, mean = (torch.randn(4, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    fixed = mean.detach()

    def correlation(latents, mean=fixed):
        return total_correlation(latents, Posterior(mean, torch.zeros(4, 2).double()))

    assert torch.autograd.gradgradcheck(correlation, (latents,) if past else (latents, mean))
