"""langchain-openai: chat model, completion model, embeddings, tools and structured output."""

from __future__ import annotations

import asyncio
from typing import Literal

from checks import Facts, equal, main
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel


class Animal(BaseModel):
    """An animal."""

    kind: Literal["cat", "donkey", "goose"]
    tame: bool


def chat_model(facts: Facts, **options) -> ChatOpenAI:
    given = {"temperature": 0, "max_completion_tokens": facts.max_tokens, "max_retries": 0} | options
    return ChatOpenAI(base_url=f"{facts.url}/v1", api_key="none", model=facts.model, **given)


def invoke(facts: Facts) -> None:
    answer = chat_model(facts).invoke(facts.question)
    equal(answer.content, facts.reply)
    assert answer.usage_metadata["output_tokens"] > 0


def conversation(facts: Facts) -> None:
    chat = chat_model(facts)
    history = [("system", "Be brief."), ("human", facts.question)]
    first = chat.invoke(history)
    assert chat.invoke([*history, first, ("human", "Go on.")]).content is not None


def stream(facts: Facts) -> None:
    pieces = [chunk.content for chunk in chat_model(facts).stream(facts.question)]
    equal("".join(pieces), facts.reply)
    assert len(pieces) > 1


def asynchronous(facts: Facts) -> None:
    async def both() -> tuple[str, str]:
        chat = chat_model(facts)
        whole = await chat.ainvoke(facts.question)
        return whole.content, "".join([chunk.content async for chunk in chat.astream(facts.question)])

    equal(asyncio.run(both()), (facts.reply, facts.reply))


def batch(facts: Facts) -> None:
    answers = chat_model(facts).batch([facts.question] * 6)
    equal([answer.content for answer in answers], [facts.reply] * 6)


def logprobs(facts: Facts) -> None:
    answer = chat_model(facts, logprobs=True, top_logprobs=2).invoke(facts.question)
    assert len(answer.response_metadata["logprobs"]["content"]) == answer.usage_metadata["output_tokens"]


def completions(facts: Facts) -> None:
    model = OpenAI(
        base_url=f"{facts.url}/v1",
        api_key="none",
        model=facts.model,
        temperature=0,
        max_tokens=facts.max_tokens,
        max_retries=0,
    )
    equal(model.invoke(facts.prompt), facts.completion)
    equal(model.batch([facts.prompt] * 3), [facts.completion] * 3)
    equal("".join(model.stream(facts.prompt)), facts.completion)


def embeddings(facts: Facts) -> None:
    model = OpenAIEmbeddings(
        base_url=f"{facts.embedding_url}/v1",
        api_key="none",
        model=facts.embedding_model,
        check_embedding_ctx_length=False,  # otherwise it sends the token ids of OpenAI's models
        max_retries=0,
    )
    facts.check_vectors(model.embed_documents(facts.texts))
    facts.check_vectors([model.embed_query(text) for text in facts.texts])


def tools(facts: Facts) -> None:
    # Strict: langchain then rules out other keys, which a model that knows no end would go on adding.
    model = chat_model(facts, max_completion_tokens=200)
    chat = model.bind_tools([Animal], tool_choice="required", strict=True)
    (call,) = chat.invoke(facts.question).tool_calls
    equal(call["name"], "Animal")
    Animal.model_validate(call["args"])
    whole = None
    for chunk in chat.stream(facts.question):
        whole = chunk if whole is None else whole + chunk
    equal(whole.tool_calls[0]["args"], call["args"])


def structured(facts: Facts) -> None:
    model = chat_model(facts, max_completion_tokens=200)
    for method in ("json_schema", "function_calling"):
        chat = model.with_structured_output(Animal, method=method, strict=True)
        assert isinstance(chat.invoke(facts.question), Animal), method


if __name__ == "__main__":
    main(
        "langchain-openai",
        {
            "invoke": invoke,
            "conversation": conversation,
            "stream": stream,
            "ainvoke, astream": asynchronous,
            "batch": batch,
            "logprobs": logprobs,
            "completions": completions,
            "embeddings": embeddings,
            "tools": tools,
            "structured output": structured,
        },
    )
