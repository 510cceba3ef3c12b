"""Builds wheels: those for Linux on x86-64 carry the compiled kernels. All else is in pyproject.toml.

BETAVAE_KERNELS=off builds a wheel without them, `require` fails where they cannot be compiled. BETAVAE_URL is the
address of the repository, to which the links of the README point on an index page; without it, they become plain text.
"""

import os
import platform
import re
import sys
import tomllib
from functools import cache
from pathlib import Path
from subprocess import SubprocessError

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent / "src/betavae/kernels"))  # the package itself needs PyTorch
import compiler

MODE = os.environ.get("BETAVAE_KERNELS") or "auto"
URL = os.environ.get("BETAVAE_URL", "").rstrip("/")
TAG = "v" + tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


@cache
def _has_kernels() -> bool:
    """Whether the wheel gets compiled kernels."""
    if MODE == "off" or sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    try:
        compiler.find_compiler()
    except SubprocessError as error:
        if MODE == "require":
            raise
        print(f"betavae: the wheel has no compiled kernels: {error}", file=sys.stderr)
        return False
    return True


def _project_urls() -> dict[str, str]:
    """Addresses for the index page."""
    if not URL:
        return {}
    pages = {"Documentation": "tree/{}/docs", "Changelog": "blob/{}/CHANGELOG.md", "Issues": "issues"}
    return {"Source": URL} | {name: f"{URL}/{page.format(TAG)}" for name, page in pages.items()}


def _description() -> str:
    """The README with links that work on an index page."""
    text = Path("README.md").read_text(encoding="utf-8")
    for picture, kind in ((r"!", "raw"), ("", "blob")):
        link = rf"{picture}\[([^\]]*)\]\((?!https?:|#)([^)]+)\)"
        if URL:
            text = re.sub(link, rf"{picture}[\1]({URL}/{kind}/{TAG}/\2)", text)
        else:
            text = re.sub(link, "" if picture else r"\1", text)
    return text


class WithKernels(Distribution):
    """A package with compiled kernels is for one platform."""

    def has_ext_modules(self) -> bool:
        return _has_kernels()


class BuildWithKernels(build_py):
    """Copies the package and compiles its kernels for every kind of CPU."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode and _has_kernels():
            failed = compiler.prebuild(Path(self.build_lib, "betavae", "kernels", "prebuilt"))
            if failed and MODE == "require":
                raise RuntimeError(f"kernels cannot be compiled: {'; '.join(failed)}")
            for reason in failed:
                print(f"betavae: the wheel has no compiled kernels for {reason}", file=sys.stderr)


class WheelForPlatform(bdist_wheel):
    """A wheel with compiled kernels is for every version of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        _, _, system = super().get_tag()
        return "py3", "none", system


setup(
    distclass=WithKernels,
    cmdclass={"build_py": BuildWithKernels, "bdist_wheel": WheelForPlatform},
    project_urls=_project_urls(),
    long_description=_description(),
    long_description_content_type="text/markdown",
)
