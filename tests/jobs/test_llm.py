"""The engine from Python, on the bundled model."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from quire import LLM, SamplingParams
from quire.errors import UserError
from quire.models.checkpoint import open_checkpoint

PROMPTS = ["Once upon a time", "The", "Question: What is 3 + 4?\nAnswer:\n"]


@pytest.fixture(scope="module")
def llm():
    with LLM("demo", ["dtype=float32", "device=cpu", "engine.threads=1", "scheduler=sarathi"]) as llm:
        yield llm


@pytest.fixture(scope="module")
def reference():
    path = open_checkpoint("demo").path
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32), AutoTokenizer.from_pretrained(
        path
    )


def continued(reference, ids, tokens):
    model, tokenizer = reference
    with torch.inference_mode():
        made = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids)),
            do_sample=False,
            max_new_tokens=tokens,
        )
    return tokenizer.decode(made[0, len(ids) :], skip_special_tokens=True)


def test_text_is_that_of_transformers_in_the_order_of_the_prompts(llm, reference):
    completions = llm.generate(PROMPTS, SamplingParams(temperature=0.0, max_tokens=30))
    expected = [continued(reference, reference[1](prompt).input_ids, 30) for prompt in PROMPTS]
    assert [completion.samples[0].text for completion in completions] == expected


def test_token_ids_are_prompts_too(llm, reference):
    by_text, by_ids = llm.generate(
        [PROMPTS[0], reference[1](PROMPTS[0]).input_ids], SamplingParams(temperature=0.0, max_tokens=10)
    )
    assert by_text.samples[0].token_ids == by_ids.samples[0].token_ids


def test_chat_goes_through_the_template(llm, reference):
    messages = [{"role": "user", "content": "What is 3 + 4?"}]
    (completion,) = llm.chat([messages])
    ids = reference[1].apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert completion.samples[0].text == continued(reference, ids, 256)


def test_what_cannot_be_served_says_so_and_the_others_are(llm):
    long, fine = llm.generate([[5] * 5000, "The"], SamplingParams(temperature=0.0, max_tokens=5))
    assert "5000" in long.error
    assert len(fine.samples[0].token_ids) == 5


def test_a_mistake_is_the_command_lines(llm):
    with pytest.raises(UserError, match="did you mean 'sarathi'"):
        LLM("demo", ["scheduler=sarath"])
