"""Torch modules: their parameters as a variable, and two ways to answer queries about them."""

from blackbox_zo.modules._batched import Batched as Batched
from blackbox_zo.modules._batched import Unstackable as Unstackable
from blackbox_zo.modules._batched import mark as mark
from blackbox_zo.modules._batched import take_rows as take_rows
from blackbox_zo.modules._displaced import Displacements as Displacements
from blackbox_zo.modules._module import Module as Module
from blackbox_zo.modules._scratch import Scratch as Scratch
