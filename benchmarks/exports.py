"""Exports every architecture to ONNX and torch.export, each compared with the model to 1e-4 before it is written.

python benchmarks/exports.py                # all architectures
python benchmarks/exports.py affine wide    # some
"""

import argparse
import tempfile
import time

from betavae.integrations.onnx import export_onnx
from betavae.integrations.torch_export import export_torch
from betavae.model import VAE
from betavae.networks.registry import ARCHITECTURES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(ARCHITECTURES), help="architectures")
    for name in parser.parse_args().names:
        vae = VAE(name, (1, 64, 64), 10).eval()
        for what, export in (("ONNX", export_onnx), ("torch.export", export_torch)):
            with tempfile.TemporaryDirectory() as folder:
                began = time.process_time()
                size = sum(path.stat().st_size for path in export(vae, folder))
                print(
                    f"{name:<10} {what:<13} agrees, {size / 1e6:5.1f} MB, {time.process_time() - began:4.1f} s of CPU"
                )


if __name__ == "__main__":
    main()
