"""Finding a model and reading its JSON files."""

import json
from pathlib import Path
from typing import Any

import pytest

from quire.errors import UserError
from quire.models import checkpoint as checkpoint_module
from quire.models.checkpoint import open_checkpoint

CONFIG = {"architectures": ["LlamaForCausalLM"], "eos_token_id": 2}


def write(directory: Path, config: Any, generation: Any = None) -> str:
    (directory / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (directory / "generation_config.json").write_text(json.dumps(generation))
    return str(directory)


@pytest.mark.parametrize(
    ("config", "generation", "expected"),
    [
        (2, None, (2,)),
        (None, None, ()),
        (2, {"eos_token_id": [5, 6]}, (5, 6)),
        ([2, 3], {"temperature": 0.6}, (2, 3)),
    ],
)
def test_end_of_sequence(config: Any, generation: Any, expected: tuple[int, ...], tmp_path: Path) -> None:
    found = open_checkpoint(write(tmp_path, CONFIG | {"eos_token_id": config}, generation))
    assert found.eos_token_ids == expected
    assert found.architecture == "LlamaForCausalLM"
    assert found.path == tmp_path


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "config.json: architectures is missing"),
        ({"architectures": []}, "config.json: architectures is missing"),
        ([1], "must hold a JSON object"),
        (CONFIG | {"eos_token_id": "</s>"}, "eos_token_id='</s>': must be an integer or a list of integers"),
    ],
)
def test_wrong_config(config: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        open_checkpoint(write(tmp_path, config))


def test_no_config(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json in"):
        open_checkpoint(str(tmp_path))


def test_unreadable_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": [')
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        open_checkpoint(str(tmp_path))


@pytest.mark.parametrize("name", ["nowhere", "./nowhere", "/nowhere/at/all", "{here}/missing", "a/b/c"])
def test_no_such_directory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of these asks the hub, even where the name has the form of a hub id."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoint_module, "_download", lambda model: pytest.fail("asked the hub"))
    with pytest.raises(UserError, match="no such directory; must be demo, a directory or a hub id"):
        open_checkpoint(name.format(here="here"))


def test_hub_id_goes_to_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[str] = []

    def snapshot_download(model: str, *, allow_patterns: list[str]) -> str:
        asked.append(model)
        assert "*.safetensors" in allow_patterns
        return write(tmp_path, CONFIG)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert open_checkpoint("owner/name-1.5").path == tmp_path
    assert asked == ["owner/name-1.5"]


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    monkeypatch.chdir(tmp_path)
    for error, message in [
        (LocalEntryNotFoundError("no network"), r"the hub cannot be reached \(LocalEntryNotFoundError\)"),
        (RepositoryNotFoundError.__new__(RepositoryNotFoundError), "no such model on the hub"),
    ]:

        def fail(model: str, *, allow_patterns: list[str], error: Exception = error) -> str:
            raise error

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
        with pytest.raises(UserError, match=message):
            open_checkpoint("owner/name")
