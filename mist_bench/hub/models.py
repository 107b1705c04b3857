"""Language models of the Hugging Face Hub or of a folder: identified before a run begins, loaded when needed.

Nothing here imports transformers or torch, which belong to an extra and are slow to import.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..api.component import UserError
from .datasets import go_offline_without_network

if TYPE_CHECKING:
    from .causal_lm import LanguageModel

LIBRARIES = ("torch", "transformers")
WEIGHTS = (".safetensors", ".bin")
FILES = (*WEIGHTS, ".json", ".txt", ".model")
"""Suffixes of the files of a saved model: weights, configuration, tokenizer."""


def require(what: str, libraries: Sequence[str], install: str) -> None:
    """Raise `UserError` if a library (by its import name) is not installed. Imports nothing.

    `what`: the part that needs the libraries, as the user named it; `install`: the command to type.
    """
    if missing := [name for name in libraries if importlib.util.find_spec(name) is None]:
        are = "is" if len(missing) == 1 else "are"
        raise UserError(f"{what} needs {' and '.join(missing)}, which {are} not installed; type: {install}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubModel:
    """A causal language model that exists, identified by its version."""

    source: str
    """OWNER/NAME on the Hub, or the path of a folder."""
    version: str
    """The commit on the Hub, or the sha256 of the files in a folder."""
    is_folder: bool

    def identity(self) -> dict[str, Any]:
        """The part of a content hash that identifies the model: of a folder its files, not its path."""
        return {"sha256": self.version} if self.is_folder else {"model": self.source, "commit": self.version}

    @property
    def title(self) -> str:
        """The name in tables, e.g. `gpt2, commit 607a30d78`; of a folder only the last part of its path."""
        kind = "sha256" if self.is_folder else "commit"
        name = Path(self.source).resolve().name if self.is_folder else self.source
        return f"{name}, {kind} {self.version[:9]}"

    def load(self) -> LanguageModel:
        """The network with its tokenizer. Raises `UserError` if they cannot be loaded."""
        from .causal_lm import load_language_model

        return load_language_model(self.source, None if self.is_folder else self.version, self.title)


def find_model(name: str, *, revision: str = "", asked: str, install: str = "pip install 'mist-bench[hf]'") -> HubModel:
    """The model in a folder, or on the Hub at a commit, tag or branch (the newest if empty).

    Only the configuration is fetched from the Hub; offline, a model that was downloaded before is used.
    `asked`: the user's own words for the model, used in messages. Raises `UserError` if the extra is missing, for an
    unknown model, when offline, and for a model that is not a causal language model.
    """
    require(asked, LIBRARIES, install)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if revision:
            raise UserError(f"{asked}: a folder has no revisions; leave out revision={revision}")
        return _in_folder(folder, asked)
    if not name or name[0] in "/.~\\" or name.count("/") > 1:
        raise UserError(f"{asked}: no folder '{name}'; give the folder of a saved model, or OWNER/NAME as on the Hub")
    return _on_hub(name, revision, asked)


def _in_folder(folder: Path, asked: str) -> HubModel:
    files = sorted(path for path in folder.iterdir() if path.suffix in FILES and path.is_file())
    for what, exists in (("config.json", "config.json" in {path.name for path in files}),
                         ("weights (*.safetensors)", any(path.suffix in WEIGHTS for path in files))):  # fmt: skip
        if not exists:
            raise UserError(f"{asked}: '{folder}' has no {what}; give the folder that save_pretrained wrote")
    _check_kind(folder / "config.json", asked)
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return HubModel(source=str(folder), version=digest.hexdigest(), is_folder=True)


def _on_hub(name: str, revision: str, asked: str) -> HubModel:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    go_offline_without_network()
    try:
        path = Path(hf_hub_download(name, "config.json", revision=revision or None))
    except LocalEntryNotFoundError:
        raise UserError(
            f"{asked} cannot be downloaded: no network; run once with a network, or give the folder of a saved model"
        ) from None
    except GatedRepoError:
        raise UserError(f"{asked} requires accepting its terms: see its page, then type: hf auth login") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise UserError(f"{asked}: no such model on the Hugging Face Hub; give OWNER/NAME as its page does") from None
    except RevisionNotFoundError:
        raise UserError(f"{asked}: {name!r} has no revision {revision!r}") from None
    except EntryNotFoundError:
        raise UserError(f"{asked}: {name!r} has no config.json, so it is not a model of transformers") from None
    except Exception as error:  # the client raises many types; the first line of the message names the reason
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{asked}: cannot query the Hugging Face Hub: {reason}") from error
    _check_kind(path, asked)
    return HubModel(source=name, version=path.parent.name, is_folder=False)


def _check_kind(config: Path, asked: str) -> None:
    """Raise `UserError` for a masked or encoder-decoder network: its numbers would not be a likelihood of a text."""
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
        architectures, pair = settings.get("architectures") or [], settings.get("is_encoder_decoder", False)
    except (OSError, ValueError, AttributeError):
        raise UserError(f"{asked}: its config.json cannot be read") from None
    if pair or (architectures and all(str(name).endswith("MaskedLM") for name in architectures)):
        kind = "an encoder-decoder" if pair else architectures[0]
        raise UserError(f"{asked} is {kind}, not a causal language model; use one such as gpt2")
