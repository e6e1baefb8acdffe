"""Policy search on the returns of whole episodes, or on rankings of them."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from oracles._lazy import lazy as _lazy

if _TYPE_CHECKING:
    from oracles.rl._environment import EnvError as EnvError
    from oracles.rl._episodes import Trajectory as Trajectory
    from oracles.rl._horizon import Horizon as Horizon
    from oracles.rl._spaces import SpaceError as SpaceError
    from oracles.rl._statistics import Statistics as Statistics
    from oracles.rl._video import Video as Video
    from oracles.rl._video import video as video
    from oracles.rl.oracle import EpisodeOracle as EpisodeOracle
    from oracles.rl.oracle import Experience as Experience
    from oracles.rl.policies import LinearPolicy as LinearPolicy
    from oracles.rl.policies import MLPPolicy as MLPPolicy
    from oracles.rl.policies import Policy as Policy
    from oracles.rl.policies import TorchPolicy as TorchPolicy
    from oracles.rl.presets import PRESETS as PRESETS
    from oracles.rl.presets import Preset as Preset
    from oracles.rl.presets import preset as preset
    from oracles.rl.rollouts import Played as Played
    from oracles.rl.rollouts import Rollouts as Rollouts
    from oracles.rl.trained import Trained as Trained
    from oracles.rl.trained import load as load
    from oracles.rl.training import Training as Training
    from oracles.rl.training import train as train

__getattr__ = _lazy(
    __name__,
    {
        "EnvError": "_environment",
        "Trajectory": "_episodes",
        "Horizon": "_horizon",
        "SpaceError": "_spaces",
        "Statistics": "_statistics",
        "Video": "_video",
        "video": "_video",
        "EpisodeOracle": "oracle",
        "Experience": "oracle",
        "LinearPolicy": "policies",
        "MLPPolicy": "policies",
        "Policy": "policies",
        "TorchPolicy": "policies",
        "PRESETS": "presets",
        "Preset": "presets",
        "preset": "presets",
        "Played": "rollouts",
        "Rollouts": "rollouts",
        "Trained": "trained",
        "load": "trained",
        "Training": "training",
        "train": "training",
    },
)
