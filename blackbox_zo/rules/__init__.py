"""Rules: from a gradient estimate to a move."""

from blackbox_zo.rules._adam import Adam as Adam
from blackbox_zo.rules._base import Chain as Chain
from blackbox_zo.rules._base import Rule as Rule
from blackbox_zo.rules._base import Schedule as Schedule
from blackbox_zo.rules._base import chain as chain
from blackbox_zo.rules._normalised import ClipUp as ClipUp
from blackbox_zo.rules._normalised import SignSGD as SignSGD
from blackbox_zo.rules._schedules import Cosine as Cosine
from blackbox_zo.rules._schedules import Linear as Linear
from blackbox_zo.rules._schedules import Warmup as Warmup
from blackbox_zo.rules._sgd import SGD as SGD
from blackbox_zo.rules._sgd import Momentum as Momentum
from blackbox_zo.rules._transforms import ClipNorm as ClipNorm
from blackbox_zo.rules._transforms import ClipScalar as ClipScalar
from blackbox_zo.rules._transforms import StdNorm as StdNorm
from blackbox_zo.rules._transforms import WeightDecay as WeightDecay
