"""Windows, as far as Linux can play it: what it lacks is hidden, what it refuses is refused; macOS lacks less.

    python -m tests.elsewhere FOLDER

imports every module of the package and performs a run, from its data to its report. Libraries are loaded before, for
they are built for each system.
"""

import json
import os
import pkgutil
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
from threadpoolctl import ThreadpoolController

OF_POSIX = re.compile(
    r"sched_|memfd_|eventfd|(chown|confstr|copy_file_range|fchmod|fchown|fork|forkpty|getegid|geteuid|getgid|getgroups|"
    r"getloadavg|getpgid|getpgrp|getrandom|getsid|getuid|killpg|lchown|mkfifo|mknod|nice|pathconf|pipe2|setpgid|setpgrp|"
    r"setsid|setuid|splice|statvfs|sysconf|uname|wait3|wait4|SIG(KILL|HUP|QUIT|USR.|PIPE|ALRM|CHLD|XFSZ))$"
)
MODULES_OF_POSIX = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline", "curses")
NO_NAME = re.compile(r'.*[<>:"|?*\\\x00-\x1f]|.*[ .]$|(CON|PRN|AUX|NUL|COM\d|LPT\d)(\..*)?$', re.IGNORECASE)
"""What no file is called on Windows."""


def become_windows() -> None:
    """Hide what it lacks, and refuse what it refuses."""
    asking = []

    def refuse(event: str, given: tuple[object, ...]) -> None:
        if event not in ("open", "os.mkdir", "os.remove", "os.rename") or asking:
            return
        asking.append(event)  # what follows opens files itself
        try:
            paths = [Path(os.fsdecode(path)).absolute() for path in given[:2] if isinstance(path, str | bytes)]
            if Path("/proc/self/status") in paths:
                raise FileNotFoundError(2, "No such file or directory", "/proc/self/status")
            if event in ("os.remove", "os.rename") and (taken := set(paths) & set(_in_use())):
                raise PermissionError(13, "The process cannot access the file because it is in use", str(taken.pop()))
            if event != "os.remove" and any(NO_NAME.match(path.name) for path in paths if _here(path)):
                raise OSError(22, "The filename, directory name, or volume label syntax is incorrect", str(paths[-1]))
        finally:
            asking.clear()

    def fsync(number: int, sync=os.fsync) -> None:
        flags = Path(f"/proc/self/fdinfo/{number}").read_text(encoding="ascii").split("flags:")[1].split()[0]
        if int(flags, 8) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(9, "Bad file descriptor")
        sync(number)

    for place in (os, signal):
        for name in dir(place):
            if OF_POSIX.match(name):
                delattr(place, name)
    sys.modules.update(dict.fromkeys(MODULES_OF_POSIX))
    os.fsync = fsync
    ThreadpoolController._load_libraries = lambda self: None  # it asks each system for them in its own way
    sys.platform = "win32"
    sys.addaudithook(refuse)


def _in_use() -> Iterator[Path]:
    """Files that this process has open or mapped into its memory."""
    for entry in os.scandir("/proc/self/fd"):
        if os.path.lexists(entry):  # the folder's own is closed by now
            yield Path(os.readlink(entry))
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        yield Path(line[73:])


def _here(path: Path) -> bool:
    return path.is_relative_to(Path.cwd())


def modules() -> list[str]:
    """Everything of the package that can be imported."""
    import betavae

    found = pkgutil.walk_packages(betavae.__path__, "betavae.")
    return [module.name for module in found if not module.name.endswith("__main__")]


def load() -> None:
    """Import all of the package, as if it were for the first time."""
    for name in [name for name in sys.modules if name.split(".")[0] == "betavae"]:
        del sys.modules[name]
    for name in modules():
        import_module(name)


def squares() -> dict[str, np.ndarray]:
    """The members of a file: a square at 12 x 12 places of 32 x 32 pixels."""
    classes = np.stack(np.unravel_index(np.arange(144), (12, 12)), axis=1)
    axis, (x, y) = np.arange(32), classes.T[:, :, None, None]
    inside = (abs(axis - 2 * x - 5) < 5) & (abs(axis[:, None] - 2 * y - 5) < 5)
    return {"imgs": inside.astype(np.uint8), "latents_classes": classes, "latents_values": classes / 2.0}


def walk() -> None:
    """Train the run of a study in this process, stop it, resume it to its report; then score it anew."""
    from betavae.cli import main
    from betavae.report import run_figures
    from betavae.runs import provenance
    from betavae.studies import workers
    from betavae.studies.study import create_study, open_study, run_study, states
    from betavae.training import steps

    steps.RECORD_STEPS = 10
    run_figures.draw_all = partial(run_figures.draw_all, num_traversed=1, steps=3)
    np.savez("squares.npz", **squares())
    recipe = {"data": "squares.npz", "train_images": 100, "validation_images": 16, "steps": 20, "batch_size": 8}
    recipe |= {"latent_dim": 2, "scores": ["mig"], "evaluations": 1, "seeds": 1}

    def stop(share: float) -> None:
        if share == 0.5:
            signal.raise_signal(signal.SIGINT)

    def here(share: workers.ReportProgress, jobs) -> Iterator[workers.Event]:
        for run, (config, folder) in jobs.items():
            workers.complete_run(config, folder, share)
            yield workers.Event(run, "done")

    create_study("study", recipe)
    with suppress(KeyboardInterrupt):
        run_study(open_study("study"), partial(here, stop))
    assert [*states(open_study("study")).values()] == ["begun"]
    run_study(open_study("study"), partial(here, lambda share: None))
    assert [*states(open_study("study")).values()] == ["done"]
    (run,) = Path("study/runs").iterdir()
    facts = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    assert len(facts["continued"]) == 1
    assert facts["convolutions"] == "PyTorch"
    assert facts["peak_memory_bytes"] is provenance.peak_memory() is None
    assert (run / "report.html").is_file()
    main.main(["score", str(run)])


if __name__ == "__main__":
    load()
    become_windows()
    warnings.filterwarnings("error", category=EncodingWarning, module="betavae")
    load()
    os.chdir(sys.argv[1])
    walk()
