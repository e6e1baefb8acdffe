from __future__ import annotations

import optuna
import optunahub


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -5, 5)
    y = trial.suggest_float("y", -5, 5)
    return 100 * (y - x**2) ** 2 + (1 - x) ** 2


package_name = "samplers/blackbox_zo"
test_local = True

if test_local:
    # Run this in the folder that holds `package`.
    module = optunahub.load_local_module(package=package_name, registry_root="./package")
else:
    module = optunahub.load_module(package=package_name)

study = optuna.create_study(sampler=module.BlackboxZOSampler(seed=1))
study.optimize(objective, n_trials=100)
print(study.best_trials)
