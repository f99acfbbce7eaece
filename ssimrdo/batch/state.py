"""What is done already, told from the outputs' own sidecars.

A sidecar holds two digests of its inputs: one of sizes and times, which is free to compute, and one
of the contents, for copies whose times differ. Neither holds names or text of the files, and both
are keyed, so that nobody without the batch's key can tell which files an output was made of.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from ssimrdo.batch.ct import CTSettings
from ssimrdo.batch.journal import BatchRecord
from ssimrdo.batch.store import Files, Store, local_files
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.record.sidecar import MODEL, sidecar_path

logger = logging.getLogger(__name__)

KEY: Final = "batch"
"""What the sidecar has beyond that of a single encode stands under this key."""

Change = Literal["options changed", "input changed", "model changed"]

_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Digests:
    """Digests of one and the same: with the batch's key, and as versions without keys had it."""

    keyed: str
    plain: str

    @classmethod
    def of(cls, text: str, key: str) -> Digests:
        """Return the digests of a text; without a key both are plain."""
        plain = _digest(text)
        if not key:
            return cls(plain, plain)
        return cls(hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()[:32], plain)

    def __contains__(self, digest: object) -> bool:
        return digest in (self.keyed, self.plain)


@dataclass(frozen=True, slots=True)
class Stamp:
    """Digests of the sizes and times of change of a series' files, and their number and size."""

    digests: Digests
    files: int
    bytes: int


def options_digest(settings: EncodeSettings | CTSettings, *, skip_bad: bool) -> str:
    """Return a digest of all options that decide what an output looks like.

    The number of threads is none of them: machines with other cores may resume a batch. An option
    that came later counts only where it is not what was done before.
    """
    options = {**settings.as_dict(), "threads": None, "skip_bad": skip_bad}
    if options.get("even"):
        del options["even"]
    if options.get("padding") == "air":
        del options["padding"]
    return _digest(json.dumps(options, sort_keys=True))


def accepted_options(settings: EncodeSettings | CTSettings, *, skip_bad: bool) -> frozenset[str]:
    """Return the digests of options that outputs may be made with: these, or stricter ones.

    Where no damaged file was let through, there was none to leave out.
    """
    return frozenset(
        options_digest(settings, skip_bad=one) for one in ({False, True} if skip_bad else {False})
    )


def input_stamp(series: Store, files: Files, key: str) -> Stamp:
    """Return the stamp of a series; whatever cannot be looked at counts as missing."""
    facts = series.facts(files)
    listed = sorted(f"{size} {changed}" for size, changed in facts)
    digests = Digests.of("\n".join(listed), key)
    return Stamp(digests, len(facts), sum(size for size, _ in facts))


def content_digest(series: Path, files: Collection[str] | None, key: str) -> Digests:
    """Return digests of the contents of a series' files, whatever their names.

    Checksums are for accidents; with the sizes they are as good as slower hashes.
    """
    return Digests.of("\n".join(sorted(map(_file_digest, local_files(series, files)))), key)


def note(options: str, stamp: Stamp, content: Digests) -> dict[str, Any]:
    """Return what the sidecar is to hold for :func:`change_since` and the results."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        KEY: {
            "options": options,
            "inputs": stamp.digests.keyed,
            "content": content.keyed,
            "input_files": stamp.files,
            "input_bytes": stamp.bytes,
            "started": started,
        }
    }


def read_sidecar(out: Store, output: str) -> dict[str, Any] | None:
    """Return the sidecar of a finished output; None if it is missing, torn or not of a batch."""
    text, size = out.finished(output)
    if not text:
        return None
    try:
        sidecar = json.loads(text)
        BatchRecord.of_sidecar(output, "", sidecar)
        made = sidecar[KEY]
        are_texts = all(isinstance(made[name], str) for name in ("options", "inputs", "content"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        are_texts = False
    if not are_texts:
        logger.warning(
            "%s: is no sidecar of a batch, or damaged: its series is encoded again",
            sidecar_path(Path(output)),
        )
        return None
    return sidecar if sidecar["bytes"] == size else None


def change_since(
    sidecar: Mapping[str, Any],
    options: Collection[str],
    inputs: Digests,
    *,
    keep_older: bool = False,
) -> Change | None:
    """Tell what has changed since an output was made; None if it is current.

    Parameters
    ----------
    sidecar : mapping
        As :func:`read_sidecar` returns it.
    options : collection of str
        Of :func:`accepted_options`.
    inputs : Digests
        Of :func:`input_stamp` or :func:`content_digest`.
    keep_older : bool
        Whether outputs of an older model count as current.
    """
    made, model = sidecar[KEY], sidecar.get("model", 0)
    if made["options"] not in options:
        return "options changed"
    if made["inputs"] not in inputs and made["content"] not in inputs:
        return "input changed"
    is_kept = model == MODEL or (keep_older and isinstance(model, int) and model < MODEL)
    return None if is_kept else "model changed"


def _file_digest(path: Path) -> str:
    checksum = size = 0
    try:
        # Opening a named pipe would wait for a writer, and reading some devices never ends.
        if not path.is_file():
            return "unreadable"
        with path.open("rb", buffering=0) as stream:
            while block := stream.read(_BLOCK):
                checksum = zlib.crc32(block, checksum)
                size += len(block)
    except OSError:
        return "unreadable"
    return f"{size} {checksum}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
