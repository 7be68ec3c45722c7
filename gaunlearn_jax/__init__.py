"""Verify the theory of machine unlearning by gradient ascent, instance by instance."""

from gaunlearn_jax import bounds as bounds
from gaunlearn_jax import certificates as certificates
from gaunlearn_jax import convergence as convergence
from gaunlearn_jax import data as data
from gaunlearn_jax import estimators as estimators
from gaunlearn_jax import generalization as generalization
from gaunlearn_jax import kkt as kkt
from gaunlearn_jax import models as models
from gaunlearn_jax import store as store
from gaunlearn_jax import sweep as sweep
from gaunlearn_jax import train as train
from gaunlearn_jax import unlearn as unlearn
from gaunlearn_jax._types import Reason as Reason
from gaunlearn_jax._types import Status as Status
from gaunlearn_jax._types import Verdict as Verdict
from gaunlearn_jax.answer import Audit as Audit
from gaunlearn_jax.audit import audit as audit
