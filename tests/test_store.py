"""Run folders at a URL: which files are uploaded and downloaded, and in which order."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from betavae.config import Config
from betavae.studies.storage import check, complete_remote_run, pull, push
from tests import stubs


def test_a_run_at_a_url_is_done_once_and_continued(tmp_path):
    url = (tmp_path / "bucket").as_uri()

    def half(config, folder, share):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        share(0.5)
        (folder / "checkpoint.safetensors").write_text("half")
        raise KeyboardInterrupt

    def rest(config, folder, share):
        assert (folder / "checkpoint.safetensors").read_text() == "half"
        stubs.quick(config, folder, share)

    def never(config, folder, share):
        raise AssertionError("a finished run was begun again")

    shares = []
    with pytest.raises(KeyboardInterrupt):
        complete_remote_run(half, url, Config(), "a", shares.append)
    assert not (tmp_path / "bucket" / "runs" / "a" / "DONE").exists()
    complete_remote_run(rest, url, Config(), "a", shares.append)
    complete_remote_run(never, url, Config(), "a", shares.append)
    assert shares == [0.5, 0.0, 0.5]
    found = {path.name for path in (tmp_path / "bucket" / "runs" / "a").iterdir()}
    assert found == {"config.json", "checkpoint.safetensors", "attempts", "scores.json", "provenance.json", "DONE"}


def test_a_url_with_a_run_of_other_settings_is_refused(tmp_path):
    url = (tmp_path / "bucket").as_uri()
    complete_remote_run(stubs.quick, url, Config(steps=9), "a", lambda share: None)
    with pytest.raises(
        ValueError, match=r"holds a run with other settings \(learning_rate\); name another folder or --url"
    ):
        complete_remote_run(stubs.quick, url, Config(steps=9, learning_rate=1e-3), "a", lambda share: None)


def test_one_run_pushed_twice_at_once(tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    (here / "DONE").touch()
    with ThreadPoolExecutor(2) as pool:
        for pushed in [pool.submit(push, here, (tmp_path / "there").as_uri()) for _ in range(100)]:
            pushed.result()
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["DONE"]


def test_pull_takes_what_is_named_and_push_leaves_temporary_files(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "figures").mkdir(parents=True)
    for name in ("DONE", "scores.json", "figures/kl.png", ".scores.json.17"):
        (here / name).write_text(name)
    push(here, there.as_uri())
    assert {path.name for path in there.rglob("*")} == {"DONE", "scores.json", "figures", "kl.png"}
    pull(there.as_uri(), tmp_path / "back", ["scores.json"])
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["scores.json"]
    pull((tmp_path / "nowhere").as_uri(), tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("url", ["nonsense://bucket/x", "file:///proc/none"])
def test_urls_that_cannot_be_written_to(url):
    with pytest.raises(ValueError, match=r"cannot be written to .* give a folder that all machines share, or a URL"):
        check(url)
