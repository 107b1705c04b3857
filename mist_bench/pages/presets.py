"""Page docs/presets.md, made from the dataclasses and the presets: `python -m mist_bench.pages.presets` writes it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from ..host.presets import field_docs, plain_text, preset_names, preset_row, sections, setting_keys
from ..host.values import field_types, type_name

HEAD = """# Presets

A preset is a TOML file with all settings of a run: `mist-bench run --preset NAME`, or `--preset FILE.toml` for your own
(copy one of `mist_bench/host/presets/`). The default is `quick` on a CPU and `austen` on a GPU. Options override the
preset: `--steps 5,10` replaces the grid's steps, and `--set training.train_steps=200` any key. An unknown key is an
error. A corpus with a fixed length (`tales`, `markov`) is read at that length under its own tokenizer, `word`:
`--corpus markov` replaces the preset's length by it, and `--set length=N` with a different N is an error
(`--corpus "markov[length=N]"` is a different world). `mist-bench ls presets -v` prints this page for each preset.

"""


def presets_page() -> str:
    """The text of docs/presets.md."""
    rows = [preset_row(name) for name in preset_names()]
    lines = [HEAD + "\n".join(f"- `{row['name']}`: {row['summary']}" for row in rows), ""]
    for section, cls in sections():
        title, owner = (f"`[{section}]`", section) if section else ("The grid", "")
        columns = ["key", "meaning", "type", *(row["name"] for row in rows)]
        lines += [f"## {title}", "", inspect.cleandoc(cls.__doc__ or ""), ""]
        lines += [_line(columns), _line("---" for _ in columns)]
        types, docs = field_types(cls), field_docs(cls)
        for key in setting_keys(cls):
            values = [plain_text((row["values"][owner] if owner else row["values"])[key]) for row in rows]
            lines.append(_line([f"`{key}`", docs[key], type_name(types[key]).replace("|", "\\|"), *values]))
        lines.append("")
    return "\n".join(lines)


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    (Path(__file__).parents[2] / "docs" / "presets.md").write_text(presets_page(), encoding="utf-8")
