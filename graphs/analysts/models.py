"""From `--llm` to a LangChain chat model: `provider:model`, or the URL of an OpenAI-compatible server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import httpx
from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from trace_agents.errors import UsageError

if TYPE_CHECKING:
    from graphs.chat_model import ServerChatModel

KEY_VARIABLE = "TRACE_AGENTS_LLM_KEY"
"""Environment variable with the key of a server given by its URL."""
KEYS = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    "google_genai": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "mistralai": ("MISTRAL_API_KEY",),
    "groq": ("GROQ_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "xai": ("XAI_API_KEY",),
}
"""Provider → environment variables of which one must hold its key; other providers check their own."""
FORMS = "'openai:MODEL', 'anthropic:MODEL', another LangChain 'provider:MODEL', or 'http://HOST:PORT/v1#MODEL'"


def load_chat_model(spec: str, timeout: float = 600.0, options: Mapping[str, Any] | None = None) -> BaseChatModel:
    """The chat model that `spec` names.

    A server's URL goes up to and including its version; after `#` comes the model's name, which may be left out where
    the server has one model only. Its key, if it wants one, is in `TRACE_AGENTS_LLM_KEY`. `options` are sampling's,
    by OpenAI's names (`temperature`, `max_tokens`); without them a model samples as its provider has it.

    Raises:
        UsageError: a spec of no known form, a provider whose package or key is missing, or a server that does not
            say which models it has.
    """
    if spec.startswith(("http://", "https://")):
        return _server(spec, timeout, options or {})
    provider, colon, model = spec.partition(":")
    if not colon or not provider or not model:
        raise UsageError(f"language model {spec!r} is of no known form: give {FORMS}")
    wanted = KEYS.get(provider, ())
    try:
        made = init_chat_model(model, model_provider=provider, **(options or {})) if _has_key(wanted) else None
    except ImportError as error:
        raise _package_missing(spec, provider, error) from error
    except Exception as error:  # Providers refuse with exceptions of their own; each says what it misses.
        raise UsageError(f"language model {spec!r} cannot be used: {error}; give {FORMS}") from error
    if made is None:
        _check_package(spec, provider)
        names = " or ".join(wanted)
        raise UsageError(f"language model {spec!r} needs a key: set the environment variable {names}")
    return made


def _has_key(variables: tuple[str, ...]) -> bool:
    return not variables or any(os.environ.get(name) for name in variables)


def _check_package(spec: str, provider: str) -> None:
    """Of a missing package and a missing key, the package is told first."""
    if find_spec(f"langchain_{provider}") is None:
        raise _package_missing(spec, provider, None)


def _package_missing(spec: str, provider: str, error: ImportError | None) -> UsageError:
    package = f"langchain-{provider.replace('_', '-')}"
    remedy = "pip install 'trace-agents[llm]'" if provider in ("openai", "anthropic") else f"pip install {package}"
    if find_spec(package.replace("-", "_")) is not None:
        reason = error and (error.__cause__ or error)
        return UsageError(
            f"language model {spec!r}: package {package!r} does not load ({reason}): reinstall it, {remedy}"
        )
    return UsageError(f"language model {spec!r} needs the package {package!r}: {remedy}")


def _server(spec: str, timeout: float, options: Mapping[str, Any]) -> ServerChatModel:
    # Its module brings the training room's libraries along, which a provider's model has no use for.
    from graphs.chat_model import ServerChatModel

    url, _, model = spec.partition("#")
    key = os.environ.get(KEY_VARIABLE)
    return ServerChatModel(
        base_url=url,
        model=model or _only_model(url, key),
        api_key=SecretStr(key) if key else None,
        timeout=timeout,
        options=dict(options),
    )


def _only_model(url: str, key: str | None) -> str:
    """The name of the server's one model."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.get(f"{url.rstrip('/')}/models", headers=headers, timeout=30)
        answer.raise_for_status()
        names = [str(entry["id"]) for entry in answer.json()["data"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"model server {url!r} does not list its models ({reason}): start it, or name the model after '#', "
            f"as in {url + '#MODEL'!r}"
        ) from error
    if len(names) != 1:
        listed = ", ".join(repr(name) for name in sorted(names)) or "none"
        raise UsageError(f"model server {url!r} has the models {listed}: name one after '#', as in {url + '#MODEL'!r}")
    return names[0]
