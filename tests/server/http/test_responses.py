"""/v1/responses through openai's own client."""

from offline import asked, chat_ids

GREEDY = {"temperature": 0, "max_output_tokens": 24}
QUESTION = "What is 3 + 4?"


def expected(server, messages) -> str:
    return asked(server, chat_ids(server, messages), temperature=0.0, max_tokens=24)[0].text


def test_a_text_is_what_the_user_says(server, sdk):
    response = sdk.responses.create(model="demo", input=QUESTION, metadata={"a": "b"}, **GREEDY)
    assert response.output_text == expected(server, [{"role": "user", "content": QUESTION}])
    assert (response.status, response.object, response.metadata) == ("completed", "response", {"a": "b"})
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert response.output[0].status == "completed"


def test_items_are_the_conversation(server, sdk):
    response = sdk.responses.create(
        model="demo",
        instructions="Be brief.",
        input=[
            {"role": "user", "content": QUESTION},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "7"}]},
            {"role": "user", "content": [{"type": "input_text", "text": "And 2 + 2?"}]},
            {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "4"},
        ],
        **GREEDY,
    )
    assert response.output_text == expected(
        server,
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": "7"},
            {"role": "user", "content": "And 2 + 2?"},
            {"role": "assistant", "content": ""},
            {"role": "tool", "content": "4"},
        ],
    )


def test_a_cut_response_is_incomplete(sdk):
    response = sdk.responses.create(
        model="demo", input=QUESTION, max_output_tokens=2, extra_body={"ignore_eos": True}
    )
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"


def test_a_stream_tells_the_same_in_events(sdk):
    whole = sdk.responses.create(model="demo", input="Tell me a story.", **GREEDY)
    events = list(sdk.responses.create(model="demo", input="Tell me a story.", stream=True, **GREEDY))
    kinds = [event.type for event in events]
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[4 : 4 + len(deltas)] == ["response.output_text.delta"] * len(deltas)
    assert kinds[4 + len(deltas) :] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        f"response.{whole.status}",
    ]
    assert "".join(event.delta for event in deltas) == whole.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].response.output == []
    last = events[-1].response
    assert last.output_text == whole.output_text
    assert last.usage.output_tokens == whole.usage.output_tokens


def test_the_clients_own_accumulation(sdk):
    with sdk.responses.stream(model="demo", input=QUESTION, temperature=0) as stream:
        final = stream.get_final_response()
    assert final.output_text == sdk.responses.create(model="demo", input=QUESTION, temperature=0).output_text
