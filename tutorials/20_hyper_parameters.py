"""Choose the hyper-parameters of a model by cross-validation.

You learn to give `SearchCV` the ranges of a pipeline, to read what it found, and how it compares with
`RandomizedSearchCV` at the same number of fits, also on data that neither has seen.
"""

import time

import numpy as np
from scipy.stats import loguniform, randint
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import RandomizedSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from blackbox_zo.sklearn import SearchCV

# 400 images of digits to choose by, and 1,397 that no search sees
seen, unseen, y_seen, y_unseen = train_test_split(*load_digits(return_X_y=True), train_size=400, random_state=0)
model = make_pipeline(StandardScaler(), PCA(random_state=0), SVC())
N = 30
"""Candidates, each of which is fitted three times."""

ours = {"pca__n_components": "2:60:int", "svc__C": "1e-3:1e4:log", "svc__gamma": "1e-6:10:log"}
theirs = {"pca__n_components": randint(2, 61), "svc__C": loguniform(1e-3, 1e4), "svc__gamma": loguniform(1e-6, 10)}

begun = time.perf_counter()
search = SearchCV(model, ours, n_iter=N, cv=3, random_state=0).fit(seen, y_seen)
print(f"{N} candidates in {time.perf_counter() - begun:.1f} s; the best: ", end="")
print(", ".join(f"{name} = {value:.3g}" for name, value in search.best_params_.items()))
scores = search.cv_results_["mean_test_score"]
print(f"accuracy of the start {scores[0]:.3f}, of the best {search.best_score_:.3f}")
print("how it went:", *(f"{score:.2f}" for score in np.maximum.accumulate(scores)[4::5]))

# One search is an anecdote, and the middle of these ranges a good start. So five of each, ours from random places too
found = {"SearchCV": [], "SearchCV from random places": [], "RandomizedSearchCV": []}
for seed in range(5):
    place = {name: values.rvs(random_state=seed) for name, values in theirs.items()}
    searches = SearchCV(model, ours), SearchCV(model, ours, x0=place), RandomizedSearchCV(model, theirs)
    for name, one in zip(found, searches, strict=True):
        one.set_params(n_iter=N, cv=3, random_state=seed).fit(seen, y_seen)
        found[name].append((one.best_score_, one.score(unseen, y_unseen)))
for name, pairs in found.items():
    chosen, fresh = np.mean(pairs, axis=0)
    worst = min(score for score, _ in pairs)
    print(f"{name:27} by cross-validation {chosen:.4f} (worst {worst:.4f}), on the unseen images {fresh:.4f}")
ours_first = np.mean(found["SearchCV"], axis=0) >= np.mean(found["RandomizedSearchCV"], axis=0)
print("SearchCV no worse, by cross-validation and on unseen images:", *map(bool, ours_first))
