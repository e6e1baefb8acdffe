"""Early stopping: which query goes on to its end, by what it and the others have reported on the way."""

from blackbox_zo.stopping._base import Curve as Curve
from blackbox_zo.stopping._base import StoppingRule as StoppingRule
from blackbox_zo.stopping._halving import SuccessiveHalving as SuccessiveHalving
from blackbox_zo.stopping._median import MedianRule as MedianRule
from blackbox_zo.stopping._reports import Stopped as Stopped
from blackbox_zo.stopping._reports import report as report
from blackbox_zo.stopping._stoppable import Stoppable as Stoppable
from blackbox_zo.stopping._stopper import Stopper as Stopper
