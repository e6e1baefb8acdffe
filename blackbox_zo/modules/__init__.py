"""The parameters of torch modules as a variable, and two ways to evaluate a step's points."""

from blackbox_zo.modules._batched import Batched as Batched
from blackbox_zo.modules._displaced import Displacements as Displacements
from blackbox_zo.modules._module import Module as Module
from blackbox_zo.modules._scratch import Scratch as Scratch
from blackbox_zo.modules._scratch import leaves as leaves
from blackbox_zo.modules._stacking import Family as Family
from blackbox_zo.modules._stacking import Unstackable as Unstackable
from blackbox_zo.modules._stacking import mark as mark
from blackbox_zo.modules._stacking import take_rows as take_rows
