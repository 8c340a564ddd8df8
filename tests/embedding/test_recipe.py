"""The files of sentence-transformers, in their old and new forms; what is not offered is said."""

import pytest
from text_checkpoints import write_json, write_recipe

from quire.embedding.recipe import Recipe, read_recipe
from quire.errors import MissingCapability, UserError
from quire.models.encoder_spec import Pooling


def test_no_files_say_nothing(tmp_path):
    assert read_recipe(tmp_path) == Recipe()


@pytest.mark.parametrize(
    ("mode", "pooling"),
    [("mean_tokens", Pooling.mean), ("cls_token", Pooling.cls), ("lasttoken", Pooling.last)],
)
def test_all_that_the_files_say(mode, pooling, tmp_path):
    write_recipe(tmp_path, pooling=mode, max_seq_length=256, do_lower_case=True)
    prompts = {"query": "find: ", "passage": "text: ", "other": "o "}
    texts = {"prompts": prompts, "default_prompt_name": "other"}
    write_json(tmp_path / "config_sentence_transformers.json", texts)
    assert read_recipe(tmp_path) == Recipe(
        pooling=pooling,
        normalize=True,
        max_tokens=256,
        lowercase=True,
        prompts=prompts,
        default_prompt="other",
    )


def test_without_a_module_that_normalises_vectors_are_as_they_come(tmp_path):
    write_recipe(tmp_path, normalize=False)
    assert read_recipe(tmp_path).normalize is False


def test_the_newer_form_of_pooling(tmp_path):
    write_recipe(tmp_path)
    write_json(
        tmp_path / "1_Pooling" / "config.json", {"pooling_mode": "lasttoken", "embedding_dimension": 8}
    )
    assert read_recipe(tmp_path).pooling is Pooling.last


def test_prompts_by_name():
    recipe = Recipe(prompts={"query": "q: ", "passage": "p: ", "other": "o: "}, default_prompt="other")
    assert [recipe.prompt(name) for name in (None, "query", "document", "passage", "other")] == [
        "o: ",
        "q: ",
        "p: ",
        "p: ",
        "o: ",
    ]
    assert [Recipe().prompt(name) for name in (None, "query", "document")] == ["", "", ""]
    with pytest.raises(
        UserError, match="prompt name 'x': the model has none of that name; it has document, "
    ):
        recipe.prompt("x")


def broken_module(path):
    write_json(path / "modules.json", [{"path": "", "type": "sentence_transformers.models.Dense"}])


def broken_json(path):
    (path / "modules.json").write_text("{")


def broken_list(path):
    write_json(path / "modules.json", {"type": "Transformer"})


def weighted(path):
    write_recipe(path, pooling="weightedmean_tokens")


def two(path):
    write_recipe(path)
    modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    write_json(path / "1_Pooling" / "config.json", modes)


def without_prompt(path):
    write_recipe(path)
    write_json(path / "1_Pooling" / "config.json", {"pooling_mode_cls_token": True, "include_prompt": False})


def unknown_default(path):
    write_recipe(path)
    write_json(path / "config_sentence_transformers.json", {"default_prompt_name": "q"})


@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        (broken_module, MissingCapability, "module Dense is not offered: must be Transformer, Pooling or"),
        (broken_json, UserError, r"modules\.json: cannot be read"),
        (broken_list, UserError, r"modules\.json: must hold a list of objects"),
        (
            weighted,
            MissingCapability,
            "pooling by weightedmean_tokens is not offered: must be one of cls_token",
        ),
        (two, MissingCapability, "pooling by cls_token and mean_tokens is not offered"),
        (without_prompt, MissingCapability, "include_prompt=false: prompts always take part"),
        (unknown_default, UserError, "default_prompt_name='q': must be one of the prompts"),
    ],
)
def test_what_is_not_offered_is_said(write, error, message, tmp_path):
    write(tmp_path)
    with pytest.raises(error, match=message):
        read_recipe(tmp_path)
