"""Show a preparation to a person: how far it is, a table of what was made, and what to do next."""

import time
from typing import Any

from cleangpt.basics import verbs
from cleangpt.basics.errors import UserError
from cleangpt.basics.words import seconds as told
from cleangpt.corpus import store
from cleangpt.corpus.settings import PreparationSettings
from cleangpt.terminal import patience
from cleangpt.terminal.console import Console
from cleangpt.terminal.narrow import Table
from cleangpt.terminal.patience import size


def prepare(settings: Any, workers: int | str, force: bool) -> int:
    """Prepare the data of a data set's settings, showing how far it is."""
    if not isinstance(settings, PreparationSettings):
        raise UserError(f"`dataset={settings.name}` is computed, not read: there is nothing to prepare")
    from cleangpt.corpus.prepare import prepare

    console = Console(highlight=False, soft_wrap=True)
    began = time.monotonic()
    notes: list[str] = []
    try:
        with patience.doing("Reading", unit="bytes") as progress:

            def tell(what: str, read: int, total: int | None) -> None:
                progress.turn_to(what.capitalize(), read, total, time.monotonic())

            prepared, made = prepare(settings, workers, force, tell, notes.append)
    except (KeyboardInterrupt, SystemExit):
        console.print("Stopped: nothing was written. The same command starts over.", markup=False)
        raise
    seconds = time.monotonic() - began
    for note in notes:
        console.print(note, markup=False)
    console.print(table(prepared))
    text_bytes = sum(tokens.header.text_bytes for tokens in prepared.own.values())
    speed = f"in {told(seconds)}, {text_bytes / 1e6 / seconds:.1f} MB/s" if made else "already, and its checksums hold"
    console.print(f"{settings.dir} is prepared {speed}. Next:", markup=False)
    words = [f"dataset={settings.name}"]
    if settings.dir != f"data/{settings.name}":
        words.append(f"dataset.dir={settings.dir}")
    console.print(f"    {verbs.shown('train')} {' '.join(words)}", markup=False)
    return 0


def table(prepared: store.Prepared) -> Table:
    """Tabulate what each split holds."""
    tokenizer = prepared.tokenizer
    made = Table(title=f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens in the vocabulary", title_justify="left")
    for name in ("split", "documents", "text", "tokens", "on disk", "bytes a token"):
        made.add_column(name, justify="right")
    for name, tokens in prepared.own.items():
        header = tokens.header
        made.add_row(
            name,
            f"{header.documents:,}",
            size(header.text_bytes),
            f"{header.tokens:,}",
            size(tokens.path.stat().st_size),
            f"{header.text_bytes / max(1, header.tokens):.2f}",
        )
    return made
