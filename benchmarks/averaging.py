"""Weights averaged over the last steps of a training against the weights themselves, where the rate falls and not.

    python benchmarks/averaging.py                     # the demo, seed 0: some ten minutes on two cores
    python benchmarks/averaging.py --recipe fast --seed 1

An average decays by a factor at every step: w ← decay w + (1 - decay) weights. Sums of reconstruction and rate of 4,096
held-out images, in nats; what batch normalisation remembers is not averaged.
"""

import argparse
import copy
from dataclasses import replace

import torch
from rich.console import Console
from rich.table import Table

from betavae import config_files
from betavae.cli import recipes
from betavae.config import Config
from betavae.data.factor_data import FactorData
from betavae.data.loading import load_data
from betavae.data.splits import split_rows
from betavae.training.state import new_state
from betavae.training.steps import StepRunner
from betavae.training.validation import held_out_terms

DECAYS = (0.98, 0.995, 0.999)
AVERAGED_STEPS = 3_000
"""Before the end; results are shown after each third."""
HELD_OUT_IMAGES = 4_096


def averaged(settings: Config, data: FactorData) -> dict[int, list[float]]:
    """By step, the sum that the weights reach, and then what their averages do."""
    shares = settings.train_images, settings.validation_images, settings.test_images
    split = split_rows(len(data), *shares, settings.seed)
    state, first = new_state(settings, data), settings.steps - AVERAGED_STEPS
    span, averages, found = StepRunner(settings, data, split.train, state, None), {}, {}

    def reached(model: torch.nn.Module) -> float:
        rows, here = split.validation[:HELD_OUT_IMAGES], replace(state, model=model)
        terms = held_out_terms(settings, data, rows, len(split.train), here, span.images)
        return terms["reconstruction"] + terms["rate"]

    while state.step < settings.steps:
        if state.step in settings.rotate_at:
            span.rotate()
        span()
        if state.step < first:
            continue
        averages = averages or {decay: copy.deepcopy(state.model) for decay in DECAYS}
        for decay, average in averages.items():
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(state.model.parameters()), 1 - decay)
        if state.step > first and (settings.steps - state.step) % (AVERAGED_STEPS // 3) == 0:
            found[state.step] = [reached(model) for model in (state.model, *averages.values())]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    settings = replace(config_files.load(recipes.find_recipe(given.recipe)), seed=given.seed)
    data, console = load_data(settings.data), Console()
    constant = replace(settings, schedule="constant", schedule_warmup_steps=None)
    for way in (settings, constant):
        title = f"{given.recipe}, {way.schedule}"
        table = Table("step", "weights", *(f"average, {decay}" for decay in DECAYS), title=title)
        for step, sums in averaged(way, data).items():
            table.add_row(f"{step:,}", *(f"{value:.2f}" for value in sums))
        console.print(table)


if __name__ == "__main__":
    main()
