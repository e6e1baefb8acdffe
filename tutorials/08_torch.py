"""Put a black box inside a torch model, and train through it.

You learn `as_autograd`: a function that torch can call but not differentiate gets a gradient from queries. Needs torch.
"""

import torch

import blackbox_zo as bz

torch.manual_seed(0)


def simulator(settings):
    """A program that torch cannot look into: it takes two settings and gives a loss. The best are (3, -1)."""
    a, b = settings.tolist()
    return (a - 3) ** 2 + 2 * (b + 1) ** 2


black_box = bz.as_autograd(simulator, bz.RandomVector(1e-2, n_directions=2, distribution="orthogonal"))
model = torch.nn.Linear(4, 2).double()  # learns which settings to choose for an input
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
inputs = torch.ones(4, dtype=torch.float64)

for step in range(201):
    loss = black_box(model(inputs))
    optimizer.zero_grad()
    loss.backward()  # asks the simulator four times, and passes the estimate on to the weights
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:3d}: loss {loss.item():.6f}")
print(f"settings chosen: {[round(v, 3) for v in model(inputs).tolist()]}")
