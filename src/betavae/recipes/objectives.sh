#!/usr/bin/env bash
# Every objective on dSprites with one budget: trains what is missing, goes on where it was stopped, prints the table.
#
#   recipes/objectives.sh                                   # 16 objectives x 3 seeds
#   STEPS=20000 SEEDS="0 1 2 3 4" recipes/objectives.sh
#   ONLY="beta factor" recipes/objectives.sh
#   TABLE=1 recipes/objectives.sh                           # only prints the table of what is there
#
# Budget: STEPS steps of 64 images, one-cycle learning rate with peak 1e-3, network burgess, 10 codes. A batch of 64 is
# 32 + 32 where an objective takes halves (factor, semi) and 32 pairs where it takes pairs. Settings are the defaults,
# but for schedules, which the papers made for 300,000 to 2,000,000 steps: here they end at half of the training.
set -euo pipefail
STEPS=${STEPS:-5000} SEEDS=${SEEDS:-"0 1 2"} RUNS=${RUNS:-runs/objectives}
ONLY=${ONLY:-"vae beta annealed tc factor dip1 dip2 info control dynamic ada-gvae ada-mlvae group semi hfs qlae"}
BETAVAE=${BETAVAE:-betavae} PYTHON=${PYTHON:-python}
rise=$((STEPS / 100 > 0 ? STEPS / 100 : 1))

flags() {  # of an objective, where its schedule must fit the budget
  case $1 in
    annealed) echo --gamma 100 --capacity-steps $((STEPS / 2)) ;;
    control) echo --rise-nats 0.35 --rise-steps $rise ;;  # 18 nats after 50 rises
    dynamic) echo --rise-nats 0.4 --rise-steps $rise --ramp-steps $(((rise + 5) / 6)) ;;  # 20 nats after 50
  esac
}

for seed in $SEEDS; do
  for objective in $ONLY; do
    folder=$RUNS/$STEPS/$objective-$seed
    if [ -n "${TABLE:-}" ] || [ -e "$folder/DONE" ]; then continue; fi
    if [ -e "$folder/config.json" ]; then
      $BETAVAE train --resume "$folder"
    else
      # shellcheck disable=SC2046
      $BETAVAE train "$objective" $(flags "$objective") --steps "$STEPS" --seed "$seed" --learning-rate 1e-3 \
        --schedule one-cycle --scored-images 50000 --out "$folder"
    fi
  done
done

$PYTHON - "$RUNS/$STEPS" $ONLY <<'PYTHON'
"""A row an objective: mean ± standard deviation over seeds."""
import json
import sys
from pathlib import Path

import numpy as np

from betavae import load_codes, load_data, metrics, open_run

FILES, SCORES = ("scores", "provenance"), ("dci.disentanglement", "mig", "factor_vae.accuracy")
HEADS = "objective", "runs", "reconstruction, nats", "rate, nats", "DCI disentanglement", "MIG", "FactorVAE", "images/s"
root, order = Path(sys.argv[1]), sys.argv[2:]
finished, rows = sorted(root.glob("*/DONE")), {}
data = load_data("dsprites") if finished else None
for done in finished:
    run = open_run(done.parent)
    codes, (written, facts) = load_codes(run), [json.loads(run.path(f"{f}.json").read_text()) for f in FILES]
    scores = dict(written["scores"])
    if "factor_vae" in metrics.METRICS and "factor_vae.accuracy" not in scores:
        asked = {"names": ["factor_vae"], "preset": "dlib", "seed": run.config.seed, "kl": codes.kl}
        scores |= metrics.evaluate(codes.mean, data.factors[codes.rows], **asked).scores
    values = [written["held_out"]["reconstruction"], written["held_out"]["rate"]]
    values += [scores.get(name, float("nan")) for name in SCORES]
    rows.setdefault(done.parent.name.rpartition("-")[0], []).append([*values, facts["images_per_second"]])
print("| " + " | ".join(HEADS) + " |")
print("| --- " * len(HEADS) + "|")
for name in sorted(rows, key=order.index):
    table = np.array(rows[name], float)
    means, spreads = table.mean(0), table.std(0, ddof=1 if len(table) > 1 else 0)
    cells = [f"{m:.{d}f} ± {s:.{d}f}" for m, s, d in zip(means, spreads, (1, 1, 3, 3, 3, 0), strict=True)]
    print(f"| `{name}` | {len(table)} | " + " | ".join(cells).replace("nan ± nan", "–") + " |")
PYTHON
