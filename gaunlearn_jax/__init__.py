"""Verify the theory of machine unlearning by gradient ascent, instance by instance."""

from gaunlearn_jax import both_layers as both_layers
from gaunlearn_jax import data as data
from gaunlearn_jax import functions as functions
from gaunlearn_jax import kkt as kkt
from gaunlearn_jax import models as models
from gaunlearn_jax import store as store
from gaunlearn_jax import sweep as sweep
from gaunlearn_jax import unlearn as unlearn
from gaunlearn_jax.audit.answer import Audit as Audit
from gaunlearn_jax.audit.audit import audit as audit
from gaunlearn_jax.audit.class_answer import ClassAudit as ClassAudit
from gaunlearn_jax.base.codes import Reason as Reason
from gaunlearn_jax.base.codes import Status as Status
from gaunlearn_jax.base.codes import Verdict as Verdict
from gaunlearn_jax.base.registry import Parameter as Parameter
from gaunlearn_jax.functions.first_layer import first_layer as first_layer
from gaunlearn_jax.functions.homogeneous import homogeneous as homogeneous
from gaunlearn_jax.theory import bounds as bounds
from gaunlearn_jax.theory import closeness as closeness
from gaunlearn_jax.theory import convergence as convergence
from gaunlearn_jax.theory import generalization as generalization
from gaunlearn_jax.training import train as train
from gaunlearn_jax.unlearn import certificates as certificates
from gaunlearn_jax.unlearn import estimators as estimators
