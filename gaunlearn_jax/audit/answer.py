"""The answer of an audit, as text, for notebooks, and as JSON values."""

from __future__ import annotations

import dataclasses
import html
import math
from typing import Any

import numpy as np

from gaunlearn_jax.audit.findings import Numbers
from gaunlearn_jax.audit.words import headline, paragraphs
from gaunlearn_jax.base.codes import Reason


class Audit(Numbers):
    """The answer of an audit; print it. Its fields are those of the numbers of `audit`."""

    def __str__(self) -> str:
        return "\n\n".join((headline(self), *paragraphs(self)))

    def __repr__(self) -> str:
        return f"<Audit of a {self.model} model on {self.num_points} points: {headline(self)}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{name}</td>" + "".join(f"<td>{v:.3g}</td>" for c in row for v in c[:3]) + "</tr>"
            for name, row in self.certificates.items()
        )
        head = "".join(f"<th>{v}</th>" for v in ("certificate", *("&epsilon;", "&delta;", "&tau;") * 2))
        return (
            f"<p><b>{html.escape(headline(self))}</b></p><table><tr><th></th><th colspan=3>after the step</th>"
            f"<th colspan=3>doing nothing</th></tr><tr>{head}</tr>{rows}</table>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values (NaN and infinity as null)."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {"verdict": self.verdict, "headline": headline(self), **{k: plain(v) for k, v in fields.items()}}


def plain(value: Any) -> Any:
    """The value as JSON has it: codes in words, arrays as lists, NaN and infinity as null."""
    if isinstance(value, Reason):
        return value.text
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if hasattr(value, "_asdict"):
        return {k: plain(v) for k, v in value._asdict().items()}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
