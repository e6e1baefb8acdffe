"""Keep nevergrad and Optuna, and change the optimizer in them.

You learn what the change is worth in a fit of a chemical reaction, how a study goes on in another process, and how
nevergrad's optimizers run here.
"""

import warnings

import nevergrad as ng
import numpy as np
import optuna

import blackbox_zo as bz
import blackbox_zo.nevergrad
import blackbox_zo.optuna

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.simplefilter("ignore")  # theirs, about their own choices

# A turns into B, and B into C, at unknown rates; B was measured. A fit: the squared error of the model
t, TRUE = np.linspace(0.5, 20, 15), (0.35, 0.12, 4.0)


def b(k1, k2, a0):
    """How much B there is at each time."""
    return a0 * k1 / (k2 - k1 + 1e-12) * (np.exp(-k1 * t) - np.exp(-k2 * t))


def misfit(k1, k2, a0):
    """The sum of squared errors."""
    return float(((b(k1, k2, a0) - b(*TRUE)) ** 2).sum())


# nevergrad: its parameters and its loop, our optimizer
rate1, rate2 = (ng.p.Log(lower=1e-3, upper=10) for _ in range(2))
parameters = ng.p.Instrumentation(k1=rate1, k2=rate2, a0=ng.p.Scalar(lower=0, upper=10))
print("nevergrad, 150 calls each:")
for name in ("BlackboxZO", "NGOpt", "CMA", "OnePlusOne"):
    parameters.random_state.seed(1)
    best = ng.optimizers.registry[name](parameters, budget=150).minimize(misfit)
    print(f"  {name:12} misfit {misfit(**best.kwargs):.1e}")

# The same parameters in `minimize`, and an optimizer of nevergrad's as the method
print("minimize:", {k: round(v, 4) for k, v in bz.minimize(misfit, parameters, budget=150).x[1].items()})
theirs = bz.minimize(lambda z: misfit(*np.exp(z)), [-1.0, -2.0, 1.0], bz.Nevergrad("CMA"), budget=150)
print(f"nevergrad's CMA as a method of minimize: {theirs.nfev} calls, misfit {theirs.fun:.1e}")


# Optuna: its study, our sampler
def objective(trial):
    """The same fit."""
    rates = {k: trial.suggest_float(k, 1e-3, 10, log=True) for k in ("k1", "k2")}
    return misfit(**rates, a0=trial.suggest_float("a0", 0, 10))


print("Optuna, 150 trials each:")
for make in (blackbox_zo.optuna.Sampler, optuna.samplers.TPESampler):
    study = optuna.create_study(sampler=make(seed=1))
    study.optimize(objective, n_trials=150)
    print(f"  {make.__name__:12} misfit {study.best_value:.1e}")

# A study is a search: in parts, as by processes that come and go, its trials are the same
parts, whole = optuna.create_study(), optuna.create_study()
for study, times in ((parts, 3), (whole, 1)):
    for _ in range(times):
        study.sampler = blackbox_zo.optuna.Sampler(seed=1)
        study.optimize(objective, n_trials=60 // times)
print("in parts, the same trials:", [a.params for a in parts.trials] == [a.params for a in whole.trials])
