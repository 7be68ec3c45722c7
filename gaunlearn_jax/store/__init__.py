"""Lanes of a run on disk: sealed parts, one writer at a time, a record of what they depend on."""

from gaunlearn_jax.store.disk import StoreError as StoreError
from gaunlearn_jax.store.folder import LoadedRun as LoadedRun
from gaunlearn_jax.store.folder import Store as Store
from gaunlearn_jax.store.folder import create_or_resume as create_or_resume
from gaunlearn_jax.store.folder import load as load
from gaunlearn_jax.store.run_record import RunRecord as RunRecord
from gaunlearn_jax.store.run_record import split_lanes as split_lanes
