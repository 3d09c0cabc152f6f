"""A model endpoint by URL: a vLLM server, or this project's own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import httpx

from trace_agents.endpoint import Completion, Sampling
from trace_agents.errors import InfrastructureError, UsageError

_SCORED_AT_ONCE = 20
"""vLLM's default bound on log-probabilities per token (`--max-logprobs`)."""

_GENERATE = "/inference/v1/generate"
_OVERLONG = re.compile("maximum (context|model) length")
"""How servers say that the context is full."""


class RemoteEndpoint:
    """A `trace_agents.endpoint.ModelEndpoint` over HTTP.

    Speaks vLLM's `/inference/v1/generate` (started with `--enable-scale-out`) and its run-time LoRA calls
    (`VLLM_ALLOW_RUNTIME_LORA_UPDATING=True`). Adapter paths are paths on the server's machine.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout: float = 600.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`url` is the server's root, with or without `/v1`; `timeout` is in seconds, for one request.

        `transport` replaces the network, for example by an application in this process.
        """
        self.url = url.rstrip("/").removesuffix("/v1")
        self._options: dict[str, Any] = {
            "base_url": self.url,
            "headers": {"Authorization": f"Bearer {api_key}"} if api_key else {},
            "limits": httpx.Limits(max_connections=None, max_keepalive_connections=256),
            "timeout": timeout,
            "transport": transport,
        }
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> RemoteEndpoint:
        return self

    async def __aexit__(self, *details: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    async def models(self) -> list[str]:
        """Model names that the server offers."""
        return [card["id"] for card in (await self._call("GET", "/v1/models"))["data"]]

    async def generate(self, prompt_ids: Sequence[int], model: str, sampling: Sampling) -> Completion:
        """Sample one turn; see `ModelEndpoint.generate`."""
        params: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "stop_token_ids": list(sampling.stop_token_ids),
            "ignore_eos": True,  # Only the request's own stop tokens end a turn, whatever the server's model says.
            "logprobs": 1,
        }
        if sampling.seed is not None:
            params["seed"] = sampling.seed
        choice = await self._generate(prompt_ids, model, params)
        ids = list(choice["token_ids"])
        reason = choice["finish_reason"]
        if reason == "length" and len(ids) < sampling.max_tokens:
            raise InfrastructureError(
                f"context of model {model!r} is full after {len(prompt_ids)} prompt and {len(ids)} sampled tokens"
            )
        if reason not in ("stop", "length"):
            raise InfrastructureError(f"server {self.url!r} ended a turn of model {model!r} with {reason!r}")
        entries = choice["logprobs"]["content"]
        if [_token(entry) for entry in entries] != ids:
            raise InfrastructureError(f"server {self.url!r} returned log-probabilities of other tokens than it sampled")
        return Completion(
            token_ids=ids, logprobs=[entry["logprob"] for entry in entries], finish_reason=reason, model=model
        )

    async def score_next(self, prompt_ids: Sequence[int], candidates: Sequence[int], model: str) -> list[float]:
        """Log-probability of each candidate token id as the token after `prompt_ids`."""
        distinct = list(dict.fromkeys(candidates))
        found: dict[int, float] = {}
        for start in range(0, len(distinct), _SCORED_AT_ONCE):
            found |= await self._score(prompt_ids, distinct[start : start + _SCORED_AT_ONCE], model)
        return [found[token] for token in candidates]

    async def load_adapter(self, name: str, path: str) -> None:
        """Load, or replace in place, an adapter from a folder on the server's machine; see `ModelEndpoint`."""
        body = {"lora_name": name, "lora_path": str(path), "load_inplace": True}
        await self._call("POST", "/v1/load_lora_adapter", body)

    async def unload_adapter(self, name: str) -> None:
        """Forget the adapter."""
        await self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    async def _score(self, prompt_ids: Sequence[int], candidates: list[int], model: str) -> dict[int, float]:
        # The token is drawn from the candidates, so that all of them fit into the answer's top list; the
        # log-probabilities are those before that mask (vLLM's default `logprobs_mode`, raw_logprobs).
        params = {
            "temperature": 0.0,
            "max_tokens": 1,
            "allowed_token_ids": candidates,
            "logprob_token_ids": candidates,
            "logprobs": len(candidates),
            "ignore_eos": True,
        }
        choice = await self._generate(prompt_ids, model, params)
        entry = choice["logprobs"]["content"][0]
        found = {_token(each): each["logprob"] for each in (entry, *entry["top_logprobs"])}
        missing = [token for token in candidates if token not in found]
        if missing:
            raise InfrastructureError(f"server {self.url!r} returned no log-probability of token ids {missing!r}")
        return found

    async def _generate(self, prompt_ids: Sequence[int], model: str, params: dict[str, Any]) -> dict[str, Any]:
        body = {"model": model, "token_ids": list(prompt_ids), "sampling_params": params}
        answer = await self._call("POST", _GENERATE, body)
        return answer["choices"][0]

    def _connected(self) -> httpx.AsyncClient:
        """The client of the running event loop: connections do not outlive the loop that opened them."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = httpx.AsyncClient(**self._options), loop
        return self._client

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            response = await self._connected().request(method, path, json=body)
        except httpx.TimeoutException as error:
            raise InfrastructureError(f"server {self.url!r} did not answer {path} in time") from error
        except httpx.HTTPError as error:
            raise InfrastructureError(f"server {self.url!r} is gone ({type(error).__name__}: {error})") from error
        if response.is_success:
            return response.json() if "json" in response.headers.get("content-type", "") else response.text
        message = _message(response)
        if response.status_code == 404 and path == _GENERATE and "model" not in message:  # Else it is a missing model.
            raise UsageError(
                f"server {self.url!r} has no {path} ({message}): what is trained is sampled token by token, by vLLM "
                "with --enable-scale-out or by `trace-agents endpoint`"
            )
        if response.status_code in (400, 404, 422) and not _OVERLONG.search(message):
            raise UsageError(f"server {self.url!r} refused {path}: {message}")
        if response.status_code in (401, 403):
            raise UsageError(
                f"server {self.url!r} forbids {path} ({message}): check the API key, and vLLM's --enable-scale-out"
            )
        raise InfrastructureError(f"server {self.url!r} answered {path} with {response.status_code}: {message}")


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:500]


def _token(entry: dict[str, Any]) -> int:
    """The token id of a log-probability entry: `token_id` in vLLM 0.32, `token` = 'token_id:N' before."""
    return int(entry["token_id"]) if "token_id" in entry else int(str(entry["token"]).removeprefix("token_id:"))
