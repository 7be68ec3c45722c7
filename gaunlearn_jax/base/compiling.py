"""Options of the compiler for programmes that run once or twice: on a CPU most of their time is compilation."""

from __future__ import annotations

from typing import Any

import jax

from gaunlearn_jax.base import placing


def cpu_options(platform: str | None = None, **options: Any) -> dict[str, Any] | None:
    """These options of XLA where they are known to exist (an unknown one is an error), nothing elsewhere; `platform`
    is what is compiled for (None: where lanes live)."""
    known = jax.__version_info__[:2] == (0, 10) and (platform or placing.platform()) == "cpu"
    return options if known else None


def hurry() -> dict[str, Any] | None:
    """Options that save most of the compiler's time, for programmes that run a few times."""
    return cpu_options(xla_backend_optimization_level=0, xla_cpu_use_fusion_emitters=False)


def careful(platform: str | None = None) -> dict[str, Any] | None:
    """Options for programmes that run often: a third less of the compiler's time than by default, and as fast. Nothing
    is taken out of loops: most of the solver's run no round, and what they need would be made all the same."""
    return cpu_options(
        platform,
        xla_backend_optimization_level=1,
        xla_cpu_use_fusion_emitters=False,
        xla_disable_hlo_passes="while-loop-invariant-code-motion",
    )
