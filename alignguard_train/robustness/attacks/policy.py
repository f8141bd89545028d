"""SneakyPrompt's policy: an LSTM that draws one token after another, with an actor and a critic."""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

WIDTH = 30


class Policy:
    """Draws sequences of choices and learns from one reward for each sequence.

    Args:
        choices: of each draw.
        seed: of the weights and the draws.
        lr: of Adam.
    """

    def __init__(self, choices: int, seed: int, lr: float) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        # Weights come from the generator: torch's own initialization draws global random numbers.
        self._embedding = self._uniform(torch.empty(choices, WIDTH))
        self._cell = skip_init(nn.LSTMCell, WIDTH, WIDTH)
        self._actor = skip_init(nn.Linear, WIDTH, choices)
        self._critic = skip_init(nn.Linear, WIDTH, 1)
        parameters = [p for m in (self._cell, self._actor, self._critic) for p in m.parameters()]
        for parameter in parameters:
            self._uniform(parameter.data)
        self._optimizer = torch.optim.Adam(parameters, lr=lr)
        self._logs: list[Tensor] = []
        self._values: list[Tensor] = []

    def draw(self, count: int) -> list[int]:
        """``count`` choices; the first depends on nothing, each other one on those before."""
        self._logs, self._values, picks = [], [], []
        given = torch.zeros(1, WIDTH)
        state = (torch.zeros(1, WIDTH), torch.zeros(1, WIDTH))
        for _ in range(count):
            state = self._cell(given, state)
            logs = self._actor(state[0]).log_softmax(-1)[0]
            pick = int(torch.multinomial(logs.detach().exp(), 1, generator=self._generator))
            self._logs.append(logs[pick])
            self._values.append(self._critic(state[0])[0, 0])
            picks.append(pick)
            given = self._embedding[pick][None]
        return picks

    def learn(self, reward: float) -> None:
        """Actor-critic on the last draw: the reward is the return of each of its choices."""
        values = torch.stack(self._values)
        advantage = reward - values
        loss = (-torch.stack(self._logs) * advantage.detach() + advantage.pow(2)).sum()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def _uniform(self, weights: Tensor) -> Tensor:
        bound = 1 / math.sqrt(WIDTH)
        return weights.uniform_(-bound, bound, generator=self._generator)
