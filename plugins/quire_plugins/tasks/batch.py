"""Answer a file of requests in OpenAI's batch format.

Each line goes through the server's own application, in this process, and to an engine in its own: what a
request means and what its answer looks like is decided in one place.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.errors import UserError
from quire.interfaces.task import Task
from quire.jobs.jsonl import JsonLinesWriter, numbered_lines
from quire_plugins.tasks.batch_lines import BatchRequest, answer_line, answered, error_line, read_request
from quire_plugins.tasks.input_lines import parse_line
from quire_plugins.tasks.output_lines import writing

if TYPE_CHECKING:
    import httpx

    from quire.jobs.console import JobProgress
    from quire.run import Run
    from quire.server.client import EngineClient


@dataclass
class BatchConfig:
    """Options of `task=batch`."""

    input: str = ""
    """JSON lines, each with custom_id, method, url and body; urls are /v1/chat/completions, /v1/completions
    and /v1/embeddings."""
    output: str | None = None
    """Answers as JSON lines in order of completion; null: outputs.jsonl among the run's results. What
    failed is in OUTPUT.errors.jsonl, which begins anew with each run. Lines already answered are not asked
    again."""
    overwrite: bool = False
    """Begin OUTPUT anew."""
    concurrency: int = 256
    """Requests asked at once."""

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise UserError(f"task.concurrency={self.concurrency}: must be at least 1")


class BatchTask(Task):
    """Answers each line of a batch file.

    An interrupt, a kill or a full disk keeps the answers so far; the same command goes on from there.
    """

    Config = BatchConfig

    def __init__(self, *, config: BatchConfig) -> None:
        if not config.input:
            raise UserError("task=batch: give task.input=FILE")
        self._config = config

    def run(self, run: Run) -> None:
        path = Path(self._config.input)
        output = Path(self._config.output) if self._config.output else run.directory / "outputs.jsonl"
        if path.resolve() == output.resolve():
            raise UserError(f"task.output={str(output)!r}: is the input itself")
        finished = {} if self._config.overwrite else answered(output)
        todo = _check_input(path, finished, output)
        if finished:
            run.console.print(
                f"{len(finished)} answers are in {output} already", markup=False, soft_wrap=True
            )
        if not todo:
            return
        with closing(AnswerFiles(output, overwrite=self._config.overwrite)) as files:
            try:
                asyncio.run(self._answer_all(run, path, finished, files, todo))
            finally:
                left = todo - files.written - files.failed
                report = f"{files.written} answers written to {output}"
                report += f"; {files.failed} failed, see {files.errors_path}" if files.failed else ""
                report += f"; {left} not done, the same command goes on from there" if left else ""
                run.console.print(report, markup=False, soft_wrap=True)

    async def _answer_all(
        self, run: Run, path: Path, finished: Mapping[str, str], files: AnswerFiles, todo: int
    ) -> None:
        import httpx

        from quire.jobs.console import JobProgress
        from quire.server.http.app import create_app
        from quire.server.process import ProcessEngineClient
        from quire_plugins.tasks.serve import open_access_log, server_context

        client: EngineClient = ProcessEngineClient(
            config=run.config, directory=run.directory, limits=run.config.server.limits
        )
        context = server_context(run, client)
        run.console.print(f"loading model {run.config.model}", markup=False, soft_wrap=True)
        try:
            await client.start()
            with closing(open_access_log(run)) as log:
                app = create_app(context, api_keys=(), access_log=log)
                transport = httpx.ASGITransport(app=app)
                async with httpx.AsyncClient(
                    transport=transport, base_url="http://batch", timeout=None
                ) as http:
                    with JobProgress(run.console, total=todo, label="answering", unit="requests") as progress:
                        requests = _requests(path, finished, files)
                        workers = min(self._config.concurrency, todo)
                        await _together(_work(requests, http, files, progress) for _ in range(workers))
        finally:
            await client.close()


class AnswerFiles:
    """Appends answers to `output` and what failed to OUTPUT.errors.jsonl."""

    def __init__(self, output: Path, *, overwrite: bool) -> None:
        self.errors_path = output.with_name(output.name + ".errors.jsonl")
        self.written = self.failed = 0
        self._output = output
        self._errors: JsonLinesWriter | None = None
        with writing(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            self.errors_path.unlink(missing_ok=True)
            if overwrite:
                output.unlink(missing_ok=True)
            self._answers = JsonLinesWriter(output)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append an answer; with the operating system when this returns."""
        with writing(self._output):
            self._answers.write([line])
        self.written += 1

    def fail(self, line: Mapping[str, Any]) -> None:
        """Append what failed."""
        with writing(self._output):
            if self._errors is None:
                self._errors = JsonLinesWriter(self.errors_path)
            self._errors.write([line])
        self.failed += 1

    def close(self) -> None:
        """Idempotent."""
        self._answers.close()
        if self._errors is not None:
            self._errors.close()


def _check_input(path: Path, finished: Mapping[str, str], output: Path) -> int:
    """How many lines are still to do. Raises UserError if there are none at all, or if `finished` are answers
    to other requests.
    """
    lines = 0
    known: dict[str, str] = {}
    try:
        for _, raw in numbered_lines(path):
            lines += 1
            try:
                request = read_request(parse_line(raw))
            except UserError:
                continue
            known.setdefault(request.custom_id, request.id)
    except OSError as error:
        raise UserError(f"task.input={str(path)!r}: cannot be read: {error.strerror}") from None
    if not lines:
        raise UserError(f"task.input={str(path)!r}: has no lines")
    for custom_id, id in finished.items():
        if known.get(custom_id) != id:
            raise UserError(
                f"task.output={str(output)!r}: holds answers to another input: custom_id {custom_id!r} asks "
                "for something else in task.input, or is not there; choose another file, or "
                "task.overwrite=true to begin it anew"
            )
    return lines - len(finished)


def _requests(path: Path, finished: Mapping[str, str], files: AnswerFiles) -> Iterator[BatchRequest]:
    """Those that are neither answered nor wrong, read as they are asked for."""
    seen: set[str] = set()
    for number, raw in numbered_lines(path):
        line: dict[str, Any] = {}
        try:
            line = parse_line(raw)
            request = read_request(line)
            if request.custom_id in seen:
                raise UserError(f"custom_id={request.custom_id!r}: a line before has it already")
        except UserError as error:
            files.fail(error_line(number, line.get("custom_id"), str(error)))
            continue
        seen.add(request.custom_id)
        if request.custom_id not in finished:
            yield request


async def _together(workers: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run them until all have ended, or one fails: what that one raised is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _work(
    requests: Iterator[BatchRequest], http: httpx.AsyncClient, files: AnswerFiles, progress: JobProgress
) -> None:
    for request in requests:
        response = await _ask(http, request)
        line = answer_line(
            request,
            status=response.status_code,
            request_id=response.headers.get("x-request-id", ""),
            body=response.json(),
        )
        if response.status_code == 200:
            files.write(line)
        else:
            files.fail(line)
        usage: Mapping[str, int] = line["response"]["body"].get("usage") or {}
        tokens = usage.get("completion_tokens") or usage.get("total_tokens") or 0
        progress.update(done=files.written + files.failed, tokens=tokens)


async def _ask(http: httpx.AsyncClient, request: BatchRequest) -> httpx.Response:
    """The answer; while the engine is restarted, or its queue is full, the request is asked again.

    Raises EngineDead if the engine is dead for good.
    """
    from quire.server.client import EngineDead

    content = json.dumps(request.body).encode()
    while True:
        response = await http.post(request.url, content=content, headers={"content-type": "application/json"})
        if response.status_code not in (429, 503):
            return response
        if "retry-after" not in response.headers:
            raise EngineDead(response.json()["error"]["message"])
        await asyncio.sleep(float(response.headers["retry-after"]))
